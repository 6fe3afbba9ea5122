"""Frozen training data: two Parquet files of picks, split by prompt, talks by their opening.

What a pick becomes is not decided here but by the rules of each trainer, so every part of a round
reads the same files. Their hash, their query and the verdicts that were counted stand in the table
`snapshot`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from store.database import Store
from store.ids import uuid7
from store.rows import Source, utc_now

SPLITS = ("train", "eval")
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Snapshot:
    snapshot_id: str
    sha256: str
    rows_train: int  # picks
    rows_eval: int
    counts: dict[str, int]  # live picks by verdict, with those that no trainer can use


def freeze(
    store: Store, run_id: str, folder: Path, sources: Sequence[Source], salt: int = 0
) -> Snapshot:
    """Write `train.parquet` and `eval.parquet` into `folder`, also when there are no picks.

    One row is one live pick with a verdict other than skip and flag: its prompt and answers and
    what was said about them. A prompt is wholly on one side of the split, with every conversation
    that begins as it does.
    """
    values = _values(store, sources, salt)
    folder.mkdir(parents=True, exist_ok=True)
    with _both_splits(store, folder, values) as both:
        rows = {split: _write(store, both, folder / f"{split}.parquet") for split in SPLITS}
        counts = _counts(store, both, values)
    snapshot = Snapshot(uuid7(), digest(folder), rows["train"], rows["eval"], counts)
    _record(store, run_id, folder, snapshot, values["up_to"])
    return snapshot


def preview(store: Store, sources: Sequence[Source], salt: int = 0) -> tuple[Rows, Rows]:
    """The rows that `freeze` would write now: to train on, and held out."""
    splits: tuple[Rows, Rows] = ([], [])
    for row in store.read(QUERY, _values(store, sources, salt)):
        splits[row.pop("held_out")].append(row)
    return splits


def frozen(store: Store, folder: Path) -> tuple[Rows, Rows]:
    """The rows that `freeze` wrote into `folder`: to train on, and held out."""
    sql = "from read_parquet($file)"
    train, held_out = (
        store.read(sql, {"file": str(folder / f"{name}.parquet")}) for name in SPLITS
    )
    return train, held_out


def trained_prompts(store: Store, folder: Path) -> set[str]:
    """Ids of the prompts whose picks `freeze` wrote to train on."""
    sql = "select distinct prompt_id from read_parquet($file)"
    return {row["prompt_id"] for row in store.read(sql, {"file": str(folder / "train.parquet")})}


def digest(folder: Path) -> str:
    """Of both files."""
    found = hashlib.sha256()
    for split in SPLITS:
        found.update((folder / f"{split}.parquet").read_bytes())
    return found.hexdigest()


def newest(store: Store) -> int:
    """Changes when a pick is made or taken back: until then `preview` answers the same."""
    row = store.read_one(NEWEST)
    return int(row["seq"]) if row else 0


def eval_share(picks: int) -> float:
    """Share of prompts held out: about 40 picks when there are few, a tenth when there are many."""
    return min(0.25, max(0.1, 40 / max(1, picks)))


# An opening is what a talk begins with, up to the first message of its user: a turn of a
# conversation repeats what was said before it, and goes where the first one goes. Openings are put
# in an order that depends on nothing but their text; the first ones are held out: the same share of
# those with an edit, with a better side, and without, so that every trainer finds something to be
# measured on. What was imported never stood on a screen or in a pool.
QUERY = """
with talk as (
    select prompt_id, messages::struct(role varchar, content varchar)[] as said,
        list_position([one.role for one in said], 'user') as user_at,
        md5(said[:coalesce(nullif(user_at, 0), len(said))]::varchar) as opening
    from prompt
), picks as (
    select j.*, p.* exclude (pair_id, seq, source, created), p.source as pair_source,
        t.said, t.opening,
        coalesce(p.turn = max(p.turn) over (partition by p.conversation_id), true) as last_turn,
        case when trim(coalesce(j.edited_text, '')) <> '' then 'edited'
             when (j.preferred is not null and not p.a_text = p.b_text
                   and if(j.preferred = 'a', p.a_finish_reason, p.b_finish_reason)
                       is distinct from 'length')
                 or j.verdict = 'ranked' then 'decided'
             else 'undecided' end as use
    from judgment_live j
    join pair p on p.pair_id = j.pair_id
    join talk t on t.prompt_id = p.prompt_id
    where j.seq <= $up_to and list_contains($sources, j.source)
      and j.verdict not in ('skip', 'flag')
), opening as (
    select opening, max(use = 'edited') as edited, max(use <> 'undecided') as decided
    from picks group by opening
), in_order as (
    select opening, count(*) over alike as openings,
        row_number() over (alike order by md5_number_lower(opening || $salt)) as place
    from opening window alike as (partition by edited, decided)
), held_out as (
    select opening from in_order
    where place <= greatest(if(openings > 1, 1, 0), round($share * openings))
), sides as (
    select *, {'text': a_text, 'cut': coalesce(a_finish_reason = 'length', false)} as a,
        {'text': b_text, 'cut': coalesce(b_finish_reason = 'length', false)} as b,
        {'text': c_text, 'cut': coalesce(c_finish_reason = 'length', false)} as c,
        {'text': d_text, 'cut': coalesce(d_finish_reason = 'length', false)} as d
    from picks
)
select s.judgment_id, s.pair_id, s.prompt_id, s.user_id,
    if(s.pair_source = 'import', null, pool.name) as pool,
    s.source, s.verdict, s.strength, s.turn, s.last_turn,
    s.said as prompt,
    if(s.c_text is null, [s.a, s.b], [s.a, s.b, s.c, s.d]) as answers,
    (strpos('ab', s.preferred) - 1)::integer as better,
    (strpos('abcd', s.best) - 1)::integer as best,
    (strpos('abcd', s.worst) - 1)::integer as worst,
    s.edited_text,
    if(s.pair_source = 'import', null, strpos('ab', s.left_side) - 1)::integer as shown_left,
    s.opening in (select opening from held_out) as held_out
from sides s
left join pool on pool.pool_id = s.pool_id
order by s.seq
"""
USABLE = """
select count(*) as n from judgment_live j join pair p on p.pair_id = j.pair_id
where j.seq <= $up_to and list_contains($sources, j.source) and (j.verdict = 'ranked'
    or j.preferred is not null and not p.a_text = p.b_text
    and if(j.preferred = 'a', p.a_finish_reason, p.b_finish_reason) is distinct from 'length')
"""
BOTH = "copy (" + QUERY + ") to $file (format parquet)"
SPLIT = """
copy (select * exclude (held_out) from read_parquet($both) where held_out = $held_out)
to $file (format parquet, compression zstd)
"""
COUNTS = """
select verdict, count(*) as n from read_parquet($both) group by verdict
union all
select verdict, count(*) from judgment_live
where seq <= $up_to and list_contains($sources, source) and verdict in ('skip', 'flag')
group by verdict
"""
NEWEST = """
select greatest(
    (select coalesce(max(seq), 0) from judgment), (select coalesce(max(seq), 0) from retraction),
    (select coalesce(max(seq), 0) from pool)
) as seq
"""


def _values(store: Store, sources: Sequence[Source], salt: int) -> dict[str, Any]:
    """The parameters of QUERY, for all picks so far."""
    up_to = (store.read_one("select coalesce(max(seq), 0) as s from judgment") or {"s": 0})["s"]
    values = {"up_to": up_to, "sources": list(sources)}
    usable = (store.read_one(USABLE, values) or {"n": 0})["n"]
    return values | {"salt": str(salt), "share": eval_share(usable)}


@contextlib.contextmanager
def _both_splits(store: Store, folder: Path, values: dict[str, Any]) -> Iterator[Path]:
    """One file from one reading: a pick taken back meanwhile would move prompts between splits."""
    both = folder / "both.parquet.tmp"
    try:
        store.read(BOTH, values | {"file": str(both)})
        yield both
    finally:
        both.unlink(missing_ok=True)


def _write(store: Store, both: Path, out: Path) -> int:
    tmp = out.with_suffix(".parquet.tmp")
    held_out = out.stem == "eval"
    copied = store.read(SPLIT, {"both": str(both), "held_out": held_out, "file": str(tmp)})
    os.replace(tmp, out)
    return int(copied[0]["Count"])


def _counts(store: Store, both: Path, values: dict[str, Any]) -> dict[str, int]:
    about = {"both": str(both), "up_to": values["up_to"], "sources": values["sources"]}
    return {row["verdict"]: row["n"] for row in store.read(COUNTS, about)}


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
