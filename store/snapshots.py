"""Frozen training data: two Parquet files, split by prompt, and conversations by their opening.

Their hash, their query and the counts of what was left out stand in the table `snapshot`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from store.database import Store
from store.ids import uuid7
from store.rows import Invalid, Source, utc_now


@dataclass(frozen=True)
class Snapshot:
    snapshot_id: str
    sha256: str
    rows_train: int
    rows_eval: int
    # Live picks by verdict; comparisons of identical and of cut answers, which training leaves out.
    counts: dict[str, int]


def freeze(
    store: Store, run_id: str, folder: Path, sources: Sequence[Source], salt: int = 0
) -> Snapshot:
    """Write `train.parquet` and `eval.parquet` into `folder`.

    Rows are {prompt, chosen, rejected} as messages, and ids. A prompt is wholly on one side of the
    split, with every conversation that begins with it. Raises Invalid when there are too few picks,
    or too few prompts to hold some out.
    """
    up_to = (store.read_one("select coalesce(max(seq), 0) as s from judgment") or {"s": 0})["s"]
    counts = _counts(store, sources, up_to)
    decided = _decided(store, sources, up_to)
    if decided < LEAST_PICKS:
        raise Invalid(
            f"Training needs at least {LEAST_PICKS} picks with a better side; there are {decided}."
            " Annotate some more."
        )
    folder.mkdir(parents=True, exist_ok=True)
    share = eval_share(decided)
    digest = hashlib.sha256()
    rows = {}
    for split in ("train", "eval"):
        out = folder / f"{split}.parquet"
        rows[split] = _write(store, out, split == "eval", share, salt, sources, up_to)
        digest.update(out.read_bytes())
    snapshot = Snapshot(uuid7(), digest.hexdigest(), rows["train"], rows["eval"], counts)
    if not snapshot.rows_train or not snapshot.rows_eval:
        raise Invalid(
            "The picks come from too few prompts to hold some out "
            f"({snapshot.rows_train} rows to train on, {snapshot.rows_eval} held out). "
            "Annotate pairs of more prompts."
        )
    _record(store, run_id, folder, snapshot, up_to)
    return snapshot


LEAST_PICKS = 8


def eval_share(picks: int) -> float:
    """Share of prompts held out: about 40 picks when there are few, a tenth when there are many."""
    return min(0.25, max(0.1, 40 / max(1, picks)))


# Prompts are put in an order that depends on nothing but their ids; the first ones are held out. A
# turn of a conversation repeats what was said before it: it goes where the prompt of turn 1 goes.
QUERY = """
with first_turn as (
    select p.conversation_id, any_value(p.prompt_id) as prompt_id
    from pair p join judgment_live j on j.pair_id = p.pair_id
    where p.conversation_id is not null and p.turn = 1 group by p.conversation_id
), picks as (
    select r.*, coalesce(f.prompt_id, p.conversation_id, r.prompt_id) as opening
    from preference r
    join pair p on p.pair_id = r.pair_id
    left join first_turn f on f.conversation_id = p.conversation_id
    where r.seq <= $up_to and list_contains($sources, r.source) and chosen <> rejected and not cut
), in_order as (
    select opening, row_number() over (order by md5_number_lower(opening || $salt)) as place,
        count(*) over () as openings
    from (select distinct opening from picks)
), held_out as (
    select opening from in_order where place <= greatest(1, round($share * openings))
)
select judgment_id, pair_id, prompt_id, source, strength,
    messages::struct(role varchar, content varchar)[] as prompt,
    [{'role': 'assistant', 'content': chosen}] as chosen,
    [{'role': 'assistant', 'content': rejected}] as rejected
from picks
where (opening in (select opening from held_out)) = $held_out
order by seq, comparison
"""

DECIDED = """
select count(distinct judgment_id) as n from preference
where seq <= $up_to and list_contains($sources, source) and chosen <> rejected and not cut
"""
COUNTS = """
select verdict as what, count(*) as n from judgment_live
where seq <= $up_to and list_contains($sources, source) group by verdict
union all
select 'identical', count(*) from preference
where seq <= $up_to and list_contains($sources, source) and chosen = rejected
union all
select 'cut', count(*) from preference
where seq <= $up_to and list_contains($sources, source) and chosen <> rejected and cut
"""


def _write(
    store: Store,
    out: Path,
    held_out: bool,
    share: float,
    salt: int,
    sources: Sequence[str],
    up_to: int,
) -> int:
    tmp = out.with_suffix(".parquet.tmp")
    values = {
        "up_to": up_to,
        "sources": list(sources),
        "salt": str(salt),
        "share": share,
        "held_out": held_out,
    }
    copied = store.read(
        "copy (" + QUERY + ") to $file (format parquet, compression zstd)",
        values | {"file": str(tmp)},
    )
    os.replace(tmp, out)
    return int(copied[0]["Count"])


def _decided(store: Store, sources: Sequence[str], up_to: int) -> int:
    """Picks to train on; a ranking of four is one."""
    row = store.read_one(DECIDED, {"up_to": up_to, "sources": list(sources)})
    return row["n"] if row else 0


def _counts(store: Store, sources: Sequence[str], up_to: int) -> dict[str, int]:
    rows = store.read(COUNTS, {"up_to": up_to, "sources": list(sources)})
    return {row["what"]: row["n"] for row in rows}


def _record(store: Store, run_id: str, folder: Path, snapshot: Snapshot, up_to: int) -> None:
    version = (store.read_one("select max(version) as v from schema_version") or {"v": 0})["v"]
    row = {
        "snapshot_id": snapshot.snapshot_id,
        "run_id": run_id,
        "folder": str(folder),
        "sha256": snapshot.sha256,
        "rows_train": snapshot.rows_train,
        "rows_eval": snapshot.rows_eval,
        "counts": json.dumps(snapshot.counts),
        "up_to_seq": up_to,
        "query": QUERY,
        "schema_version": version,
        "created": utc_now(),
    }
    store.write(lambda tx: tx.insert("snapshot", row | {"seq": tx.next_seq()}))
