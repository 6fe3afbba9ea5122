"""Policy versions and which one serves. Status is a view over promotions; nothing is edited."""

from __future__ import annotations

from typing import Any, Literal

from store import line
from store.database import Store, Tx
from store.ids import numbered, uuid7
from store.rows import NotFound, Policy, utc_now

Action = Literal["promote", "rollback", "reject", "retire"]


def next_id(store: Store) -> str:
    """The name of the next policy: a version, never used twice, also when its run failed later.

    Counts published folders as well as rows: a rebuilt database must not reuse a folder that vLLM
    has seen.
    """
    rows = [row["policy_id"] for row in store.read("select policy_id from policy")]
    folders = [path.name for path in (store.data_dir / "policies").glob("policy-*")]
    numbers = [
        int(name.removeprefix("policy-")) for name in (*rows, *folders) if name[7:].isdigit()
    ]
    return numbered("policy", max(numbers, default=-1) + 1)


def add(
    store: Store,
    policy_id: str,
    *,
    parent: str | None,
    run_id: str | None,
    base_model: str,
    adapter_path: str,
    adapter_sha256: str,
) -> None:
    row = {
        "policy_id": policy_id,
        "parent": parent,
        "run_id": run_id,
        "base_model": base_model,
        "adapter_path": adapter_path,
        "adapter_sha256": adapter_sha256,
        "created": utc_now(),
    }
    store.write(lambda tx: tx.insert("policy", row | {"seq": tx.next_seq()}))


def decide(
    store: Store, policy_id: str, action: Action, reason: str, user_id: str | None = None
) -> None:
    """Write a promotion, rollback, rejection or retirement with its reason."""

    def work(tx: Tx) -> None:
        row = {
            "promotion_id": uuid7(),
            "seq": tx.next_seq(),
            "policy_id": policy_id,
            "action": action,
            "reason": reason,
            "user_id": user_id,
            "created": utc_now(),
        }
        tx.insert("promotion", row)
        line.forget(tx)

    store.write(work)


def champion(store: Store) -> Policy | None:
    row = store.read_one("select * from policy_now where status = 'champion'")
    return _policy(row) if row else None


def get(store: Store, policy_id: str) -> Policy:
    """Raises NotFound."""
    row = store.read_one("select * from policy_now where policy_id = $id", {"id": policy_id})
    if row is None:
        raise NotFound(
            f"There is no policy {policy_id!r}. `prefloop policies list` shows them.",
            "policy_gone",
            policy=policy_id,
        )
    return _policy(row)


def everyone(store: Store) -> list[Policy]:
    """Newest first."""
    return [_policy(row) for row in store.read("select * from policy_now order by seq desc")]


def previous_champion(store: Store) -> Policy | None:
    """The newest one to serve before the current one first did: where a plain rollback goes.

    A second rollback goes further back, never forward again. One that a person retired is passed
    over. None when nothing served earlier.
    """
    row = store.read_one(
        """select p.* from policy_now p join promotion m on m.policy_id = p.policy_id
           where m.action in ('promote', 'rollback')
             and p.status = 'retired' and not p.retired_for_good
             and m.seq < (select min(seq) from promotion
                          where action in ('promote', 'rollback')
                            and policy_id = (select policy_id from current_policy))
           order by m.seq desc limit 1"""
    )
    return _policy(row) if row else None


def _policy(row: dict[str, Any]) -> Policy:
    return Policy(
        policy_id=row["policy_id"],
        status=row["status"],
        parent=row["parent"],
        run_id=row["run_id"],
        base_model=row["base_model"],
        adapter_path=row["adapter_path"],
        adapter_sha256=row["adapter_sha256"],
        created=row["created"],
        reason=row["reason"],
        retired_for_good=row["retired_for_good"],
    )
