"""Krippendorff's alpha of what people picked."""

from __future__ import annotations

from collections import Counter

import pytest

from store.agreement import agreement, krippendorff_alpha
from store.database import Store
from store.rows import User, Verdict
from tests.stored import add_pair, add_policy, add_user, judge, show

# Three coders and fifteen units, four values, "*" for none; its nominal alpha is known as 0.691.
CODERS = ("*****34121133*3", "1*213343*******", "**21344*21133*4")


def test_alpha_of_a_known_example() -> None:
    units = Counter(
        tuple(said.count(value) for value in "1234") for said in zip(*CODERS, strict=True)
    )
    assert krippendorff_alpha(units) == pytest.approx(0.691, abs=0.0005)


@pytest.mark.parametrize(
    ("units", "alpha"),
    [
        ({(2, 0): 1, (0, 2): 1}, 1.0),
        ({(1, 1): 2}, -0.5),  # of 4 values: 1 - 3 * 4 / 8
        ({(2, 0): 2}, None),
        ({(1, 0): 1, (0, 1): 1}, None),
        ({}, None),
    ],
)
def test_alpha_at_its_ends(units: dict[tuple[int, ...], int], alpha: float | None) -> None:
    assert krippendorff_alpha(units) == alpha


def test_people_who_see_a_pair_in_another_order_agree_on_it(store: Store) -> None:
    add_policy(store)
    ann, bob = add_user(store, "ann"), add_user(store, "bob")
    bot = add_user(store, "bot", source="simulated")
    said: dict[str, Verdict] = {}
    for number in range(3):
        said[add_pair(store, f"Question {number}?", wanted=3)] = "left" if number else "right"
    judged(store, ann, "ab", said)
    assert agreement(store) is None, "each pair was judged once"
    judged(store, bob, "ba", {pair_id: OTHER[verdict] for pair_id, verdict in said.items()})
    judged(store, bot, "ab", dict.fromkeys(said, "both_bad"))
    assert agreement(store) == 1.0, "of what people say"

    more = [add_pair(store, f"Matter {number}?", wanted=2) for number in range(3)]
    judged(store, ann, "ab", dict.fromkeys(more, "tie"))
    judged(store, bob, "ab", dict.fromkeys(more, "both_bad"))
    assert agreement(store) == pytest.approx(1 - 11 * 6 / (144 - 4**2 - 2**2 - 3**2 - 3**2))


OTHER: dict[Verdict, Verdict] = {"left": "right", "right": "left"}


def judged(store: Store, user: User, order: str, verdicts: dict[str, Verdict]) -> None:
    """All of these pairs, in the order in which the desk shows them."""
    while pair_id := show(store, user, order):
        judge(store, user, pair_id, verdicts[pair_id])
