"""Conversations of one annotator with the policy: every turn is a pair, its chosen answer goes on.

What was said so far is not stored: it follows from the last judged turn, so that undo and a
revision need no more than a pick does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from store import prompts, standing
from store.database import Read, Store, Tx
from store.ids import uuid7
from store.pools import Pool
from store.prompts import NewPrompt, Prompt
from store.rows import Conflict, Message, NotFound, User, Verdict, utc_now

ENDING: tuple[Verdict, ...] = ("both_bad", "skip", "flag")  # no answer to go on from


@dataclass(frozen=True)
class Conversation:
    conversation_id: str
    user_id: str
    pool_id: str
    prompt_id: str | None  # the given prompt that it starts from
    turns: int  # at most
    turn: int  # the one at work, from 1
    messages: list[Message]  # said so far; the annotator's of this turn only once it was written
    pair_id: str | None  # of this turn, once both answers are there
    created: datetime

    @property
    def needs_message(self) -> bool:
        """Whether the annotator writes next; else the answers to `messages` come next."""
        return not self.messages or self.messages[-1]["role"] != "user"


def open(  # noqa: A001 - conversations.open
    store: Store, user: User, pool: Pool, prompt: Prompt | None
) -> Conversation:
    """A new conversation of at most `pool.turns`, or the one at work in this pool.

    `prompt`: given to start from; None: the annotator writes the first message.
    """

    def work(tx: Tx) -> Conversation:
        for conversation in _at_work(tx.all, user.user_id):
            if conversation.pool_id == pool.pool_id:
                return conversation  # of another tab
        row = {
            "conversation_id": uuid7(),
            "seq": tx.next_seq(),
            "user_id": user.user_id,
            "pool_id": pool.pool_id,
            "prompt_id": prompt.prompt_id if prompt else None,
            "messages": json.dumps(prompt.messages if prompt else [], ensure_ascii=False),
            "turns": pool.turns,
            "created": utc_now(),
            "ended": None,
        }
        tx.insert("conversation", row)
        return _conversation(tx.all, row)

    return store.write(work)


def current_of(store: Store, user_id: str) -> Conversation | None:
    """The one at work, of several the one with the newest pick: not ended and with turns left."""
    return next(_at_work(store.read, user_id), None)


def get(store: Store, user_id: str, conversation_id: str) -> Conversation:
    """Raises NotFound when it is not at work or not this user's."""
    row = store.read_one(ONE, {"id": conversation_id})
    conversation = _going_on(store.read, row) if row and row["user_id"] == user_id else None
    if conversation is None:
        raise _over()
    return conversation


def begin_turn(store: Store, conversation_id: str, messages: Sequence[Message]) -> str:
    """The id of the prompt of the turn at work: all that was said and the new message.

    Raises NotFound when the conversation is over, Conflict when `messages` does not go on from it.
    """

    def work(tx: Tx) -> str:
        row = tx.one(ONE, {"id": conversation_id})
        conversation = _going_on(tx.all, row) if row else None
        if conversation is None:
            raise _over()
        said = conversation.messages
        new = list(messages[len(said) :])
        goes_on = list(messages[: len(said)]) == said
        if not goes_on or [m["role"] for m in new] != ["user"] * conversation.needs_message:
            raise Conflict(
                "The conversation went on in another tab. Look at it again.", "turn_elsewhere"
            )
        ids, _ = prompts.insert(tx, [NewPrompt(list(messages))], "conversation")
        return ids[0]

    return store.write(work)


def end(store: Store, user: User, conversation_id: str) -> None:
    """End it before its turns are used up; what is ended stays so. Raises NotFound."""

    def work(tx: Tx) -> None:
        row = tx.one(ONE, {"id": conversation_id})
        if row is None or row["user_id"] != user.user_id:
            raise _over()
        if row["ended"] is None:
            ended = row | {"ended": utc_now(), "seq": tx.next_seq()}
            tx.update("conversation", "conversation_id", ended)
        for pair in tx.all(PAIRS, {"id": conversation_id}):
            turn = standing.of_pair(tx, pair["pair_id"])
            if turn and user.user_id in turn.running:
                standing.end_lease(tx, turn, user.user_id)

    store.write(work)


ONE = "select * from conversation where conversation_id = $id"
# Not ended, with turns left, and the last judged turn has an answer to go on from.
AT_WORK = """
select c.* from conversation c
left join (
    select p.conversation_id, max(j.seq) as seq, max(p.turn) as turn,
        arg_max(j.verdict, p.turn) as verdict
    from pair p join judgment_live j on j.pair_id = p.pair_id
    where p.conversation_id is not null group by p.conversation_id
) j on j.conversation_id = c.conversation_id
where c.user_id = $user and c.ended is null and coalesce(j.turn, 0) < c.turns
  and not list_contains($ending, coalesce(j.verdict, ''))
order by greatest(c.seq, coalesce(j.seq, 0)) desc
"""
PAIRS = "select pair_id from pair where conversation_id = $id"
# The last turn that was judged, and how.
LAST = """
select p.turn, p.a_text, p.b_text, t.messages, j.verdict, j.preferred, j.shown_order, j.edited_text
from pair p
join judgment_live j on j.pair_id = p.pair_id
join prompt t on t.prompt_id = p.prompt_id
where p.conversation_id = $id order by p.turn desc limit 1
"""
# Pairs of the turn at work, newest first: more than one when an earlier turn was judged again.
SAMPLED = """
select p.pair_id, t.messages from pair p join prompt t on t.prompt_id = p.prompt_id
where p.conversation_id = $id and p.turn = $turn
  and p.pair_id not in (select pair_id from judgment_live)
order by p.seq desc
"""


def _at_work(read: Read, user_id: str) -> Iterator[Conversation]:
    """The newest first; each is read when it is asked for."""
    for row in read(AT_WORK, {"user": user_id, "ending": list(ENDING)}):
        yield _conversation(read, row)


def _going_on(read: Read, row: dict[str, Any]) -> Conversation | None:
    """None when it is over."""
    if row["ended"] is not None:
        return None
    conversation = _conversation(read, row)
    return conversation if conversation.turn <= conversation.turns else None


def _conversation(read: Read, row: dict[str, Any]) -> Conversation:
    """Its turn is one too many when it is over."""
    values = {"id": row["conversation_id"]}
    messages: list[Message] = json.loads(row["messages"])
    turn = 1
    for last in read(LAST, values):
        if last["verdict"] in ENDING:
            turn = row["turns"] + 1
        else:
            messages = [
                *json.loads(last["messages"]),
                {"role": "assistant", "content": _chosen(last)},
            ]
            turn = last["turn"] + 1
    sampled = read(SAMPLED, values | {"turn": turn})
    pair = next((one for one in sampled if _follows(json.loads(one["messages"]), messages)), None)
    return Conversation(
        conversation_id=row["conversation_id"],
        user_id=row["user_id"],
        pool_id=row["pool_id"],
        prompt_id=row["prompt_id"],
        turns=row["turns"],
        turn=turn,
        messages=json.loads(pair["messages"]) if pair else messages,
        pair_id=pair["pair_id"] if pair else None,
        created=row["created"],
    )


def _chosen(last: dict[str, Any]) -> str:
    """The answer that goes on: as edited, or the better one; of a tie the one shown left."""
    side = last["preferred"] or last["shown_order"][0]
    return str(last["edited_text"] or last[f"{side}_text"])


def _follows(asked: list[Message], said: list[Message]) -> bool:
    """Whether a sampled turn goes on from what was said, as it is after undo or a revision."""
    return asked[: len(said)] == said


def _over() -> NotFound:
    return NotFound("This conversation is over. Start a new one.")
