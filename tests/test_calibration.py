"""Calibration of a reward model against numbers worked out by hand."""

from __future__ import annotations

import math
from random import Random
from statistics import fmean

import pytest

from train.calibration import (
    COLDEST,
    HOTTEST,
    Point,
    ScoredPick,
    accuracy,
    calibrated,
    ece,
    fit_temperature,
    length_correlation,
    nll,
    points_of,
    reliability,
    report,
    sigmoid,
    softplus,
)
from train.interval import wilson


def points(*differences: float) -> list[Point]:
    return [Point(difference) for difference in differences]


@pytest.mark.parametrize(
    ("differences", "expected"),
    [((1.0, 2.0), 1.0), ((1.0, -2.0), 0.5), ((0.0,), 0.5), ((3.0, 0.0, -1.0, 0.5), 0.625)],
)
def test_accuracy_counts_equal_rewards_as_half(
    differences: tuple[float, ...], expected: float
) -> None:
    assert accuracy(points(*differences)) == expected


def test_nll_of_known_differences() -> None:
    assert nll(points(0.0)) == pytest.approx(math.log(2))
    # P = sigmoid(ln 3) = 3/4 twice, and 1/4 once: the mean of -ln of them
    log3 = math.log(3)
    assert nll(points(log3, log3, -log3)) == pytest.approx((2 * math.log(4 / 3) + math.log(4)) / 3)
    assert nll(points(2 * log3), temperature=2) == pytest.approx(math.log(4 / 3))
    assert nll(points(1e6)) == 0.0 and nll(points(-1e6)) == 1e6


def test_softplus_does_not_overflow() -> None:
    assert softplus(1000.0) == 1000.0 and softplus(-1000.0) == 0.0
    assert softplus(0.0) == math.log(2)


@pytest.mark.parametrize(
    ("size", "right", "wrong"), [(1.0, 3, 1), (2.0, 3, 1), (5.0, 9, 1), (0.5, 6, 4)]
)
def test_of_many_picks_the_temperature_has_a_closed_form_where_all_differences_are_equal(
    size: float, right: int, wrong: int
) -> None:
    """sigmoid(size / T) must be the share that is right, so T = size / ln(right / wrong)."""
    them = points(*[size] * 1000 * right, *[-size] * 1000 * wrong)
    found = fit_temperature(them)
    assert found == pytest.approx(size / math.log(right / wrong), rel=0.01)
    assert ece(them, found) == pytest.approx(0, abs=2e-3)
    assert nll(them, found) <= nll(them)


def test_of_few_picks_the_temperature_stays_near_one() -> None:
    assert fit_temperature([]) == fit_temperature(points(0.0, 0.0)) == pytest.approx(1.0)
    assert 0.5 < fit_temperature(points(1.0, 2.0, 0.5)) < 1  # all right
    assert 1 < fit_temperature(points(-1.0, -2.0)) < 3
    assert COLDEST <= fit_temperature(points(*[1.0] * 999)) < 0.3
    assert fit_temperature(points(*[-1e6] * 99)) == pytest.approx(HOTTEST)


def test_the_temperature_is_the_most_likely_one() -> None:
    """Normal around 0: ln T costs (ln T)^2 / (2 * 0.5^2) nats."""
    for many in range(1, 40):
        them = points(*[math.sin(place * many) * 4 + 0.6 for place in range(many)])
        best = fit_temperature(them)

        def cost(t: float, them: list[Point] = them) -> float:
            return len(them) * nll(them, t) + 2 * math.log(t) ** 2

        assert all(cost(best) <= cost(best * other) for other in (0.1, 0.5, 0.99, 1.01, 2, 9))


def honest_picks(n: int, rng: Random, sure: float = 1.0) -> list[ScoredPick]:
    """People who pick as often as sigmoid of `sure` times the difference says."""
    found = []
    for place in range(n):
        difference = rng.gauss(0, 2)
        picked = 1 if rng.random() < sigmoid(sure * difference) else -1
        found.append(ScoredPick((picked * difference,), (0,), prompt_id=f"prompt-{place}"))
    return found


@pytest.mark.parametrize("n", [10, 20, 40])
def test_few_picks_do_not_spoil_an_honest_model(n: int) -> None:
    rng = Random(n)
    fresh = points_of(honest_picks(4000, rng))
    found = [fit_temperature(points_of(honest_picks(n, rng))) for _ in range(60)]
    assert fmean(nll(fresh, t) for t in found) < nll(fresh) + 0.015


def test_what_is_called_calibrated_comes_true_on_other_picks() -> None:
    """The temperature of each fold is fitted on the others."""
    rng = Random(7)
    told, true = [], []
    for _ in range(40):
        held_out = honest_picks(20, rng, sure=0.4)
        told.append(report(held_out)["nll_calibrated"])
        true.append(
            nll(points_of(honest_picks(400, rng, sure=0.4)), report(held_out)["temperature"])
        )
    assert fmean(told) == pytest.approx(fmean(true), abs=0.02)


def test_picks_of_one_prompt_are_calibrated_together() -> None:
    same = [ScoredPick((2.0,), (0,), prompt_id="one"), ScoredPick((-1.0,), (0,), prompt_id="one")]
    assert calibrated(same) == same, "there is nothing to fit a temperature on"


def test_reliability_and_ece_of_four_points() -> None:
    """Confidences 3/4 (two, one right) and 9/10 (two, both right), in bins of 10 % from 50 %."""
    them = points(math.log(3), -math.log(3), math.log(9), math.log(9))
    low, high = reliability(them, bins=5)
    assert (low.low, low.high, low.n) == (0.7, 0.8, 2)
    assert (low.confidence, low.accuracy) == (pytest.approx(0.75), 0.5)
    assert (high.low, high.n, high.accuracy) == (pytest.approx(0.8), 2, 1.0)
    assert high.confidence == pytest.approx(0.9)
    assert ece(them, bins=5) == pytest.approx((2 * 0.25 + 2 * 0.1) / 4)


def test_the_surest_points_fall_in_the_last_bin() -> None:
    (only,) = reliability(points(800.0))
    assert (only.high, only.confidence, only.accuracy) == (1.0, 1.0, 1.0)


def test_length_correlation_does_not_depend_on_the_order_of_the_sides() -> None:
    them = [Point(1.0, longer_by=10), Point(-2.0, longer_by=10)]
    turned = [Point(1.0, longer_by=10), Point(2.0, longer_by=-10)]
    # (1 * 10 - 2 * 10) / sqrt(5 * 200)
    assert length_correlation(them) == pytest.approx(-10 / math.sqrt(1000))
    assert length_correlation(turned) == pytest.approx(length_correlation(them))
    assert length_correlation([Point(2.0, longer_by=6), Point(-1.0, longer_by=-3)]) == 1.0
    assert length_correlation([Point(2.0), Point(-1.0)]) == 0.0


def test_a_pick_of_four_counts_as_much_as_a_pair() -> None:
    pair = ScoredPick((1.0,), (0,), "A", "ann", 2)
    four = ScoredPick((-1.0, -1.0, -1.0, 1.0, 1.0), (0, 0, 0, 0, 0), "B", "bob", None)
    found = report([pair, four])
    assert found["accuracy"] == pytest.approx((1 + 0.4) / 2)
    assert (found["accuracy_low"], found["accuracy_high"]) == wilson(found["accuracy"], 2)
    assert found["margin"] == pytest.approx((1.0 - 0.2) / 2)
    assert found["accuracy_by_pool"]["A"]["accuracy"] == 1.0
    assert found["accuracy_by_pool"]["B"] | {"ece": 0} == {
        "n": 1, "ece": 0, "accuracy": pytest.approx(0.4), "accuracy_low": wilson(0.4, 1)[0],
        "accuracy_high": wilson(0.4, 1)[1],
    }  # fmt: skip
    assert {name: one["n"] for name, one in found["accuracy_by_annotator"].items()} == {
        "ann": 1,
        "bob": 1,
    }
    assert list(found["accuracy_by_strength"]) == ["2"]


def test_report_leaves_out_groups_and_picks_without_a_name_or_a_better_side() -> None:
    found = report([ScoredPick((2.0,), (5,)), ScoredPick((), (), "A", "ann")])
    assert found["accuracy_by_pool"] == found["accuracy_by_annotator"] == {}
    assert found["length_correlation"] == 1.0
    assert found["nll_calibrated"] == found["nll"], "one pick is no one else's temperature"
    assert report([ScoredPick((), ())]) == report([]) == {}
