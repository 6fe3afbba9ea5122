"""A copy of the data directory while the app runs."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from store.database import Store, Tx
from store.rows import Invalid

COPIED = ("policies", "runs")  # adapters and the frozen data of each run; immutable once written


def backup(store: Store, out: Path) -> list[str]:
    """Write database, journal, policies and runs into the new folder `out`. Returns the names.

    `out` appears at the end, whole. It holds every pick made before the call and maybe some made
    since, with every adapter that its database names; a run at work is copied as far as it got.
    To restore, start prefloop with `--data-dir out`: the journal and the database catch up with
    each other.
    Raises Invalid when `out` exists or lies in the data directory.
    """
    if out.exists():
        raise Invalid(f"{out} exists already. Name a folder that does not.")
    if store.data_dir.resolve() in out.resolve().parents:
        raise Invalid(
            "A backup inside the data directory would be lost with it. Choose another place."
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    prefix, suffix = f"{out.name}.", ".partial"
    with tempfile.TemporaryDirectory(prefix=prefix, suffix=suffix, dir=out.parent) as scratch:
        whole = Path(scratch) / "whole"
        whole.mkdir(mode=0o700)  # holds password hashes
        _copy(store, whole)
        whole.rename(out)
    return sorted(path.name for path in out.iterdir())


def _copy(store: Store, out: Path) -> None:
    def copy_journal(tx: Tx) -> None:  # in the writer, so that it ends with a whole line
        shutil.copy2(store.data_dir / "journal.jsonl", out / "journal.jsonl")

    store.write(copy_journal)
    store.copy_to(out / "prefloop.duckdb")
    ignore = shutil.ignore_patterns("*.tmp", "trainer")  # not whole yet, or scratch
    for name in COPIED:  # after the database: an adapter is published before its row
        if (store.data_dir / name).is_dir():
            shutil.copytree(store.data_dir / name, out / name, ignore=ignore)
