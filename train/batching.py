"""Batches of rows of similar length: less padding, so the same pass in less time. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

TOGETHER = 4  # batches that are sorted among themselves; more would make every pass the same


class SimilarLengths:
    """A sampler, as DataLoader takes one: another order in each epoch, the same for each seed.

    It asks for the epoch: accelerate tells it to no sampler of several processes that skip the rows
    which they had before they were killed.
    """

    def __init__(
        self, lengths: Sequence[int], batch: int, seed: int, epoch: Callable[[], int]
    ) -> None:
        self.lengths, self.batch, self.seed, self.epoch = lengths, batch, seed, epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        return iter(in_order(self.lengths, self.batch, Random(f"{self.seed} {self.epoch()}")))


def in_order(lengths: Sequence[int], batch: int, rng: Random) -> list[int]:
    """Places of all rows: full batches in random order, then what fills none."""
    places = rng.sample(range(len(lengths)), len(lengths))
    batches = []
    for first in range(0, len(places), TOGETHER * batch):
        near = sorted(places[first : first + TOGETHER * batch], key=lengths.__getitem__)
        batches += [near[n : n + batch] for n in range(0, len(near), batch)]
    full = [one for one in batches if len(one) == batch]
    rng.shuffle(full)
    rest = [one for one in batches if len(one) < batch]
    return [place for one in full + rest for place in one]


class BatchesOfSimilarLength:
    """Comes before a trainer of transformers; the rows have a column `length`, in tokens."""

    args: Any
    state: Any
    train_dataset: Any

    def __init__(self, *args: Any, similar_lengths: bool = False, **kw: Any) -> None:
        self.similar_lengths = similar_lengths
        super().__init__(*args, **kw)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        rows = self.train_dataset if train_dataset is None else train_dataset
        if self.similar_lengths:
            return SimilarLengths(
                rows["length"], self.args.train_batch_size, self.args.seed, self._epoch
            )
        return super()._get_train_sampler(rows)  # type: ignore[misc]  # the trainer's

    def _epoch(self) -> int:
        """From 0; in the middle of one it is a fraction more, before the first one nothing."""
        return int(self.state.epoch or 0)
