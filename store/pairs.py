"""Sampled pairs and who has which one on screen.

A lease is an `annotator_event`: this pair, this annotator, this side on the left, until then.
A pair is free when no one has judged it (a skip counts only for the one who skipped) and no lease
on it runs.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from store.database import Store, Tx
from store.ids import uuid7
from store.rows import Completion, Message, utc_now

Side = Literal["a", "b"]


@dataclass(frozen=True)
class Lease:
    pair_id: str
    left_side: Side
    expires: datetime
    messages: list[Message]
    a_text: str
    b_text: str


def add(
    store: Store, prompt_id: str, prompt_token_ids: list[int], a: Completion, b: Completion
) -> str:
    """Store one sampled pair. Both sides come from one request to one policy."""
    pair_id = str(uuid.uuid4())  # annotators see it: it must not tell when it was sampled

    def work(tx: Tx) -> None:
        row = {
            "pair_id": pair_id,
            "seq": tx.next_seq(),
            "prompt_id": prompt_id,
            "source": "sampled",
            "prompt_token_ids": prompt_token_ids,
            "created": utc_now(),
        }
        # Journaled with its judgment, not here: a pair that nobody judged can be sampled again.
        tx.insert("pair", row | _side("a", a) | _side("b", b), journal=False)

    store.write(work)
    return pair_id


def held_by(store: Store, user_id: str) -> Lease | None:
    """What this annotator has on screen: the newest running lease without a pick of theirs."""
    rows = store.read(HELD, {"user": user_id, "now": utc_now()})
    return _lease(rows[0]) if rows else None


def lease_next(store: Store, user_id: str, left_side: Side, life: timedelta) -> str | None:
    """Lease the oldest free pair of the champion; None when there is none.

    An annotator who had the pair before gets it with the sides as they were: an old tab may still
    show it, and its verdict must mean the same.
    """

    def work(tx: Tx) -> str | None:
        found = tx.one(NEXT_FREE, {"user": user_id, "now": utc_now()})
        if found is None:
            return None
        pair_id: str = found["pair_id"]
        drawn = tx.one(DRAWN, {"user": user_id, "pair": pair_id})
        side = drawn["left_side"] if drawn else left_side
        insert_lease(tx, "shown", user_id, pair_id, side, life)
        return pair_id

    return store.write(work)


def insert_lease(
    tx: Tx, kind: str, user_id: str, pair_id: str, left_side: str, life: timedelta
) -> None:
    now = utc_now()
    row = {
        "event_id": uuid7(),
        "seq": tx.next_seq(),
        "user_id": user_id,
        "kind": kind,
        "pair_id": pair_id,
        "left_side": left_side,
        "lease_expires": now + life,
        "created": now,
    }
    tx.insert("annotator_event", row)


def ready(store: Store) -> int:
    """Free pairs of the champion: what can be shown without sampling."""
    row = store.read_one(READY, {"now": utc_now(), "user": None})
    return row["n"] if row else 0


HELD = """
select e.pair_id, e.left_side, e.lease_expires, t.messages, p.a_text, p.b_text
from annotator_event e
join pair p on p.pair_id = e.pair_id
join prompt t on t.prompt_id = p.prompt_id
where e.user_id = $user and e.lease_expires > $now
  and not exists (select 1 from judgment_live j
                  where j.pair_id = e.pair_id and (j.user_id = $user or j.verdict <> 'skip'))
order by e.seq desc limit 1
"""

FREE = """
from pair p
where p.a_policy_id = (select policy_id from current_policy) and p.source = 'sampled'
  and not exists (select 1 from annotator_event e
                  where e.pair_id = p.pair_id and e.lease_expires > $now
                    and not exists (select 1 from judgment s
                                    where s.pair_id = e.pair_id and s.user_id = e.user_id
                                      and s.seq > e.seq))
  and not exists (select 1 from judgment_live j
                  where j.pair_id = p.pair_id
                    and (j.verdict <> 'skip' or $user is null or j.user_id = $user))
"""
NEXT_FREE = "select p.pair_id" + FREE + "order by p.seq limit 1"
READY = "select count(*) as n" + FREE

DRAWN = """
select left_side from annotator_event where pair_id = $pair and user_id = $user
order by seq desc limit 1
"""


def _side(side: Side, completion: Completion) -> dict[str, Any]:
    values = {
        "text": completion.text,
        "token_ids": completion.token_ids,
        "logprob_sum": completion.logprob_sum,
        "logprob_count": completion.logprob_count,
        "finish_reason": completion.finish_reason,
        "policy_id": completion.policy_id,
        "seed": completion.seed,
        "sampling": json.dumps(completion.sampling),
    }
    return {f"{side}_{name}": value for name, value in values.items()}


def _lease(row: dict[str, Any]) -> Lease:
    return Lease(
        row["pair_id"],
        row["left_side"],
        row["lease_expires"],
        json.loads(row["messages"]),
        row["a_text"],
        row["b_text"],
    )
