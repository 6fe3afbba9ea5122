"""Batches and steps, and how a share of picks is counted."""

from __future__ import annotations

import pytest

from store.rows import Invalid
from train.interval import share_right
from train.steps import divided, full_batches, warmup_steps


@pytest.mark.parametrize(
    ("batch", "accumulate", "processes", "expected"),
    [(2, 8, 1, (2, 8)), (2, 8, 2, (2, 4)), (16, 1, 2, (8, 1)), (4, 3, 2, (2, 3))],
)
def test_processes_share_the_rows_of_a_step(
    batch: int, accumulate: int, processes: int, expected: tuple[int, int]
) -> None:
    assert divided(batch, accumulate, processes) == expected
    assert processes * expected[0] * expected[1] == batch * accumulate


@pytest.mark.parametrize(
    ("share", "steps", "expected"),
    [(0.1, 100, 10), (0.1, 7, 1), (0.1, 1, 0), (0.0, 9, 0), (1, 9, 8)],
)
def test_every_run_has_a_step_with_a_learning_rate(share: float, steps: int, expected: int) -> None:
    assert warmup_steps(share, steps) == expected


def test_a_step_that_cannot_be_shared() -> None:
    with pytest.raises(Invalid, match=r"^3 processes cannot share a step of 4 x 2 rows\. "):
        divided(4, 2, 3)


@pytest.mark.parametrize(
    ("rows", "batch", "processes", "kept", "size"),
    [
        (5, 16, 1, 5, 5),  # all at once
        (16, 16, 1, 16, 16),
        (22, 16, 1, 22, 11),
        (23, 16, 1, 22, 11),  # a prime would go one by one
        (40, 16, 1, 40, 10),
        (100, 16, 1, 100, 10),
        (17, 16, 1, 16, 16),
        (34, 16, 1, 33, 11),
        (41, 16, 2, 40, 10),
        (1, 16, 2, 1, 1),
    ],
)
def test_held_out_rows_fill_whole_batches(
    rows: int, batch: int, processes: int, kept: int, size: int
) -> None:
    found, eval_batch = full_batches([{"n": n} for n in range(rows)], batch, processes)
    assert (len(found), eval_batch) == (kept, size)
    assert len(found) == 1 or len(found) % (eval_batch * processes) == 0


def test_accuracy_counts_picks_and_not_rows() -> None:
    """One pick right, a ranking with three of five right; an edit and a tie say nothing."""
    right = [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0]
    judged = [0, 1, 1, 1, 1, 1, None, None]
    assert share_right(right, judged) == (pytest.approx((1 + 0.6) / 2), 2)
    assert share_right([1.0], [None]) == (0.0, 0)
