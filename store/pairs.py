"""Sampled pairs, sets of four and turns of a conversation, and who has which one on screen.

A lease is an `annotator_event`: this pair, this annotator, its sides in this order, until then. It
ends early with a pick, or when the pair needs no more annotators.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any

from store import line, standing
from store.database import Read, Store, Tx
from store.rows import Completion, Kind, Message, NotFound, utc_now
from store.standing import Pair, Standing

Draw = Callable[[int], str]  # the order of n sides on the screen: "ba", "cadb"

SIDES = "abcd"
KINDS: tuple[Kind, ...] = ("pair", "four", "conversation")


@dataclass(frozen=True)
class Lease:
    """What one annotator has on screen."""

    pair_id: str
    kind: Kind
    order: str  # sides in the order on screen: "ba"
    expires: datetime
    messages: list[Message]
    texts: tuple[str, ...]  # in the order on screen
    conversation_id: str | None
    turn: int | None  # of the conversation, from 1


def add(
    store: Store,
    prompt_id: str,
    prompt_token_ids: list[int],
    *completions: Completion,
    pool_id: str = "everything",
    wanted: int = 1,
    conversation_id: str | None = None,
    turn: int | None = None,
) -> str:
    """Store one sampled pair, or set of four. All sides come from one request to one policy.

    `wanted`: how many annotators should judge it. A turn of a conversation names both of its last.
    """
    if len(completions) not in (2, 4):
        raise ValueError(f"a pair has 2 or 4 completions, not {len(completions)}")
    pair_id = str(uuid.uuid4())  # annotators see it: it must not tell when it was sampled
    sides = [_side(name, one) for name, one in zip(SIDES, completions, strict=False)]
    kind: Kind = "conversation" if conversation_id else "four" if len(sides) == 4 else "pair"

    def work(tx: Tx) -> None:
        row = {
            "pair_id": pair_id,
            "seq": tx.next_seq(),
            "prompt_id": prompt_id,
            "source": "sampled",
            "kind": kind,
            "pool_id": pool_id,
            "wanted": wanted,
            "conversation_id": conversation_id,
            "turn": turn,
            "prompt_token_ids": prompt_token_ids,
            "created": utc_now(),
        }
        for side in sides:
            row |= side
        # Journaled with its judgment, not here: a pair that nobody judged can be sampled again.
        tx.insert("pair", row, journal=False)
        if kind != "conversation":
            line.join(tx, pair_id, pool_id, kind, completions[0].policy_id)

    store.write(work)
    return pair_id


def held_by(store: Store, user_id: str, kinds: Sequence[Kind] = KINDS) -> Lease | None:
    """What this annotator has on screen: the newest running lease."""
    return _held(store.read, user_id, kinds)


def lease_next(
    store: Store,
    user_id: str,
    draw: Draw,
    life: timedelta,
    pools: Sequence[str],
    kinds: Sequence[Kind] = ("pair", "four"),
) -> Lease | None:
    """What this annotator holds already, else the oldest free one of the first pool that has one.

    Free is a pair of the champion, or one of an earlier policy as `line` says, when this annotator
    has not judged it (a skip is a judgment), fewer than `wanted` others judged it or have it on
    screen (skips left out), and no flag keeps it back. None when there is none.
    """
    return store.write(lambda tx: claim(tx, user_id, draw, life, pools, kinds))


def claim(
    tx: Tx,
    user_id: str,
    draw: Draw,
    life: timedelta,
    pools: Sequence[str],
    kinds: Sequence[Kind],
) -> Lease | None:
    """`lease_next` inside a transaction."""
    if held := _held(tx.all, user_id, kinds):
        return held
    free = line.first_free(tx, user_id, pools, kinds, utc_now() + life)
    return _show(tx, user_id, free, draw, life) if free else None


def renew(store: Store, user_id: str, lease: Lease, life: timedelta) -> Lease:
    """This lease with its whole life before it, if it still runs; else as it was."""

    def work(tx: Tx) -> Lease:
        pair = standing.of_pair(tx, lease.pair_id)
        if pair is None or user_id not in pair.running:
            return lease
        expires = utc_now() + life
        standing.insert_event(tx, "shown", user_id, lease.pair_id, lease.order, expires)
        return replace(lease, expires=expires)

    return store.write(work)


def put_aside(store: Store, user_id: str, pair_id: str) -> None:
    """End this annotator's lease of the pair. Until it would have ended by itself, they do not get
    the pair again."""

    def work(tx: Tx) -> None:
        pair = standing.of_pair(tx, pair_id)
        if pair and user_id in pair.running:
            standing.end_lease(tx, pair, user_id)
            line.forget(tx)  # others may have it

    store.write(work)


def lease_pair(store: Store, user_id: str, pair_id: str, draw: Draw, life: timedelta) -> Lease:
    """Lease this turn of the annotator's own conversation.

    Raises NotFound when it is no turn of theirs.
    """

    def work(tx: Tx) -> Lease:
        turn = standing.of_pair(tx, pair_id)
        if turn is None or not tx.one(OWN, {"id": turn.conversation_id, "user": user_id}):
            raise NotFound(
                "This is no turn of a conversation of yours. Start a new one.", "no_turn"
            )
        return _show(tx, user_id, turn, draw, life)

    return store.write(work)


def ready(store: Store) -> int:
    """Pairs of the champion that can be shown to anybody without sampling.

    Only those of the kind that their pool asks for now: after a change of its mode, programs do not
    get the others, though people still do.
    """
    return sum(ready_by_pool(store).values())


def ready_by_pool(store: Store) -> dict[str, int]:
    """Like `ready`, for each pool that has some."""
    values = {
        "now": utc_now(),
        "champion": line.champion(store.read),
        "kept_back": standing.kept_back(store.read),
    }
    return {row["pool_id"]: row["n"] for row in store.read(READY, values)}


def answer_text(store: Store, user_id: str, pair_id: str, index: int) -> str:
    """The whole text at this place (0: left) of this annotator's screen.

    Raises NotFound when it was never shown to them.
    """
    shown = store.read_one(DRAWN, {"pair": pair_id, "user": user_id})
    if shown is None or not 0 <= index < len(shown["shown_order"]):
        raise NotFound("This text was not shown to you.", "not_shown")
    return standing.pair_of(store.read, pair_id).texts(shown["shown_order"])[index]


def prompt_text(store: Store, user_id: str, pair_id: str, index: int) -> str:
    """The whole text of this message (0: the first) of a prompt, like `answer_text`."""
    messages: list[Message] = []
    if store.read_one(DRAWN, {"pair": pair_id, "user": user_id}):
        messages = _messages(store.read, standing.pair_of(store.read, pair_id))
    if not 0 <= index < len(messages):
        raise NotFound("This text was not shown to you.", "not_shown")
    return messages[index]["content"]


def _held(read: Read, user_id: str, kinds: Sequence[Kind]) -> Lease | None:
    events: dict[str, dict[str, Any]] = {}
    rows = read(OWN_EVENTS, {"user": user_id, "now": utc_now()})
    for event in sorted(rows, key=itemgetter("seq")):
        events.pop(event["pair_id"], None)  # the newest lease comes last
        events[event["pair_id"]] = event
    for event in reversed(events.values()):
        if event["kind"] != "ended":
            pair = standing.pair_of(read, event["pair_id"])
            if pair.kind in kinds:
                return _lease(read, pair, event["shown_order"], event["lease_expires"])
    return None


def _show(tx: Tx, user_id: str, pair: Standing, draw: Draw, life: timedelta) -> Lease:
    """An annotator who had the pair before gets it with the sides as they were: an old tab may
    still show it, and its verdict must mean the same."""
    sides = SIDES[: 4 if pair.kind == "four" else 2]
    order = pair.orders.get(user_id) or draw(len(sides))
    assert sorted(order) == list(sides)
    expires = utc_now() + life
    standing.insert_event(tx, "shown", user_id, pair.pair_id, order, expires)
    return _lease(tx.all, pair, order, expires)


OWN_EVENTS = """
select pair_id, seq, kind, shown_order, lease_expires from annotator_event
where user_id = $user and lease_expires > $now
"""
MESSAGES = "select messages from prompt where prompt_id = $prompt"
# A database that was rebuilt has picks and no leases.
DRAWN = """
select shown_order from annotator_event where pair_id = $pair and user_id = $user
union all
select shown_order from judgment where pair_id = $pair and user_id = $user
limit 1
"""
READY = (
    """
select pool_id, count(*) as n from pair join pool using (pool_id)
where source = 'sampled' and conversation_id is null and a_policy_id = $champion
  and kind = if(mode = 'best_worst', 'four', mode)
  and pair_id not in (select pair_id from judgment_live)
  and not list_contains($kept_back::varchar[], pair_id)
  and pair_id not in (select pair_id from ("""
    + standing.RUNNING
    + ")) group by pool_id"
)
OWN = "select 1 from conversation where conversation_id = $id and user_id = $user"


def _side(side: str, completion: Completion) -> dict[str, Any]:
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


def _messages(read: Read, pair: Pair) -> list[Message]:
    (prompt,) = read(MESSAGES, {"prompt": pair.prompt_id})
    return list(json.loads(prompt["messages"]))


def _lease(read: Read, pair: Pair, order: str, expires: datetime) -> Lease:
    return Lease(
        pair_id=pair.pair_id,
        kind=pair.kind,
        order=order,
        expires=expires,
        messages=_messages(read, pair),
        texts=pair.texts(order),
        conversation_id=pair.conversation_id,
        turn=pair.turn,
    )
