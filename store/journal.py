"""Append-only journal beside the database, on disk before anybody is told "stored".

One JSON line per fact. DuckDB can silently drop the tail of a damaged write-ahead log, so facts
that people made exist twice. Reading the whole journal back is harmless: every row has a key.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)
Fact = tuple[str, dict[str, Any]]  # table, row

# Everything that is needed to rebuild picks and the history of policies from nothing.
# Table: its key. People come before what they did, for a reader of the file.
JOURNALED = {
    "app_user": "user_id",
    "prompt": "prompt_id",
    "pair": "pair_id",
    "judgment": "judgment_id",
    "retraction": "retraction_id",
    "policy": "policy_id",
    "promotion": "promotion_id",
    "pool": "pool_id",
    "conversation": "conversation_id",
    "flag_resolution": "resolution_id",
    "guideline": "version",
    "practice_item": "practice_id",
    "practice_answer": "answer_id",
}


class Journal:
    def __init__(self, path: Path) -> None:
        self.path = path
        _cut_torn_tail(path)
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - owned until close()

    def append(self, lines: bytes) -> None:
        """Return only after the lines are on the disk. Raises OSError and then holds none of them.

        A closed file is a ValueError.
        """
        if not lines:
            return
        before = self.size()
        left = memoryview(lines)
        try:
            while left:  # an unbuffered write may be short
                left = left[self._file.write(left) :]
            os.fdatasync(self._file.fileno())
        except OSError:
            with contextlib.suppress(OSError):  # a device or a dead disk: the first error counts
                os.ftruncate(self._file.fileno(), before)
            raise

    def size(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        self._file.close()


def as_lines(facts: Sequence[Fact]) -> bytes:
    """Facts as journal lines. Raises TypeError for a value that JSON cannot carry."""
    entries = ({"table": table, "row": row} for table, row in facts)
    lines = [json.dumps(entry, default=_plain, ensure_ascii=False) + "\n" for entry in entries]
    return "".join(lines).encode()


def read_journal(path: Path) -> Iterator[Fact]:
    """Facts in the order they were written.

    A torn last line was never acknowledged and is left out. A damaged line is left out with a
    warning: the database still has its row, and `Store.open` writes it to the journal again.
    """
    if not path.exists():
        return
    with open(path, "rb") as lines:  # bytes: a torn tail may end inside a character
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                return
            if fact := _fact(line):
                yield fact
            else:
                log.warning("line %d of %s is damaged and was left out", number, path)


def _fact(line: bytes) -> Fact | None:
    try:
        entry = json.loads(line)
        table, row = entry["table"], entry["row"]
        return (table, row) if row[JOURNALED[table]] else None
    except (ValueError, TypeError, KeyError):
        return None


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
