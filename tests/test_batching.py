"""Batches of rows of similar length."""

from __future__ import annotations

from random import Random

import pytest

from train.batching import SimilarLengths, WholeBatches, filled, in_order

LENGTHS = Random(7).choices(range(10, 250), k=203)


def waste(order: list[int], batch: int) -> float:
    """Tokens of all batches, padding included, against those of the rows."""
    parts = [order[n : n + batch] for n in range(0, len(order), batch)]
    return sum(max(LENGTHS[p] for p in one) * len(one) for one in parts) / sum(LENGTHS)


@pytest.mark.parametrize("batch", [1, 7, 16, 300])
def test_every_row_comes_once(batch: int) -> None:
    assert sorted(in_order(LENGTHS, batch, Random(1))) == list(range(203))


def test_padding_shrinks() -> None:
    mixed = Random(1).sample(range(203), 203)
    assert waste(in_order(LENGTHS, 16, Random(1)), 16) < 0.85 * waste(mixed, 16)


def test_the_order_depends_on_seed_and_epoch_and_nothing_else() -> None:
    epochs = [0]
    one, same, other = (SimilarLengths(LENGTHS, 16, seed, lambda: epochs[-1]) for seed in (0, 0, 1))
    first = list(one)
    assert first == list(same) != list(other)
    epochs.append(1)
    assert list(one) != first
    epochs.append(0)
    assert list(one) == first and len(one) == 203


@pytest.mark.parametrize(
    ("rows", "batch", "together", "step", "added"),
    [
        (8, 4, 2, 2, []),
        (6, 4, 1, 1, [4, 5]),  # a batch that processes share
        (7, 4, 1, 1, [4]),
        (3, 4, 1, 1, [0]),
        (9, 4, 2, 2, [8] * 7),  # the third batch comes alone
        (4, 2, 4, 4, [0, 1, 2, 3]),
        (14, 2, 2, 4, [8, 9]),  # batches 4, 5 and 6 are the last step
    ],
)
def test_processes_fill_their_last_step_with_its_own_rows(
    rows: int, batch: int, together: int, step: int, added: list[int]
) -> None:
    order = list(range(rows))
    found = filled(order, batch, together, step)
    assert found == order + added
    assert len(WholeBatches(order, batch, together, step)) == len(found)
