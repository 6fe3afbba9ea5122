"""One annotator's flow: the next pair, a pick, undo, progress. Pages and the API both call it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import timedelta

from annotate.sampler import Sampler
from annotate.views import AnnotatorProgress, PairView
from store import judgments, pairs, statistics, users
from store.database import Store
from store.pairs import Lease, Side
from store.rows import NotFound, User, Verdict
from train.policy.server import PolicyServer


class Desk:
    def __init__(self, store: Store, sampler: Sampler, server: PolicyServer) -> None:
        self.store, self.sampler, self.server = store, sampler, server
        self._lease = timedelta(seconds=sampler.config.lease_s)
        self._sides = random.SystemRandom()

    def next_pair(self, user_id: str) -> PairView | None:
        """The pair this annotator holds, else a free one; None when none is ready."""
        self.sampler.active(user_id)
        held = pairs.held_by(self.store, user_id)
        if held is None:
            side: Side = self._sides.choice(("a", "b"))  # drawn for each annotator and pair
            if pairs.lease_next(self.store, user_id, side, self._lease) is None:
                return None
            self.sampler.wake()
            held = pairs.held_by(self.store, user_id)
        return _view(held) if held else None

    def judge(
        self,
        user_id: str,
        pair_id: str,
        verdict: Verdict,
        *,
        judgment_id: str,
        strength: int | None = None,
        reasons: Sequence[str] = (),
        comment: str | None = None,
        edited_text: str | None = None,
        ms_spent: int | None = None,
    ) -> bool:
        """True when stored, False when this id was stored before. On disk twice before it returns.

        Raises Invalid, NotFound (never shown to this user) or Conflict (judged already).
        """
        new = judgments.NewJudgment(
            judgment_id, pair_id, verdict, strength, tuple(reasons), comment, edited_text, ms_spent
        )
        return judgments.judge(self.store, self._user(user_id), new)

    def undo(self, user_id: str) -> PairView | None:
        """Take back the newest own pick that counts and show its pair again; None without one."""
        newest = judgments.newest_of(self.store, user_id)
        if newest is None:
            return None
        self.retract(user_id, newest)
        return self.next_pair(user_id)

    def retract(self, user_id: str, judgment_id: str) -> None:
        judgments.retract(self.store, self._user(user_id), judgment_id, self._lease)

    def progress(self, user_id: str) -> AnnotatorProgress:
        own = statistics.own(self.store, user_id)
        return AnnotatorProgress(own.today, own.total, own.median_seconds)

    def waiting_note(self) -> str:
        """Why no pair is ready: fixed sentences, since details would name policies. They are in
        the log."""
        if self.server.state == "starting":
            return "The policy server is starting. The first pair comes in about half a minute."
        if self.server.state == "down":
            return (
                "The policy server is down and starts again by itself. "
                "Your picks are safe; pairs come back soon."
            )
        if self.sampler.out_of_prompts:
            return "There are no prompts to sample from. A researcher can add some."
        return "New pairs are being sampled. The next one comes in a moment."

    def _user(self, user_id: str) -> User:
        user = users.get(self.store, user_id)
        if user is None:
            raise NotFound("This user does not exist any more. Sign in again.")
        return user


def _view(lease: Lease) -> PairView:
    a, b = lease.a_text, lease.b_text
    left, right = (a, b) if lease.left_side == "a" else (b, a)
    return PairView(lease.pair_id, lease.messages, left, right, lease.expires)
