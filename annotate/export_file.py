"""Write exported rows as JSON lines or Parquet, whole or split by prompt, each with a manifest."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb

from store.rows import Invalid

TO_PARQUET = """
copy (select * from read_json($source, format = 'newline_delimited', sample_size = -1))
to $target (format parquet, compression zstd)
"""


def write_export(
    rows: Iterator[str], out: Path, split: str | None, about: dict[str, Any]
) -> dict[Path, int]:
    """Rows per file written. With `split`: NAME.train and NAME.test; what begins with the
    same question is in only one.

    Raises Invalid for a bad split, a missing folder, or an ending other than .jsonl, .json or
    .parquet.
    """
    if out.suffix not in (".jsonl", ".json", ".parquet"):
        raise Invalid(f"Cannot write {out.name}: choose a name that ends in .jsonl or .parquet.")
    if not out.absolute().parent.is_dir():
        raise Invalid(f"There is no folder {out.absolute().parent}. Make it first.")
    share = train_share(split) if split else None
    parts = [""] if share is None else [".train", ".test"]
    targets = [out.with_stem(out.stem + part) for part in parts]
    with TemporaryDirectory(dir=out.absolute().parent, prefix=f".{out.name}-") as scratch:
        written = [Path(scratch) / target.name for target in targets]
        counts = _write_lines(rows, written, share)
        if out.suffix == ".parquet":
            for path, count in zip(written, counts, strict=True):
                _to_parquet(path, count)
        for path, target, count in zip(written, targets, counts, strict=True):
            _finish(path, target, count, about)
    return dict(zip(targets, counts, strict=True))


def _write_lines(rows: Iterator[str], paths: list[Path], share: float | None) -> list[int]:
    counts = [0] * len(paths)
    with ExitStack() as opened:
        files = [opened.enter_context(open(path, "w", encoding="utf-8")) for path in paths]
        for line in rows:
            which = 0 if share is None or prompt_fraction(line) < share else 1
            files[which].write(line + "\n")
            counts[which] += 1
    return counts


def train_share(split: str) -> float:
    """`0.9/0.1` -> 0.9. Raises Invalid."""
    try:
        first, second = (float(part) for part in split.split("/"))
    except ValueError:
        raise Invalid(
            f"Cannot read the split {split!r}: write two shares such as 0.9/0.1."
        ) from None
    if not (first > 0 and second > 0 and abs(first + second - 1) < 1e-6):
        raise Invalid(f"The shares of {split!r} must be positive and add up to 1.")
    return first


def prompt_fraction(line: str) -> float:
    """A number in [0, 1) that depends on what was asked first: turns of one talk stay together."""
    opening = _opening(json.loads(line)["prompt"])
    return int.from_bytes(hashlib.sha256(opening.encode()).digest()[:8]) / 2**64


def _opening(prompt: str | list[dict[str, str]]) -> str:
    """The prompt up to its first answer; as text it is laid out by store.exporting.as_text."""
    if isinstance(prompt, str):
        return prompt.split("\n\nAssistant:", 1)[0].removeprefix("\n\nHuman: ")
    asked = takewhile(lambda message: message["role"] != "assistant", prompt)
    return json.dumps(list(asked), ensure_ascii=False)


def _to_parquet(path: Path, count: int) -> None:
    """Replace the JSON lines in `path` by the same rows as Parquet."""
    if count == 0:
        raise Invalid(
            "No pick matches, and an empty Parquet file has no columns. "
            "Export to .jsonl, or widen --where."
        )
    made = path.with_name(path.name + ".made")
    with duckdb.connect() as db:
        db.execute(TO_PARQUET, {"source": str(path), "target": str(made)})
    os.replace(made, path)


def _finish(path: Path, target: Path, count: int, about: dict[str, Any]) -> None:
    os.replace(path, target)
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    manifest = {"file": target.name, "rows": count, "sha256": digest} | about
    text = json.dumps(manifest, indent=1) + "\n"
    target.with_name(target.name + ".manifest.json").write_text(text)
