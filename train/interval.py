"""A measured share and its uncertainty. Pure; no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

Z = 1.96  # standard errors to each side: 95 %


def wilson(share: float, n: int) -> tuple[float, float]:
    """95 % interval of a share of n (Wilson 1927). (0, 1) when there is nothing to count."""
    if n == 0:
        return 0.0, 1.0
    centre = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def accuracy_of(share: float, picks: int) -> dict[str, float]:
    """With its 95 % interval, as metrics have it. `picks`: that it was counted on."""
    low, high = wilson(share, picks)
    return {"accuracy": share, "accuracy_low": low, "accuracy_high": high}


def share_right(right: Sequence[float], judged: Sequence[int | None]) -> tuple[float, int]:
    """Mean over picks of the share of their rows that are right, and the number of picks.

    Five comparisons of one ranking are one pick: they are not five opinions.
    """
    by_pick: dict[int, list[float]] = {}
    for value, pick in zip(right, judged, strict=True):
        if pick is not None:
            by_pick.setdefault(pick, []).append(value)
    return (fmean(map(fmean, by_pick.values())) if by_pick else 0.0), len(by_pick)
