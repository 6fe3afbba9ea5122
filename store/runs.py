"""Training runs and what happened to them, as events."""

from __future__ import annotations

import json
from typing import Any

from store.database import Store, Tx
from store.ids import numbered, uuid7
from store.rows import NotFound, Run, RunKind, RunStatus, utc_now

FINAL: tuple[RunStatus, ...] = ("done", "failed", "cancelled")


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
    """Append what became of the run."""
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
    sql = "select * from run_now order by seq desc limit $limit"
    return [_run(row) for row in store.read(sql, {"limit": limit})]


def children(store: Store, run_id: str) -> list[Run]:
    """The parts of a round, oldest first."""
    sql = "select * from run_now where parent_run_id = $id order by seq"
    return [_run(row) for row in store.read(sql, {"id": run_id})]


def unfinished(store: Store) -> list[Run]:
    """Queued and running, oldest first."""
    sql = "select * from run_now where status in ('queued', 'running') order by seq"
    return [_run(row) for row in store.read(sql)]


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
