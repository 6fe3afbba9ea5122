"""Append-only journal beside the database: one JSON line per fact, on disk before anybody is told
"stored".

DuckDB can silently drop the tail of a damaged write-ahead log, so facts that people made exist
twice. Replaying the
whole journal is harmless: every row has a primary key.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

Fact = tuple[str, dict[str, Any]]  # table, row

# Everything that is needed to rebuild picks and the history of policies from nothing.
JOURNALED = frozenset(
    {"app_user", "prompt", "pair", "judgment", "retraction", "policy", "promotion"}
)


class Journal:
    def __init__(self, path: Path) -> None:
        self.path = path
        _cut_torn_tail(path)
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - owned until close()

    def append(self, facts: Sequence[Fact]) -> None:
        """Return only after the lines are on the disk."""
        if not facts:
            return
        lines = [
            json.dumps({"table": t, "row": r}, default=_plain, ensure_ascii=False) for t, r in facts
        ]
        data = memoryview(("\n".join(lines) + "\n").encode())
        while data:  # an unbuffered write may be short
            data = data[self._file.write(data) :]
        os.fdatasync(self._file.fileno())

    def size(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        self._file.close()


def read_journal(path: Path) -> Iterator[Fact]:
    """Facts in the order they were written; a torn last line was never acknowledged and is left
    out."""
    if not path.exists():
        return
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("\n"):
                entry = json.loads(line)
                yield entry["table"], entry["row"]


def _cut_torn_tail(path: Path) -> None:
    """A crash can leave half a line; what is appended after it must not become part of it."""
    if not path.exists():
        return
    with open(path, "rb+") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - 65536)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        file.truncate(end)


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    raise TypeError(f"{type(value).__name__} does not belong in the journal")
