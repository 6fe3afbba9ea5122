"""Read prompts and preferences from files. All or nothing: every broken line is named before
anything is stored.

Prompts: JSON lines (also the MT-bench question file), a JSON list, CSV, or text with one prompt a
line.
Preferences: TRL's layouts (explicit and implicit, text or messages) and HH-RLHF. `.gz` is read as
its content.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from store import pairs, users
from store.database import Store, Tx
from store.ids import uuid7
from store.prompts import NewPrompt, checked_messages, insert
from store.rows import Invalid, Message, utc_now
from store.strict_json import loads

LARGEST_BYTES = 512 << 20  # unpacked
PROMPT_FORMATS = ("jsonl", "csv", "txt")
PREFERENCE_FORMATS = ("trl", "hh-rlhf")
PROMPT_KEYS = ("prompt", "question", "text", "instruction")
SHOWN_ERRORS = 10
T = TypeVar("T")


class Unusable(Invalid):
    """A row that is well written but holds no preference (an empty answer, say): left out and
    counted."""


@dataclass(frozen=True)
class NewPreference:
    messages: list[Message]
    chosen: str
    rejected: str


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
        return _each(path, _csv_rows(text), lambda row: _prompt_of(row, tags))
    if kind == "txt":
        lines = ((number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip())
        return _each(path, lines, lambda line: NewPrompt(_user(line.strip()), tags))
    if kind == "jsonl":
        return _each(path, _json_rows(text), lambda line: _prompt_of(_object(line), tags))
    raise Invalid(f"Unknown prompt format {kind!r}: choose {', '.join(PROMPT_FORMATS)}.")


def read_preferences(path: Path, format_: str | None) -> Preferences:
    """Raises Invalid naming the broken lines."""
    if format_ not in (None, *PREFERENCE_FORMATS):
        raise Invalid(
            f"Unknown preference format {format_!r}: choose {', '.join(PREFERENCE_FORMATS)}."
        )
    left_out: Counter[str] = Counter()

    def parse(line: Any) -> NewPreference | None:
        try:
            return preference_of(_object(line), format_)
        except Unusable as reason:
            left_out[str(reason)] += 1
            return None

    parsed = _each(path, _json_rows(_text(path)), parse)
    return Preferences([row for row in parsed if row], dict(left_out))


def prompt_of(record: Any, tags: tuple[str, ...] = ()) -> NewPrompt:
    """One prompt from one JSON value of a request. Raises Invalid."""
    return (
        NewPrompt(_user(record), tags)
        if isinstance(record, str)
        else _prompt_of(_is_object(record), tags)
    )


def preference_of(record: dict[str, Any], format_: str | None = None) -> NewPreference:
    """One preference row in any of the known layouts. Raises Invalid."""
    chosen, rejected, prompt = record.get("chosen"), record.get("rejected"), record.get("prompt")
    if isinstance(chosen, str) and isinstance(rejected, str):
        if prompt is None or format_ == "hh-rlhf":
            return _hh(chosen, rejected)
        if isinstance(prompt, str):
            return _preference(_user(prompt), chosen, rejected)
        raise Invalid("prompt is a list of messages but chosen and rejected are texts")
    if isinstance(chosen, list) and isinstance(rejected, list):
        if prompt is None:
            if chosen[:-1] != rejected[:-1]:
                raise Unusable("chosen and rejected do not share the prompt")
            prompt, chosen, rejected = chosen[:-1], chosen[-1:], rejected[-1:]
        messages = _user(prompt) if isinstance(prompt, str) else checked_messages(prompt)
        return _preference(messages, _answer(chosen), _answer(rejected))
    raise Invalid("needs chosen and rejected, both texts or both lists of messages")


def add_preferences(store: Store, new: list[NewPreference]) -> ImportReport:
    """Store rows as judged pairs of the user `import`, in one transaction. Rows known from before
    are left alone."""
    importer = users.ensure(store, "import", "annotator", "import")

    def work(tx: Tx) -> int:
        return sum(_add_one(tx, importer.user_id, preference) for preference in new)

    added = store.write(work)
    return ImportReport(len(new), added, len(new) - added)


def _add_one(tx: Tx, user_id: str, new: NewPreference) -> bool:
    key = hashlib.sha256(json.dumps([new.messages, new.chosen, new.rejected]).encode()).hexdigest()
    prompt_id, _ = insert(tx, NewPrompt(new.messages), "preferences")
    pair_id = pairs.insert_imported(tx, prompt_id, new.chosen, new.rejected, key)
    if pair_id is None:
        return False
    row = {
        "judgment_id": uuid7(),
        "seq": tx.next_seq(),
        "pair_id": pair_id,
        "user_id": user_id,
        "verdict": "left",
        "preferred": "a",
        "left_side": "a",
        "reasons": [],
        "source": "import",
        "created": utc_now(),
    }
    tx.insert("judgment", row)
    return True


def _each(path: Path, rows: Iterator[tuple[int, Any]], parse: Callable[[Any], T]) -> list[T]:
    parsed: list[T] = []
    broken: list[str] = []
    for number, row in rows:
        try:
            parsed.append(parse(row))
        except Invalid as error:
            broken.append(f"  line {number}: {error}")
    if broken:
        more = f"\n  and {len(broken) - SHOWN_ERRORS} more" if len(broken) > SHOWN_ERRORS else ""
        listed = "\n".join(broken[:SHOWN_ERRORS])
        raise Invalid(
            f"{path.name}: {len(broken)} broken line(s), nothing was imported. Mend them:\n{listed}{more}"
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
        except (OSError, EOFError) as error:
            raise Invalid(f"{path.name} cannot be read: {error}.") from None
    if len(data) > LARGEST_BYTES:
        raise Invalid(f"{path.name} is larger than {LARGEST_BYTES >> 20} MiB unpacked. Split it.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Invalid(
            f"{path.name} is not UTF-8 text (byte {error.start}). Convert it first."
        ) from None


def _suffix(path: Path) -> str:
    return Path(path.stem).suffix if path.suffix == ".gz" else path.suffix


def _json_rows(text: str) -> Iterator[tuple[int, Any]]:
    """Lines to parse, or the elements of a JSON list numbered from 1."""
    if text.lstrip().startswith("["):
        yield from enumerate(loads(text), 1)
        return
    # Not splitlines(): a JSON text may hold U+2028 and other separators that are no line ends here.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line


def _csv_rows(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    for row in reader:
        yield reader.line_num, {str(key).strip().lower(): value for key, value in row.items()}


def _object(row: Any) -> dict[str, Any]:
    return _is_object(loads(row) if isinstance(row, str) else row)


def _is_object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Invalid("is not a JSON object")
    return value


def _prompt_of(record: dict[str, Any], tags: tuple[str, ...]) -> NewPrompt:
    own = record.get("tags") or []
    if not isinstance(own, list) or not all(isinstance(tag, str) for tag in own):
        raise Invalid("tags must be a list of texts")
    if isinstance(record.get("category"), str):  # MT-bench
        own = [*own, record["category"]]
    tags = tuple(dict.fromkeys((*tags, *own)))
    if "messages" in record:
        return NewPrompt(checked_messages(record["messages"]), tags)
    turns = record.get(
        "turns"
    )  # MT-bench: the second turn needs an answer first, so the first is the prompt
    if isinstance(turns, list) and turns and isinstance(turns[0], str):
        return NewPrompt(_user(turns[0]), tags)
    for key in PROMPT_KEYS:
        if isinstance(record.get(key), list):
            return NewPrompt(checked_messages(record[key]), tags)
        if record.get(key) is not None:
            return NewPrompt(_user(record[key]), tags)
    raise Invalid(f"has none of the fields messages, turns, {', '.join(PROMPT_KEYS)}")


def _user(text: Any) -> list[Message]:
    return checked_messages([{"role": "user", "content": text}])


def _answer(messages: list[Any]) -> str:
    if (
        len(messages) != 1
        or not isinstance(messages[0], dict)
        or messages[0].get("role") != "assistant"
    ):
        raise Invalid("chosen and rejected must hold one assistant message each")
    return str(messages[0].get("content") or "")


def _preference(messages: list[Message], chosen: str, rejected: str) -> NewPreference:
    if not chosen.strip() or not rejected.strip():
        raise Unusable("an answer is empty")
    return NewPreference(messages, chosen, rejected)


HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"


def _hh(chosen: str, rejected: str) -> NewPreference:
    """HH-RLHF: whole dialogues as text; the prompt ends with the last "Assistant:" of the common
    part."""
    cut = chosen.rfind(ASSISTANT) + len(ASSISTANT)
    if cut < len(ASSISTANT):
        raise Invalid("the text has no Assistant turn")
    if rejected.rfind(ASSISTANT) + len(ASSISTANT) != cut or chosen[:cut] != rejected[:cut]:
        raise Unusable("chosen and rejected differ before their last answer")
    return _preference(
        _hh_messages(chosen[: cut - len(ASSISTANT)]), chosen[cut:].strip(), rejected[cut:].strip()
    )


def _hh_messages(dialogue: str) -> list[Message]:
    marked = dialogue.replace(HUMAN, "\0user\0").replace(ASSISTANT, "\0assistant\0")
    parts = marked.split("\0")[1:]
    turns = [
        {"role": role, "content": text.strip()}
        for role, text in zip(parts[::2], parts[1::2], strict=True)
    ]
    return checked_messages([turn for turn in turns if turn["content"]])
