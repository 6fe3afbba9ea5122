"""A turn of a conversation: both answers of one request, streamed as they are written, then stored.

They come in the order on the screen and in steps of time, so that nothing tells which was first.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta

from annotate.sampler import Sampler
from store import conversations, pairs, policies
from store.conversations import Conversation
from store.database import Store
from store.pairs import Draw
from store.rows import Conflict, Invalid, Message, PrefloopError, User, is_text
from train.policy.client import Delta, GenerationFailed, PromptRefused, Sampled

log = logging.getLogger(__name__)
LONGEST = 20_000  # characters of one message
STEP_S = 0.05  # between two pieces of an answer at the least
SLACK_S = 0.25  # that one side waits for a piece of the other


class TurnFailed(PrefloopError):
    """No two whole answers came; nothing was stored. Says what the annotator can do."""


class TurnRefused(TurnFailed):
    """The model cannot answer this conversation at all."""


@dataclass(frozen=True)
class Piece:
    """Some more of the answer at this place of the screen (0: left)."""

    at: int
    text: str


class Conversations:
    """Thread-safe. `draw` gives the order of the sides on a screen."""

    def __init__(self, store: Store, sampler: Sampler, draw: Draw, lease: timedelta) -> None:
        self.store, self.sampler = store, sampler
        self._draw, self._lease = draw, lease
        self._writing: set[str] = set()  # conversations with a turn at work
        self._lock = threading.Lock()

    def turn(
        self, user: User, conversation_id: str, message: str | None
    ) -> Generator[Piece, None, None]:
        """Stream the answers of the next turn; when it has ended the pair is on the user's screen.

        Raises NotFound, Conflict or Invalid at once, TurnFailed or Conflict while it runs. Closing
        the iterator ends the request, and nothing is stored.
        """
        talk = conversations.get(self.store, user.user_id, conversation_id)
        if talk.pair_id is not None:
            raise Conflict(
                "The answers of this turn are there. Choose one of them first.", "turn_open"
            )
        return self._stream(user, talk, _next_messages(talk, message))

    def _stream(
        self, user: User, talk: Conversation, messages: list[Message]
    ) -> Generator[Piece, None, None]:
        with self._alone(talk.conversation_id):
            order = self._draw(2)
            with _in_plain_words(), closing(self._answers(messages)) as parts:
                sampled = yield from in_screen_order(parts, order)
            prompt_id = conversations.begin_turn(self.store, talk.conversation_id, messages)
            pair_id = pairs.add(
                self.store,
                prompt_id,
                sampled.prompt_token_ids,
                *sampled.completions,
                pool_id=talk.pool_id,
                conversation_id=talk.conversation_id,
                turn=talk.turn,
            )
            pairs.lease_pair(self.store, user.user_id, pair_id, lambda n: order, self._lease)

    def _answers(self, messages: list[Message]) -> Generator[Delta | Sampled, None, None]:
        champion = policies.champion(self.store)
        if champion is None:
            raise GenerationFailed("No policy serves yet.")
        sampler = self.sampler
        if sampler.client.traffic.resting:
            raise TurnFailed(
                "The model is learning from the picks and writes again when it is done. Nothing "
                "was stored; send the message again later.",
                "turn_learning",
            )
        with closing(
            sampler.client.stream(
                champion.policy_id, messages, n=2, seed=sampler.seed(2), sampling=sampler.sampling
            )
        ) as parts:
            yield from parts

    @contextmanager
    def _alone(self, conversation_id: str) -> Iterator[None]:
        """Raises Conflict while another tab has this turn written."""
        with self._lock:
            if conversation_id in self._writing:
                raise Conflict("The answers are being written in another tab already.", "turn_busy")
            self._writing.add(conversation_id)
        try:
            yield
        finally:
            with self._lock:
                self._writing.discard(conversation_id)


def in_screen_order(
    parts: Iterable[Delta | Sampled], order: str, clock: Callable[[], float] = time.monotonic
) -> Generator[Piece, None, Sampled]:
    """Pieces by their place on the screen, left before right in each step; returns the whole.

    `order`: 'ba' when the second completion is left.
    """
    pending = ["", ""]
    last = clock()
    for part in parts:
        if isinstance(part, Sampled):
            yield from _emptied(pending)
            if not any(completion.text.strip() for completion in part.completions):
                raise GenerationFailed("Both answers are empty.")
            return part
        pending[order.index("ab"[part.index])] += part.text
        if clock() - last >= (STEP_S if all(pending) else SLACK_S):
            yield from _emptied(pending)
            last = clock()
    raise GenerationFailed("The answers broke off.")


def _emptied(pending: list[str]) -> Iterator[Piece]:
    for at, text in enumerate(pending):
        if text:
            yield Piece(at, text)
    pending[:] = ["", ""]


def _next_messages(talk: Conversation, message: str | None) -> list[Message]:
    """Raises Invalid."""
    if not talk.needs_message:
        if message is not None:
            raise Invalid("The message of this turn is given. Start it without one.", "turn_given")
        return talk.messages
    if message is None or not message.strip():
        raise Invalid("Write a message first.", "message_empty")
    if len(message) > LONGEST:
        raise Invalid(
            f"A message has at most {LONGEST:,} characters. Shorten it.",
            "message_long",
            most=LONGEST,
        )
    if not is_text(message):
        raise Invalid("The text holds characters that are not valid Unicode.", "not_unicode")
    return [*talk.messages, {"role": "user", "content": message}]


@contextmanager
def _in_plain_words() -> Iterator[None]:
    """What vLLM says names policies, which annotators must not know."""
    try:
        yield
    except PromptRefused as refusal:
        raise TurnRefused(
            "The model cannot go on from here; the conversation may be too long for it. "
            "End it and start a new one."
        ) from refusal
    except GenerationFailed as failure:
        log.warning("a turn of a conversation failed: %s", failure)
        raise TurnFailed(
            "The model did not finish its answers. Nothing was stored; send the message again."
        ) from failure
