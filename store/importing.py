"""Read prompts and preferences from files: all or nothing, and every broken line is named.

Prompts: JSON lines (also the MT-bench question file), a JSON list, CSV, or text with one prompt
per line. Preferences: TRL's layouts (explicit and implicit, text or messages) and HH-RLHF.
`.gz` is read as its content.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from store import users
from store.database import Store, Tx
from store.ids import uuid7
from store.layouts import NewPreference, Unusable, preference_of, prompt_of
from store.prompts import NewPrompt, insert
from store.rows import Invalid, utc_now
from store.strict_json import loads

# Requests bring the same rows as files, so their layouts are reached from here too.
__all__ = [
    "ImportReport",
    "NewPreference",
    "Preferences",
    "add_preferences",
    "preference_of",
    "prompt_of",
    "read_preferences",
    "read_prompts",
]

LARGEST_BYTES = 512 << 20  # unpacked
PROMPT_FORMATS = ("jsonl", "csv", "txt")
PREFERENCE_FORMATS = ("trl", "hh-rlhf")
SHOWN_ERRORS = 10
T = TypeVar("T")


@dataclass(frozen=True)
class Preferences:
    """What a file holds: the rows to import, and why others are left out."""

    rows: list[NewPreference]
    left_out: dict[str, int]  # reason: rows


@dataclass(frozen=True)
class ImportReport:
    rows: int
    added: int
    known: int  # imported before, or twice in this file


def read_prompts(path: Path, format_: str | None, tag: str | None = None) -> list[NewPrompt]:
    """Raises Invalid naming the broken lines."""
    kind = format_ or {".csv": "csv", ".txt": "txt"}.get(_suffix(path), "jsonl")
    tags = (tag,) if tag else ()
    text = _text(path)
    if kind == "csv":
        return _each(path, _csv_rows(path, text), lambda row: prompt_of(row, tags))
    if kind == "txt":
        return _each(path, _lines(text), lambda line: prompt_of(line.strip(), tags))
    if kind == "jsonl":
        return _each(path, _json_rows(path, text), lambda row: prompt_of(_parsed(row), tags))
    raise Invalid(f"Unknown prompt format {kind!r}: choose {', '.join(PROMPT_FORMATS)}.")


def read_preferences(path: Path, format_: str | None) -> Preferences:
    """Raises Invalid naming the broken lines."""
    if format_ not in (None, *PREFERENCE_FORMATS):
        raise Invalid(
            f"Unknown preference format {format_!r}: choose {', '.join(PREFERENCE_FORMATS)}."
        )
    left_out: Counter[str] = Counter()

    def parse(row: Any) -> NewPreference | None:
        try:
            return preference_of(_parsed(row), format_)
        except Unusable as reason:
            left_out[str(reason)] += 1
            return None

    parsed = _each(path, _json_rows(path, _text(path)), parse)
    return Preferences([row for row in parsed if row], dict(left_out))


def add_preferences(store: Store, new: list[NewPreference]) -> ImportReport:
    """Store rows as judged pairs of the user `import`, in one transaction.

    Rows known from before are left alone.
    """
    importer = users.ensure(store, "import", "annotator", "import")
    keyed = {_row_key(preference): preference for preference in new}

    def work(tx: Tx) -> int:
        sql = "select import_key from pair where import_key in (select unnest($keys))"
        known = {row["import_key"] for row in tx.all(sql, {"keys": list(keyed)})}
        unknown = {key: keyed[key] for key in keyed if key not in known}
        _insert(tx, importer.user_id, unknown)
        return len(unknown)

    added = store.write(work)
    return ImportReport(len(new), added, len(new) - added)


def _row_key(new: NewPreference) -> str:
    content = json.dumps([new.messages, new.chosen, new.rejected])
    return hashlib.sha256(content.encode()).hexdigest()


def _insert(tx: Tx, user_id: str, new: dict[str, NewPreference]) -> None:
    asked = [NewPrompt(preference.messages) for preference in new.values()]
    prompt_ids, _ = insert(tx, asked, "preferences")
    now = utc_now()
    pairs: list[dict[str, Any]] = []
    judgments: list[dict[str, Any]] = []
    for (key, preference), prompt_id in zip(new.items(), prompt_ids, strict=True):
        pair = {
            "pair_id": uuid7(),
            "seq": tx.next_seq(),
            "prompt_id": prompt_id,
            "source": "import",
            "a_text": preference.chosen,
            "b_text": preference.rejected,
            "import_key": key,
            "created": now,
        }
        judgment = {
            "judgment_id": uuid7(),
            "seq": tx.next_seq(),
            "pair_id": pair["pair_id"],
            "user_id": user_id,
            "verdict": "left",
            "preferred": "a",
            "left_side": "a",
            "shown_order": "ab",
            "reasons": [],
            "source": "import",
            "created": now,
        }
        pairs.append(pair)
        judgments.append(judgment)
    tx.insert_all("pair", pairs)
    tx.insert_all("judgment", judgments)


def _each(path: Path, rows: Iterator[tuple[int, Any]], parse: Callable[[Any], T]) -> list[T]:
    parsed: list[T] = []
    broken: list[str] = []
    for number, row in rows:
        try:
            parsed.append(parse(row))
        except Invalid as error:
            broken.append(f"  line {number}: {error}")
    if broken:
        listed = broken[:SHOWN_ERRORS]
        if len(broken) > SHOWN_ERRORS:
            listed.append(f"  and {len(broken) - SHOWN_ERRORS} more")
        raise Invalid(
            f"{path.name}: {len(broken)} broken line(s), nothing was imported. Mend them:\n"
            + "\n".join(listed)
        )
    if not parsed:
        raise Invalid(f"{path.name} holds no rows.")
    return parsed


def _text(path: Path) -> str:
    if not path.is_file():
        raise Invalid(f"There is no file {path}.")
    with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
        try:
            data = file.read(LARGEST_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise Invalid(f"{path.name} cannot be read: {error}.") from None
    if len(data) > LARGEST_BYTES:
        raise Invalid(f"{path.name} is larger than {LARGEST_BYTES >> 20} MiB unpacked. Split it.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Invalid(f"{path.name} is not UTF-8 text (line {line}). Convert it first.") from None


def _suffix(path: Path) -> str:
    return Path(path.stem).suffix if path.suffix == ".gz" else path.suffix


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Not splitlines(): a text may hold U+2028 and other separators that are no line ends here."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line


def _json_rows(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    """Lines to parse, or the elements of a JSON list numbered from 1, a plain text as a prompt."""
    if not text.lstrip().startswith("["):
        yield from _lines(text)
        return
    try:
        elements = loads(text)
    except Invalid as error:
        raise Invalid(f"{path.name}: {error}. Nothing was imported.") from None
    for number, element in enumerate(elements, 1):
        yield number, {"prompt": element} if isinstance(element, str) else element


def _parsed(row: Any) -> Any:
    return loads(row) if isinstance(row, str) else row


def _csv_rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        for row in reader:
            named = {str(key).strip().lower(): value for key, value in row.items()}
            if isinstance(named.get("tags"), str):
                named["tags"] = [tag.strip() for tag in named["tags"].split(",") if tag.strip()]
            yield reader.line_num, named
    except csv.Error as error:
        raise Invalid(f"{path.name}: line {reader.line_num + 1}: {error}.") from None
