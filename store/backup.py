"""A consistent copy of the data directory while the app runs."""

from __future__ import annotations

import shutil
from pathlib import Path

from store.database import Store, Tx
from store.rows import Invalid

COPIED = ("policies", "runs")  # adapters and the frozen data of each run; immutable once written


def backup(store: Store, out: Path) -> list[str]:
    """Write database, journal, policies and runs into the new folder `out`. Returns the names.

    To restore, start prefloop with `--data-dir out`.
    Raises Invalid when `out` exists or lies in the data directory.
    """
    if out.exists():
        raise Invalid(f"{out} exists already. Name a folder that does not.")
    if store.data_dir.resolve() in out.resolve().parents:
        raise Invalid(
            "A backup inside the data directory would be lost with it. Choose another place."
        )
    out.mkdir(parents=True)

    def copy(tx: Tx) -> None:  # in the writer, so that journal and database hold the same picks
        shutil.copy2(store.data_dir / "journal.jsonl", out / "journal.jsonl")

    store.write(copy)
    store.copy_to(out / "prefloop.duckdb")
    for name in COPIED:
        if (store.data_dir / name).is_dir():
            shutil.copytree(
                store.data_dir / name,
                out / name,
                ignore=shutil.ignore_patterns(".*.tmp", "trainer"),
            )
    return sorted(path.name for path in out.iterdir())
