"""Write exported rows to files: JSON lines or Parquet, whole or split by prompt, with a manifest
beside each."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb

from store.rows import Invalid


def write_export(
    rows: Iterator[str], out: Path, split: str | None, about: dict[str, Any]
) -> dict[Path, int]:
    """Rows per file written. With `split` the files are NAME.train and NAME.test; a prompt is in
    one of them only.

    Raises Invalid for a bad split, a missing folder or another ending than .jsonl, .json or
    .parquet.
    """
    if out.suffix not in (".jsonl", ".json", ".parquet"):
        raise Invalid(f"Cannot write {out.name}: choose a name that ends in .jsonl or .parquet.")
    if not out.absolute().parent.is_dir():
        raise Invalid(f"There is no folder {out.absolute().parent}. Make it first.")
    share = train_share(split) if split else None
    targets = (
        [out]
        if share is None
        else [out.with_stem(f"{out.stem}.{part}") for part in ("train", "test")]
    )
    temporary = [target.with_name(target.name + ".tmp") for target in targets]
    counts = [0] * len(targets)
    files = [open(path, "w", encoding="utf-8") for path in temporary]  # noqa: SIM115 - closed below
    try:
        for line in rows:
            which = 0 if share is None or prompt_fraction(line) < share else 1
            files[which].write(line + "\n")
            counts[which] += 1
    finally:
        for file in files:
            file.close()
    for path, target, count in zip(temporary, targets, counts, strict=True):
        _finish(path, target, count, about)
    return dict(zip(targets, counts, strict=True))


def train_share(split: str) -> float:
    """`0.9/0.1` -> 0.9. Raises Invalid."""
    try:
        first, second = (float(part) for part in split.split("/"))
    except ValueError:
        raise Invalid(
            f"Cannot read the split {split!r}: write two shares such as 0.9/0.1."
        ) from None
    if first <= 0 or second <= 0 or abs(first + second - 1) > 1e-6:
        raise Invalid(f"The shares of {split!r} must be positive and add up to 1.")
    return first


def prompt_fraction(line: str) -> float:
    """A number in [0, 1) that depends on the prompt alone."""
    prompt = json.dumps(json.loads(line)["prompt"], ensure_ascii=False)
    return int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:8]) / 2**64


def _finish(path: Path, target: Path, count: int, about: dict[str, Any]) -> None:
    if target.suffix == ".parquet":
        path = _as_parquet(path, count)
    os.replace(path, target)
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    manifest = {"file": target.name, "rows": count, "sha256": digest} | about
    target.with_name(target.name + ".manifest.json").write_text(
        json.dumps(manifest, indent=1) + "\n"
    )


def _as_parquet(path: Path, count: int) -> Path:
    if count == 0:
        raise Invalid(
            "No pick matches, and an empty Parquet file has no columns. Export to .jsonl, or widen --where."
        )
    made = path.with_name(path.name + ".parquet")
    with duckdb.connect() as db:
        db.execute(
            "copy (select * from read_json($source, format = 'newline_delimited', sample_size = -1)) "
            "to $target (format parquet, compression zstd)",
            {"source": str(path), "target": str(made)},
        )
    path.unlink()
    return made
