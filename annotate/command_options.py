"""What all commands share: the options that find the app, and a line of progress."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Protocol

import typer

from annotate.api_client import ApiClient

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Configuration file; default prefloop.toml.")
]
DataDirOption = Annotated[
    Path | None, typer.Option("--data-dir", help="Where the picks live; default data.")
]


class Connect(Protocol):
    def __call__(
        self, config_file: Path | None, data_dir: Path | None, *, policy: bool = False
    ) -> AbstractContextManager[ApiClient]: ...


def show(line: str) -> None:
    """On standard error; a terminal shows the newest line only."""
    end = "\r" if sys.stderr.isatty() else "\n"
    print(f"\x1b[2K{line}" if sys.stderr.isatty() else line, end=end, file=sys.stderr, flush=True)
