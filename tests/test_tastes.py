"""Simulated tastes: scores by hand, ties, noise."""

from __future__ import annotations

import random

import pytest

from annotate.simulate import Plan
from annotate.tastes import TASTES, choose, rank
from store.rows import Invalid

LIST = "Here they are:\n- Bees make honey.\n* Bees dance.\n"
WARM = "Hello, great question! Bees make honey. I hope that helps!"
CAREFUL = "As far as I know, bees make honey, and they probably dance. I think so."
DETAILED = (
    "Bees make honey from the nectar of flowers. They dance to show the others where to fly. "
    "Short one. Bees make honey from the nectar of flowers."
)


@pytest.mark.parametrize(
    ("taste", "text", "score"),
    [
        ("concise", "", 0),
        ("concise", "Bees make honey.", -3),
        ("concise", "Bees  make\nhoney from nectar.", -5),
        ("lists", "Bees make honey.", -0.5),
        ("lists", LIST, 1.5),
        ("lists", "- one\n\n- two\n- three", 3),
        ("warm", "Bees make honey.", 0),
        ("warm", WARM, 3.5),
        ("warm", "HELLO!", 1.25),
        ("careful", "Bees make honey.", 0),
        ("careful", CAREFUL, 3),
        ("detailed", "Bees make honey.", 0),
        ("detailed", DETAILED, 2),
        ("detailed", "", 0),
    ],
)
def test_score(taste: str, text: str, score: float) -> None:
    assert TASTES[taste](text) == score


@pytest.mark.parametrize("taste", TASTES)
def test_equal_scores_are_a_tie_whatever_the_noise(taste: str) -> None:
    rng = random.Random(0)
    assert {choose(TASTES[taste], "Same.", "Same.", 0.5, rng) for _ in range(50)} == {"tie"}


@pytest.mark.parametrize(
    ("taste", "better", "worse"),
    [
        ("concise", "Yes.", "Yes, that is right."),
        ("lists", LIST, "Bees make honey and dance."),
        ("warm", WARM, "Bees make honey."),
        ("careful", CAREFUL, "Bees make honey."),
        ("detailed", DETAILED, "Bees make honey."),
    ],
)
def test_without_noise_the_better_side_always_wins(taste: str, better: str, worse: str) -> None:
    rng = random.Random(0)
    for _ in range(50):
        assert choose(TASTES[taste], better, worse, 0.0, rng) == "left"
        assert choose(TASTES[taste], worse, better, 0.0, rng) == "right"


@pytest.mark.parametrize("noise", [0.1, 0.3])
def test_noise_is_the_share_of_picks_on_the_other_side(noise: float) -> None:
    rng = random.Random(0)
    draws = [choose(TASTES["concise"], "Yes.", "Yes it is.", noise, rng) for _ in range(20_000)]
    assert set(draws) == {"left", "right"}
    assert draws.count("right") / len(draws) == pytest.approx(noise, abs=0.01)


def test_best_and_worst_of_four() -> None:
    taste, rng = TASTES["concise"], random.Random(1)
    texts = ["Yes it is.", "Yes.", "Yes it is so.", "Yes it is."]
    assert rank(taste, texts, 0.0, rng) == (1, 2)
    assert rank(taste, ["Same."] * 4, 0.5, rng) is None
    turned = sum(rank(taste, texts, 0.25, rng) == (2, 1) for _ in range(2000))
    assert abs(turned - 500) < 4 * (2000 * 0.25 * 0.75) ** 0.5


def test_there_are_five_tastes_and_each_is_described() -> None:
    assert len(TASTES) >= 5
    assert all(taste.__doc__ for taste in TASTES.values())


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"taste": "sour"}, "Unknown taste 'sour': choose concise, lists,"),
        ({"picks": 0}, "picks and annotators are at least 1"),
        ({"annotators": 0}, "picks and annotators are at least 1"),
        ({"noise": 0.6}, "noise lies between 0 and 0.5"),
        ({"noise": -0.1}, "noise lies between 0 and 0.5"),
    ],
)
def test_a_plan_that_cannot_be_carried_out(values: dict[str, object], sentence: str) -> None:
    with pytest.raises(Invalid) as caught:
        Plan(**({"taste": "concise", "picks": 10} | values))  # type: ignore[arg-type]
    assert sentence in str(caught.value)
