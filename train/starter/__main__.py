"""Builds the starter policy: `python -m train.starter CACHE_DIR` prints the folder it is in."""

from __future__ import annotations

import argparse
from pathlib import Path

from transformers.utils import logging

from train.starter.build import build
from train.starter.cache import is_built, starter_path


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m train.starter", description=__doc__)
    parser.add_argument("cache_dir", type=Path, help="folder that will hold starter-<hash>")
    path = starter_path(parser.parse_args().cache_dir)
    if not is_built(path):
        logging.disable_progress_bar()  # the bar of build is the only one
        build(path)
    print(path)


if __name__ == "__main__":
    main()
