"""One annotator's flow: the next pair, a pick, undo, own picks. Pages and the API both call it."""

from __future__ import annotations

import math
import random
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta

from annotate import views
from annotate.conversations import Conversations, Piece
from annotate.progress import ProgressBook
from annotate.sampler import Sampler
from annotate.supply import Overlap, drawn, is_sampled
from annotate.views import Item, Screen, Waiting
from store import conversations, guidelines, history, judgments, pairs, policies, pools, prompts
from store.conversations import Conversation
from store.database import Store
from store.judgments import NewJudgment
from store.pairs import SIDES, Lease
from store.pools import Pool
from store.rows import Invalid, Kind, NotFound, User, utc_now
from train.policy.server import PolicyServer

KINDS: tuple[Kind, ...] = ("pair", "four", "conversation")
MODES: dict[Kind, str] = {"pair": "pair", "four": "best_worst", "conversation": "conversation"}


@dataclass(frozen=True)
class DeskConfig:
    reasons: tuple[str, ...] = ("accuracy", "helpfulness", "clarity", "tone", "safety")
    skip_reasons: tuple[str, ...] = ("not_my_field", "unclear_prompt", "other_language", "too_long")
    flag_reasons: tuple[str, ...] = ("broken", "harmful", "private_data", "same_answers")
    daily_goal: int = 80  # picks; a person can set another for themselves
    overlap_share: float = 0.1  # of the pairs, judged by several annotators
    overlap_annotators: int = 2  # that judge such a pair
    fold_height: int = 480  # pixels of an answer before it is folded
    leaderboard: bool = False  # names and picks of today, for every annotator

    def __post_init__(self) -> None:
        for key in ("reasons", "skip_reasons", "flag_reasons"):
            if not all(0 < len(reason) <= 40 for reason in getattr(self, key)):
                raise Invalid(f"desk.{key} has reasons of 1 to 40 characters.")
            if len(getattr(self, key)) > 20:
                raise Invalid(f"desk.{key} has at most 20 reasons.")
        if self.daily_goal < 1 or self.overlap_annotators < 1:
            raise Invalid("desk.daily_goal and desk.overlap_annotators must be at least 1.")
        if not 0 <= self.overlap_share <= 1:
            raise Invalid("desk.overlap_share is a share from 0 to 1.")
        if self.fold_height < 100:
            raise Invalid("desk.fold_height must be at least 100 pixels.")

    @property
    def overlap(self) -> Overlap:
        return Overlap(self.overlap_share, self.overlap_annotators)


class Desk:
    """Thread-safe. `rng` draws the order of the sides and the pool that a pair comes from."""

    def __init__(
        self,
        store: Store,
        sampler: Sampler,
        server: PolicyServer,
        config: DeskConfig | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.store, self.sampler, self.server = store, sampler, server
        self.config = config or DeskConfig()
        self.progress = ProgressBook(store, self.config.daily_goal, self.config.leaderboard)
        self.lease = timedelta(seconds=sampler.config.lease_s)
        self._rng = rng or random.SystemRandom()
        self.conversations = Conversations(store, sampler, self.draw, self.lease)

    def draw(self, n: int) -> str:
        """The order of n sides on one screen, drawn for each annotator and pair: 'ba', 'cadb'."""
        sides = list(SIDES[:n])
        self._rng.shuffle(sides)
        return "".join(sides)

    # --- the next one ---------------------------------------------------------------------------

    def next_lease(self, user: User, kinds: Sequence[Kind] = ("pair",)) -> Lease | None:
        """What this annotator holds, else a free one; None when none is ready."""
        lease = pairs.held_by(self.store, user.user_id, kinds)
        if lease is None:
            order = self._drawn(user, kinds)
            lease = pairs.lease_next(
                self.store, user.user_id, self.draw, self.lease, _ids(order), kinds
            )
        self.sampler.active(user, waiting=lease is None)
        return lease

    def judge(
        self, user: User, new: NewJudgment, kinds: Sequence[Kind] = ("pair",)
    ) -> tuple[bool, Lease | None]:
        """Whether it was stored now (False: this id was stored before), and the next pair. On disk
        twice before it returns.

        Raises Invalid, NotFound (never shown to this user) or Conflict (judged already).
        """
        order = _ids(self._drawn(user, kinds))
        stored, lease = judgments.judge_and_lease(
            self.store, user, new, self.draw, self.lease, order, kinds
        )
        self.sampler.active(user, waiting=lease is None)
        return stored, lease

    def judge_only(self, user: User, new: NewJudgment) -> bool:
        """`judge` without a next pair."""
        return judgments.judge(self.store, user, new)

    # --- the page -------------------------------------------------------------------------------

    def screen(self, user: User, aside: str | None = None) -> Screen:
        """What this annotator holds, with a lease that is no older than a quarter of its life, or
        the next one. `aside`: the id of a pair to go on without for now."""
        if aside is not None:
            pairs.put_aside(self.store, user.user_id, aside)
        allowed = self._drawn(user)
        held = pairs.held_by(self.store, user.user_id, KINDS)
        if held and held.expires - utc_now() < self.lease * 0.75:
            held = pairs.renew(self.store, user.user_id, held, self.lease)
        item = self._leased(user, held) if held else self._next(user, allowed)
        return self._screen(user, allowed, item)

    def judge_and_show(self, user: User, new: NewJudgment) -> tuple[bool, Screen]:
        """`judge` with the whole screen that comes after it, which may be a conversation."""
        allowed = self._drawn(user)
        if self._talk(user, allowed) or (allowed and allowed[0].mode == "conversation"):
            stored = self.judge_only(user, new)
            held = pairs.held_by(self.store, user.user_id, KINDS)
            item = self._leased(user, held) if held else self._next(user, allowed)
        else:
            order = _ids(allowed)
            stored, lease = judgments.judge_and_lease(
                self.store, user, new, self.draw, self.lease, order, KINDS
            )
            item = self._leased(user, lease) if lease else self._without_pair(user, allowed)
        return stored, self._screen(user, allowed, item)

    def undo(self, user: User, judgment_id: str | None = None) -> tuple[bool, Screen]:
        """Take back this own pick, or the newest one, and show its pair as it was judged.

        False without one; then the screen is what it was. Raises NotFound or Conflict, see
        judgments.undo.
        """
        undone = judgments.undo(self.store, user, self.lease, judgment_id)
        screen = self.screen(user)
        item = screen.item
        if undone and item and item.pair_id == undone.pair_id:
            screen = replace(screen, item=replace(item, before=undone.pick))
        return undone is not None, screen

    def retract(self, user: User, judgment_id: str) -> bool:
        """Whether the pair is on the screen of the pick's author again."""
        return judgments.retract(self.store, user, judgment_id, self.lease)

    def turn(
        self, user: User, conversation_id: str, message: str | None
    ) -> Generator[Piece | Screen, None, None]:
        """The next turn of a conversation, see Conversations.turn; at its end the screen."""
        pieces = self.conversations.turn(user, conversation_id, message)

        def streamed() -> Generator[Piece | Screen, None, None]:
            yield from pieces
            yield self.screen(user)

        return streamed()

    def end_conversation(self, user: User, conversation_id: str) -> Screen:
        conversations.end(self.store, user, conversation_id)
        return self.screen(user)

    # --- parts ----------------------------------------------------------------------------------

    def _drawn(self, user: User, kinds: Sequence[Kind] = KINDS) -> list[Pool]:
        """The pools of this annotator, the one that the next pair should come from first."""
        modes = {MODES[kind] for kind in kinds}
        mine = pools.for_user(pools.everyone(self.store), user)
        order = drawn([pool for pool in mine if pool.mode in modes], self._rng)
        if self.sampler.waits(user):
            # For the pair that was drawn before: a new draw with every look would end in a
            # conversation sooner or later, whatever the weights are.
            order.sort(key=is_sampled, reverse=True)
        return order

    def _next(self, user: User, allowed: Sequence[Pool]) -> Item | None:
        """Something new: the talk at work, else of the pool that was drawn first."""
        if talk := self._talk(user, allowed):
            return self._talk_item(user, talk)
        if allowed and allowed[0].mode == "conversation":
            return self._new_talk(user, allowed)
        lease = pairs.lease_next(
            self.store, user.user_id, self.draw, self.lease, _ids(allowed), KINDS
        )
        return self._leased(user, lease) if lease else self._without_pair(user, allowed)

    def _without_pair(self, user: User, allowed: Sequence[Pool]) -> Item | None:
        """A pair was drawn and none is ready. Who can get one waits for it; others talk."""
        empty = self.sampler.out_of_prompts
        coming = any(is_sampled(pool) and pool.pool_id not in empty for pool in allowed)
        return None if coming else self._new_talk(user, allowed)

    def _talk(self, user: User, allowed: Sequence[Pool]) -> Conversation | None:
        """The conversation at work."""
        if not any(pool.mode == "conversation" for pool in allowed):
            return None
        return conversations.current_of(self.store, user.user_id)

    def _new_talk(self, user: User, allowed: Sequence[Pool]) -> Item | None:
        """A new conversation of the first such pool: with an opening of its prompts if it has tags,
        else the annotator writes the first message."""
        pool = next((pool for pool in allowed if pool.mode == "conversation"), None)
        if pool is None:
            return None
        champion = policies.champion(self.store)
        opening = None
        if pool.tags and champion:
            found = prompts.least_sampled(self.store, champion.policy_id, pool, 1)
            opening = found[0] if found else None
        return self._talk_item(user, conversations.open(self.store, user, pool, opening))

    def _talk_item(self, user: User, talk: Conversation) -> Item:
        if talk.pair_id is None:
            return views.waiting_turn(talk)
        lease = pairs.lease_pair(self.store, user.user_id, talk.pair_id, self.draw, self.lease)
        return views.leased(lease, talk.turns)

    def _leased(self, user: User, lease: Lease) -> Item:
        turns = None
        if lease.conversation_id:
            with suppress(NotFound):  # it ended in another tab; the pair can still be judged
                turns = conversations.get(self.store, user.user_id, lease.conversation_id).turns
        return views.leased(lease, turns)

    def _screen(self, user: User, allowed: Sequence[Pool], item: Item | None) -> Screen:
        self.sampler.active(user, waiting=item is None)
        guideline = guidelines.current(self.store)
        return Screen(
            item,
            None if item else self._waiting(allowed),
            self.progress.of(user),
            guideline.version if guideline else None,
            history.newest(self.store, user.user_id),
        )

    def _waiting(self, allowed: Sequence[Pool]) -> Waiting:
        if not allowed:
            return Waiting("no_pool", "No pool is for you. Ask a researcher to assign one.")
        if self.server.state == "starting":
            return Waiting(
                "starting",
                "The policy server is starting. The first pair comes in about half a minute.",
            )
        if self.server.state == "resting":
            return _learning(self.server.back_in_s())
        if self.server.state == "down":
            return Waiting(
                "down",
                "The policy server is down and starts again by itself. "
                "Your picks are safe; pairs come back soon.",
            )
        if all(pool.pool_id in self.sampler.out_of_prompts for pool in allowed):
            return Waiting(
                "no_prompts", "There are no prompts to sample from. A researcher can add some."
            )
        return Waiting("sampling", "New pairs are being sampled. The next one comes in a moment.")


def _learning(back_in_s: float | None) -> Waiting:
    """The policy server stands aside for a run."""
    if back_in_s is None:
        return Waiting(
            "learning", "The model is learning from the picks. New pairs come when it is done."
        )
    minutes = math.ceil(back_in_s / 60)
    about = "about a minute" if minutes <= 1 else f"about {minutes} minutes"
    return Waiting(
        "learning",
        f"The model is learning from the picks. New pairs come in {about}.",
        max(1, minutes),
    )


def _ids(allowed: Sequence[Pool]) -> list[str]:
    return [pool.pool_id for pool in allowed]
