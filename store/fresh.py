"""Picks that came after the newest round and that a reward model has not seen: what drift is
measured on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from store.database import Store
from store.rows import Run, Source
from store.runs import LAST_ROUND
from store.snapshots import QUERY

FRESH = (
    """copy (
    with trained as (
        select coalesce(max(up_to_seq), 0) as seq from snapshot
        where list_contains($trained, run_id)
    )
    select * exclude (held_out) from ("""
    + QUERY
    + """)
    where judgment_id in (
        select judgment_id from judgment where seq > greatest(
            (select coalesce(seq, 0) from ("""
    + LAST_ROUND
    + """)),
            (select seq from trained)
        )
    ) and pair_id not in (
        select pair_id from judgment
        where seq <= (select seq from trained) and verdict not in ('skip', 'flag')
    )
) to $file (format parquet, compression zstd)
"""
)


def write_fresh(store: Store, file: Path, sources: Sequence[Source], model: Run) -> int:
    """Write these picks as they would be frozen; returns how many. People's and simulated ones
    only: an import is no sign of a change in taste; and none of a pair that somebody had picked
    about before, from which the model may know it. `model`: the run of the reward model."""
    chosen = [source for source in sources if source != "import"]
    newest = store.read_one("select coalesce(max(seq), 0) as s from judgment") or {"s": 0}
    file.parent.mkdir(parents=True, exist_ok=True)
    values = {"up_to": newest["s"], "sources": chosen, "salt": "0", "share": 0.0}
    trained = [run_id for run_id in (model.run_id, model.parent_run_id) if run_id]
    copied = store.read(FRESH, values | {"file": str(file), "trained": trained})
    return int(copied[0]["Count"])
