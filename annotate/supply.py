"""How many pairs of which pool to keep ready, and which pool the next one comes from. Pure."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from store.pools import Pool
from store.rows import Completion, Mode

USUAL_S = 20.0  # for one pair, until a median is known
SIDES: dict[Mode, int] = {"pair": 2, "best_worst": 4}  # a conversation is sampled turn by turn


@dataclass(frozen=True)
class Overlap:
    """A share of the pairs goes to several annotators, so that their agreement can be measured."""

    share: float = 0.1
    annotators: int = 2

    def of(self, pool: Pool) -> Overlap:
        """The pool's own, where it has one."""
        share, annotators = pool.overlap_share, pool.overlap_annotators
        return Overlap(
            self.share if share is None else share,
            self.annotators if annotators is None else annotators,
        )

    def draw(self, rng: random.Random) -> int:
        """How many annotators one new pair should have."""
        return self.annotators if rng.random() < self.share else 1

    def screens(self, annotators: int) -> float:
        """That one pair fills on average, when so many annotators can take it."""
        return 1 + self.share * (min(self.annotators, annotators) - 1)


@dataclass(frozen=True)
class Seat:
    """One annotator at work: the pools they may take, and pairs to keep ready for them."""

    pools: Sequence[Pool]
    ready: int


def targets(
    seats: Sequence[Seat], overlap: Overlap, without_prompts: Collection[str] = ()
) -> dict[str, int]:
    """Pairs to keep ready, by pool id.

    Each seat wants its number spread over its pools by weight, and at least one of each. Pairs that
    several will judge count for several seats, but one seat sees each of them only once.
    `without_prompts`: ids of pools that gave nothing; they are still tried, for one pair, and the
    others share their weight.
    """
    wanted: Counter[str] = Counter()
    most: Counter[str] = Counter()
    takers: Counter[str] = Counter()
    pools: dict[str, Pool] = {}
    for seat in seats:
        sampled = [pool for pool in seat.pools if is_sampled(pool)]
        weights = sum(pool.weight for pool in sampled if pool.pool_id not in without_prompts)
        for pool in sampled if seat.ready else ():
            share = 1
            if pool.pool_id not in without_prompts:
                share = math.ceil(round(seat.ready * pool.weight / weights, 6))
            wanted[pool.pool_id] += share
            most[pool.pool_id] = max(most[pool.pool_id], share)
            takers[pool.pool_id] += 1
            pools[pool.pool_id] = pool
    return {
        pool_id: max(
            most[pool_id],
            math.ceil(wanted[pool_id] / overlap.of(pools[pool_id]).screens(takers[pool_id])),
        )
        for pool_id in wanted
    }


@dataclass(frozen=True)
class Buffer:
    """Pairs that are ready, and how long annotators can work with them alone."""

    pairs: int
    minutes: float | None  # None while nobody annotates


def buffer(pairs: int, annotators: int, seconds_per_pick: float | None, screens: float) -> Buffer:
    """`annotators`: at work now; `screens`: that one pair fills on average."""
    if not annotators:
        return Buffer(pairs, None)
    each = seconds_per_pick or USUAL_S
    return Buffer(pairs, round(pairs * screens * each / annotators / 60, 1))


def is_sampled(pool: Pool) -> bool:
    """Whether pairs of it are made ahead."""
    return pool.mode in SIDES


def drawn(pools: Sequence[Pool], rng: random.Random) -> list[Pool]:
    """All of them in random order; the chance to come first is the share of a pool's weight."""
    return sorted(pools, key=lambda pool: rng.random() ** (1 / pool.weight), reverse=True)


def is_worth_showing(completions: Sequence[Completion]) -> bool:
    """Empty completions teach nothing, and of two that are the same neither is better."""
    texts = {completion.text.strip() for completion in completions}
    return len(texts) == len(completions) and "" not in texts
