"""Builds the starter policy: `python -m train.starter CACHE_DIR` prints the folder it is in."""

from __future__ import annotations

import argparse
import fcntl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers.utils import logging

from train.starter.build import TITLE, build
from train.starter.cache import is_built, starter_path


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m train.starter", description=__doc__)
    parser.add_argument("cache_dir", type=Path, help="folder that will hold starter-<hash>")
    path = starter_path(parser.parse_args().cache_dir)
    with one_at_a_time(path):
        if not is_built(path):
            logging.disable_progress_bar()  # the bar of build is the only one
            build(path)
    print(path)


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Two that build at once would each need twice the time; the second takes what the first made.

    Only a courtesy: where files cannot be locked both build, and `put_in_place` keeps one of them.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f"{path.name}.lock"), "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{TITLE}: waiting for another process that does", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            print(f"{TITLE}: no lock here ({error.strerror})", file=sys.stderr, flush=True)
        yield


if __name__ == "__main__":
    main()
