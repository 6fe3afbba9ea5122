"""How many pairs of which pool are kept ready, and which pool is asked first."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from annotate.supply import Overlap, Seat, drawn, is_worth_showing, targets
from store.pools import Pool
from store.rows import Completion, utc_now

NONE = Overlap(share=0.0)


def pool(pool_id: str = "everything", **fields: Any) -> Pool:
    plain = {
        "name": pool_id,
        "mode": "pair",
        "tags": (),
        "language": None,
        "weight": 1.0,
        "annotators": (),
        "overlap_share": None,
        "overlap_annotators": None,
        "turns": 4,
        "active": True,
        "created": utc_now(),
    }
    return Pool(pool_id, **(plain | fields))


def test_each_annotator_wants_pairs_spread_over_their_pools_by_weight() -> None:
    a, b, c = pool("a", weight=2), pool("b"), pool("c", weight=0.01)
    assert targets([Seat([a, b], 6)], NONE) == {"a": 4, "b": 2}
    assert targets([Seat([a, b], 6), Seat([b], 6)], NONE) == {"a": 4, "b": 8}
    assert targets([Seat([a, b, c], 4)], NONE) == {"a": 3, "b": 2, "c": 1}  # at least one of each
    assert targets([Seat([], 4)], NONE) == {}


def test_pools_without_prompts_leave_their_share_to_the_others() -> None:
    empty, small = pool("empty", weight=999), pool("small")
    assert targets([Seat([empty, small], 4)], NONE) == {"empty": 4, "small": 1}
    assert targets([Seat([empty, small], 4)], NONE, {"empty"}) == {"empty": 1, "small": 4}
    assert targets([Seat([empty], 4)], NONE, {"empty"}) == {"empty": 1}  # to see when it has some
    assert targets([Seat([empty], 0)], NONE, {"empty"}) == {}


def test_one_pool_gets_all() -> None:
    assert targets([Seat([pool()], 4)] * 3, NONE) == {"everything": 12}


def test_conversations_are_not_sampled_ahead() -> None:
    talk = pool("talk", mode="conversation", weight=9)
    assert targets([Seat([pool(), talk], 4)], NONE) == {"everything": 4}
    assert targets([Seat([talk], 4)], NONE) == {}


def test_with_the_buffer_off_nothing_is_wanted_but_by_those_who_wait() -> None:
    assert targets([Seat([pool()], 0)], NONE) == {}
    assert targets([Seat([pool()], 0), Seat([pool()], 1)], NONE) == {"everything": 1}


@pytest.mark.parametrize(
    ("share", "annotators", "seats", "expected"),
    [
        (0.0, 2, 10, 40),
        (1.0, 2, 10, 20),  # each pair fills two screens
        (0.5, 3, 10, 20),
        (1.0, 5, 2, 4),  # there are two to fill, and each sees a pair once
        (1.0, 5, 1, 4),
        (0.1, 2, 10, 37),
    ],
)
def test_pairs_for_several_annotators_are_worth_more(
    share: float, annotators: int, seats: int, expected: int
) -> None:
    overlap = Overlap(share, annotators)
    assert targets([Seat([pool()], 4)] * seats, overlap) == {"everything": expected}
    own = pool(overlap_share=share, overlap_annotators=annotators)
    assert targets([Seat([own], 4)] * seats, NONE) == {"everything": expected}


def test_share_of_overlapping_pairs() -> None:
    rng = random.Random(1)
    drawn_wanted = Counter(Overlap(0.1, 3).draw(rng) for _ in range(10_000))
    assert drawn_wanted.keys() == {1, 3}
    assert abs(drawn_wanted[3] - 1000) < 4 * (10_000 * 0.1 * 0.9) ** 0.5
    assert {Overlap(0, 3).draw(rng) for _ in range(100)} == {1}
    assert {Overlap(1, 3).draw(rng) for _ in range(100)} == {3}


def test_pools_come_first_by_weight() -> None:
    pools, rng, draws = (
        [pool("a", weight=3), pool("b"), pool("c", weight=0.5)],
        random.Random(1),
        9000,
    )
    first = Counter(drawn(pools, rng)[0].pool_id for _ in range(draws))
    for pool_id, share in {"a": 3 / 4.5, "b": 1 / 4.5, "c": 0.5 / 4.5}.items():
        error = (draws * share * (1 - share)) ** 0.5
        assert abs(first[pool_id] - draws * share) < 4 * error
    assert sorted(p.pool_id for p in drawn(pools, rng)) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["A", "B"], True),
        (["A", "A "], False),
        (["A", " "], False),
        (["A", "B", "C", "D"], True),
        (["A", "B", "C", "B"], False),  # neither of two equal ones is better
    ],
)
def test_what_is_worth_showing(texts: list[str], expected: bool) -> None:
    assert is_worth_showing([Completion(text) for text in texts]) is expected
