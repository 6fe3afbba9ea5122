"""How well a reward model predicts held-out picks, and the temperature that makes it honest. Pure.

A reward difference d, picked answer minus the other one, claims that people pick so with the
probability sigmoid(d / T). T is fitted on held-out picks (Guo et al. 2017, arXiv 1706.04599), so
that "80 %" comes true in 80 of 100 cases. Some 40 picks tell T badly, so it is held near 1, and
what is said to be calibrated is measured on picks that it was not fitted on. Every pick counts
once, however many comparisons it gave.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from train.interval import accuracy_of

BINS = 10  # at most, of equal width between a confidence of 50 % and of 100 %
EACH_BIN = 10  # picks in the mean: the error of a bin with fewer is chance
COLDEST, HOTTEST = 0.1, 10.0
SPREAD = 0.5  # of ln T before any pick is seen: its standard deviation
FOLDS = 5  # parts of the held-out picks, each measured with the T of the others


@dataclass(frozen=True)
class Point:
    """One scored comparison."""

    difference: float  # reward of the picked answer minus that of the other one
    share: float = 1.0  # of its pick: comparisons of one pick add up to 1
    longer_by: int = 0  # characters by which the picked answer is longer


@dataclass(frozen=True)
class ScoredPick:
    """A held-out pick with what its comparisons came to. Ties and edits are no part of it."""

    differences: tuple[float, ...]
    longer_by: tuple[int, ...]  # characters, like `differences`
    pool: str | None = None
    annotator: str | None = None
    strength: int | None = None
    prompt_id: str | None = None

    def points(self) -> list[Point]:
        share = 1 / max(1, len(self.differences))
        return [
            Point(difference, share, longer)
            for difference, longer in zip(self.differences, self.longer_by, strict=True)
        ]


@dataclass(frozen=True)
class Bin:
    """Comparisons with a confidence from `low` to `high`: what was claimed, and what came true."""

    low: float
    high: float
    n: float  # picks; a fraction where one of several comparisons of a pick fell in here
    confidence: float
    accuracy: float


def right(difference: float) -> float:
    """1 when the model prefers the picked answer, 0.5 when it has no preference."""
    return 0.5 if difference == 0 else float(difference > 0)


def accuracy(points: Sequence[Point]) -> float:
    return sum(right(p.difference) * p.share for p in points) / sum(p.share for p in points)


def nll(points: Sequence[Point], temperature: float = 1.0) -> float:
    """Mean of -ln P(what was picked), in nats; ln 2 knows nothing."""
    surprise = sum(p.share * softplus(-p.difference / temperature) for p in points)
    return surprise / sum(p.share for p in points)


def fit_temperature(points: Sequence[Point]) -> float:
    """A most likely T, where ln T is normal around 0 with SPREAD; 1 when no point says anything.

    Halves the interval of -ln T in which the slope changes its sign; with hundreds of tiny
    differences that are all right there may be another one beyond it.
    """
    low, high = math.log(1 / HOTTEST), math.log(1 / COLDEST)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _slope(points, middle) < 0 else (low, middle)
    return math.exp(-(low + high) / 2)


def _slope(points: Sequence[Point], sharpness: float) -> float:
    """Of the surprise of all picks and of T itself, in `sharpness` = -ln T."""
    steep = math.exp(sharpness)
    likelihood = sum(p.share * p.difference * sigmoid(-p.difference * steep) for p in points)
    return sharpness / SPREAD**2 - steep * likelihood


def calibrated(picks: Sequence[ScoredPick]) -> list[ScoredPick]:
    """The same picks with differences at the T of the others: those of a prompt stay together."""
    prompts = sorted({pick.prompt_id or "" for pick in picks})
    fold = {prompt: place % FOLDS for place, prompt in enumerate(prompts)}
    found = []
    for each in range(FOLDS):
        inside = [pick for pick in picks if fold[pick.prompt_id or ""] == each]
        outside = [pick for pick in picks if fold[pick.prompt_id or ""] != each]
        found += at_temperature(inside, fit_temperature(points_of(outside)))
    return found


def at_temperature(picks: Iterable[ScoredPick], temperature: float) -> list[ScoredPick]:
    return [
        replace(pick, differences=tuple(d / temperature for d in pick.differences))
        for pick in picks
    ]


def points_of(picks: Iterable[ScoredPick]) -> list[Point]:
    return [point for pick in picks for point in pick.points()]


def bins_of(picks: int) -> int:
    return max(1, min(BINS, picks // EACH_BIN))


def reliability(points: Sequence[Point], temperature: float = 1.0, bins: int = BINS) -> list[Bin]:
    """The bins that hold points, by confidence: the probability of the side the model prefers."""
    held: dict[int, list[Point]] = defaultdict(list)
    for point in points:
        confidence = sigmoid(abs(point.difference) / temperature)
        held[min(bins - 1, int((confidence - 0.5) * 2 * bins))].append(point)
    return [_bin(place, held[place], temperature, bins) for place in sorted(held)]


def _bin(place: int, points: Sequence[Point], temperature: float, bins: int) -> Bin:
    n = sum(point.share for point in points)
    claimed = sum(p.share * sigmoid(abs(p.difference) / temperature) for p in points) / n
    width = 0.5 / bins
    return Bin(0.5 + place * width, 0.5 + (place + 1) * width, n, claimed, accuracy(points))


def ece(points: Sequence[Point], temperature: float = 1.0, bins: int = BINS) -> float:
    """Expected calibration error: mean distance of what was claimed from what came true."""
    filled = reliability(points, temperature, bins)
    return sum(b.n * abs(b.accuracy - b.confidence) for b in filled) / sum(b.n for b in filled)


def length_correlation(points: Sequence[Point]) -> float:
    """Of reward difference and length difference, -1 to 1; the order of the sides plays no part."""
    together = sum(p.share * p.difference * p.longer_by for p in points)
    rewards = sum(p.share * p.difference**2 for p in points)
    lengths = sum(p.share * p.longer_by**2 for p in points)
    return together / math.sqrt(rewards * lengths) if rewards and lengths else 0.0


def report(picks: Iterable[ScoredPick], temperature: float | None = None) -> dict[str, Any]:
    """The metrics of a reward model on held-out picks. Empty when no pick has a better side.

    Without a `temperature` it is fitted on these picks.
    """
    decided = [pick for pick in picks if pick.differences]
    if not decided:
        return {}
    raw, bins = points_of(decided), bins_of(len(decided))
    honest = at_temperature(decided, temperature) if temperature else calibrated(decided)
    points = points_of(honest)
    return {
        "picks_scored": len(decided),
        **_group(decided),
        "margin": sum(p.share * p.difference for p in raw) / len(decided),
        "temperature": temperature or fit_temperature(raw),
        "nll": nll(raw),
        "nll_calibrated": nll(points),
        "ece": ece(raw, bins=bins),
        "ece_calibrated": ece(points, bins=bins),
        "reliability": [vars(b) for b in reliability(points, bins=bins)],
        "length_correlation": length_correlation(raw),
        "accuracy_by_pool": by_group(honest, "pool"),
        "accuracy_by_annotator": by_group(honest, "annotator"),
        "accuracy_by_strength": by_group(honest, "strength"),
    }


def by_group(picks: Iterable[ScoredPick], key: str) -> dict[str, Mapping[str, float]]:
    """{group: {n, accuracy, its interval, ece}}; some picks have no group."""
    groups: dict[str, list[ScoredPick]] = defaultdict(list)
    for pick in picks:
        if (name := getattr(pick, key)) is not None:
            groups[str(name)].append(pick)
    return {
        name: {
            "n": len(members),
            **_group(members),
            "ece": ece(points_of(members), bins=bins_of(len(members))),
        }
        for name, members in sorted(groups.items())
    }


def _group(picks: Sequence[ScoredPick]) -> dict[str, float]:
    """The accuracy with its 95 % interval of picks; comparisons of one depend on each other."""
    return accuracy_of(accuracy(points_of(picks)), len(picks))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def softplus(x: float) -> float:
    """ln(1 + e^x) without overflow."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))
