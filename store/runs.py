"""Training runs and what happened to them, as events."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from store.database import Store, Tx
from store.ids import numbered, uuid7
from store.rows import NotFound, Run, RunKind, RunStatus, utc_now

FINAL: tuple[RunStatus, ...] = ("done", "failed", "cancelled")
NEWEST = "select * from run_now order by seq desc limit $limit"
CHILDREN = "select * from run_now where parent_run_id = $id order by seq"
UNFINISHED = "select * from run_now where status in ('queued', 'running') order by seq"
# A run that waits again after a pause stands behind those that waited before it.
TOP = """
select * from run_now where parent_run_id is null and status in ('running', 'queued', 'paused')
order by status <> 'running', changed, seq
"""
AT_WORK = """
select run_id, sum(epoch(until) - epoch(created))::double as seconds from (
    select run_id, status, created,
        coalesce(lead(created) over (partition by run_id order by seq), $now) as until
    from run_event
) where status = 'running' group by run_id
"""
REWARD_MODEL = """
select * from run_now where kind = 'rm' and status = 'done' order by seq desc limit 1
"""
# The newest round on new picks, by when it first ran: until then it takes in the picks that still
# come, and one that never ran learned from none. A repeated one has those of another.
LAST_ROUND = """
select max(seq) as seq, arg_max(created, seq) as created from (
    select min(e.seq) as seq, min(e.created) as created
    from run_event e join run r on r.run_id = e.run_id
    where e.status = 'running' and r.kind = 'round'
      and json_extract(r.config, '$.repeat_of') is null
    group by r.run_id
)
"""


def add(
    store: Store,
    kind: RunKind,
    config: dict[str, Any],
    user_id: str | None,
    parent: str | None = None,
) -> str:
    """A queued run; its id is also the name of its folder.

    Folders count too: runs are not in the journal, and a rebuilt database must not reuse one.
    """

    def work(tx: Tx) -> str:
        rows = [row["run_id"] for row in tx.all("select max(run_id) as run_id from run")]
        folders = [path.name for path in (store.data_dir / "runs").glob("run-*")]
        numbers = [int(name[4:]) for name in (*rows, *folders) if name and name[4:].isdigit()]
        run_id = numbered("run", max(numbers, default=0) + 1)
        row = {
            "run_id": run_id,
            "seq": tx.next_seq(),
            "kind": kind,
            "parent_run_id": parent,
            "requested_by": user_id,
            "config": json.dumps(config),
            "created": utc_now(),
        }
        tx.insert("run", row)
        insert_event(tx, run_id, "queued")
        return run_id

    return store.write(work)


def mark(
    store: Store,
    run_id: str,
    status: RunStatus,
    *,
    reason: str | None = None,
    policy_id: str | None = None,
    verdict: str | None = None,
    metrics: dict[str, Any] | None = None,
) -> None:
    """Append what became of the run. One that waits or runs again has no reason any more."""
    if status in ("queued", "running"):
        reason = reason or ""  # null would leave the one before
    store.write(lambda tx: insert_event(tx, run_id, status, reason, policy_id, verdict, metrics))


def insert_event(
    tx: Tx,
    run_id: str,
    status: RunStatus,
    reason: str | None = None,
    policy_id: str | None = None,
    verdict: str | None = None,
    metrics: dict[str, Any] | None = None,
) -> None:
    row = {
        "event_id": uuid7(),
        "seq": tx.next_seq(),
        "run_id": run_id,
        "status": status,
        "reason": reason,
        "policy_id": policy_id,
        "verdict": verdict,
        "metrics": json.dumps(metrics or {}),
        "created": utc_now(),
    }
    tx.insert("run_event", row)


def get(store: Store, run_id: str) -> Run:
    """Raises NotFound."""
    row = store.read_one("select * from run_now where run_id = $id", {"id": run_id})
    if row is None:
        raise NotFound(f"There is no run {run_id!r}.", "run_gone", run=run_id)
    return _run(row)


def newest(store: Store, limit: int = 50) -> list[Run]:
    return [_run(row) for row in store.read(NEWEST, {"limit": limit})]


def newest_and_open(store: Store, limit: int = 50) -> list[Run]:
    """The newest, and behind them what waits, is paused or at work, however old, with its parts."""
    found = newest(store, limit)
    known = {run.run_id for run in found}
    still_open = [run for top in open_now(store) for run in (top, *children(store, top.run_id))]
    older = [run for run in still_open if run.run_id not in known]
    return found + sorted(older, key=lambda run: run.run_id, reverse=True)


def at_work_s(store: Store) -> dict[str, float]:
    """Seconds that each run has been at work, without its time in the queue and in pauses."""
    rows = store.read(AT_WORK, {"now": utc_now()})
    return {row["run_id"]: row["seconds"] for row in rows}


def children(store: Store, run_id: str) -> list[Run]:
    """The parts of a round, oldest first."""
    return [_run(row) for row in store.read(CHILDREN, {"id": run_id})]


def unfinished(store: Store) -> list[Run]:
    """Queued and running, oldest first."""
    return [_run(row) for row in store.read(UNFINISHED)]


def open_now(store: Store) -> list[Run]:
    """Running, waiting and paused runs that are no part of another: in the order of the queue."""
    return [_run(row) for row in store.read(TOP)]


def last_round(store: Store) -> datetime | None:
    """When the newest round on new picks began, in UTC; a repeated one has none."""
    row = store.read_one(LAST_ROUND)
    return row["created"] if row else None


def newest_reward_model(store: Store) -> Run | None:
    row = store.read_one(REWARD_MODEL)
    return _run(row) if row else None


def share_snapshot(store: Store, source: str, target: str) -> None:
    """Record that a repeated run trains on the frozen data of another run."""

    def work(tx: Tx) -> None:
        rows = tx.all("select * from snapshot where run_id = $id order by seq", {"id": source})
        for row in rows[-1:]:
            ids = {"snapshot_id": uuid7(), "seq": tx.next_seq(), "run_id": target}
            tx.insert("snapshot", row | ids | {"created": utc_now()})

    store.write(work)


def _run(row: dict[str, Any]) -> Run:
    return Run(
        run_id=row["run_id"],
        kind=row["kind"],
        status=row["status"],
        parent_run_id=row["parent_run_id"],
        config=json.loads(row["config"]),
        created=row["created"],
        changed=row["changed"],
        reason=row["reason"],
        policy_id=row["policy_id"],
        verdict=row["verdict"],
        metrics=json.loads(row["metrics"]),
    )
