"""A script that several processes run as they run a training script; it only waits. No torch."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from train.run_folder import RunFolder
from train.script import run_script


def main(run: RunFolder) -> dict[str, Any]:
    (run.path / f"at-work-{os.environ['RANK']}").write_text(str(os.getpid()))
    while not run.asked_to_stop():
        time.sleep(0.1)
    return {}


if __name__ == "__main__":
    run_script(main, Path(sys.argv[1]))
