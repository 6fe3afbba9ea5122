"""What the pages and the HTTP API show: plain frozen values, made by desk.py and research.py.

An annotator's values are blind: nothing in them tells which policy or seed made an answer, why the
pair is shown, or what others picked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from annotate.progress import Progress
from annotate.rendering import SHOWN_CHARS, rendered
from store.conversations import Conversation
from store.history import PastPick, Pick
from store.pairs import Lease
from store.practice import PracticeItem
from store.rows import Kind, Message, Policy, Run
from train.policy.server import State
from train.triggers import TriggerState

EXCERPT_CHARS = 240
WaitingCode = Literal["starting", "down", "learning", "no_prompts", "sampling", "no_pool"]


@dataclass(frozen=True)
class Said:
    """One message. `content` and `html` hold its first SHOWN_CHARS characters."""

    role: str
    content: str
    html: str
    chars: int  # of the whole
    cut: bool


@dataclass(frozen=True)
class Answer:
    text: str  # as written, the first SHOWN_CHARS characters
    html: str
    chars: int
    cut: bool


@dataclass(frozen=True)
class Talk:
    conversation_id: str
    turn: int  # from 1
    turns: int  # at most
    needs_message: bool  # from the annotator, before there are answers


@dataclass(frozen=True)
class Item:
    """What one annotator has to judge. `answers` are in the order on the screen."""

    kind: Kind
    pair_id: str | None  # None: a conversation that waits for a message, or for its start
    prompt: list[Said]
    answers: list[Answer]
    lease_expires: datetime | None  # UTC
    conversation: Talk | None
    before: Pick | None  # as it was made: taken back, or looked at again


@dataclass(frozen=True)
class Practice:
    """A practice pair without what is expected, which comes with the answer."""

    practice_id: str
    prompt: list[Said]
    answers: list[Answer]


@dataclass(frozen=True)
class Waiting:
    """Why there is nothing to judge: fixed sentences, since details would name policies."""

    code: WaitingCode
    message: str
    minutes: int | None = None  # until there are pairs again, where `learning` can tell


@dataclass(frozen=True)
class Screen:
    item: Item | None
    waiting: Waiting | None
    progress: Progress
    guidelines_version: int | None
    undo: str | None  # id of the newest own pick that counts, which undo takes back


def said(messages: Sequence[Message]) -> list[Said]:
    return [
        Said(
            message["role"],
            message["content"][:SHOWN_CHARS],
            rendered(message["content"]),
            len(message["content"]),
            len(message["content"]) > SHOWN_CHARS,
        )
        for message in messages
    ]


def answers(texts: Sequence[str]) -> list[Answer]:
    return [
        Answer(text[:SHOWN_CHARS], rendered(text), len(text), len(text) > SHOWN_CHARS)
        for text in texts
    ]


def leased(lease: Lease, turns: int | None) -> Item:
    """`turns`: of the conversation that this is a turn of."""
    talk = None
    if lease.conversation_id is not None and lease.turn is not None:
        talk = Talk(lease.conversation_id, lease.turn, turns or lease.turn, needs_message=False)
    return Item(
        lease.kind,
        lease.pair_id,
        said(lease.messages),
        answers(lease.texts),
        lease.expires,
        talk,
        before=None,
    )


def waiting_turn(talk: Conversation) -> Item:
    """A conversation whose next answers are still to be written."""
    turn = Talk(talk.conversation_id, talk.turn, talk.turns, talk.needs_message)
    return Item("conversation", None, said(talk.messages), [], None, turn, before=None)


def past(pick: PastPick) -> Item:
    return Item(
        pick.kind,
        pick.pair_id,
        said(pick.messages),
        answers(pick.texts),
        lease_expires=None,
        conversation=None,
        before=pick.pick,
    )


def practice(item: PracticeItem) -> Practice:
    texts = (item.left_text, item.right_text)
    return Practice(item.practice_id, said(item.messages), answers(texts))


def excerpt(text: str) -> str:
    """The beginning, on one line."""
    line = " ".join(text[: 4 * EXCERPT_CHARS].split())
    return line if len(line) <= EXCERPT_CHARS else line[:EXCERPT_CHARS] + "…"


@dataclass(frozen=True)
class Overview:
    """Everything that the research page and `GET /stats` show except the curves of a run."""

    server_state: State
    server_note: str  # one sentence when it is not up
    champion: Policy | None
    picks: int  # live, human and simulated
    picks_since_round: int  # of those that are trained on
    annotators: int
    median_seconds: float | None
    agreement: float | None  # see store.agreement
    triggers: list[TriggerState]
    round_every: int  # picks
    next_round_in: int  # picks still missing
    prompts: int
    runs: list[Run]  # newest first; also older ones that have not ended
    policies: list[Policy]  # newest first
    imported: int  # live picks
    at_work_s: dict[str, float] = field(default_factory=dict)  # by run id
