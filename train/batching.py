"""The order of rows, and with it the batches. No torch.

Batches of rows of similar length have less padding, so the same pass takes less time. Several
processes get the rows of a step that one process would get.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice
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


class WholeBatches:
    """A sampler around another, for processes that take batches at the same time.

    accelerate would fill the last ones with the rows of the first step. These are filled with their
    own rows, so that their mean stays as it is, or nearly.
    """

    def __init__(self, order: Any, batch: int, together: int, step: int) -> None:
        """`together`: batches that are taken at once; `step`: batches in a step."""
        self.order, self.batch, self.together, self.step = order, batch, together, step

    def __len__(self) -> int:
        batches = math.ceil(len(self.order) / self.batch)
        return self.batch * self.together * math.ceil(batches / self.together)

    def __iter__(self) -> Iterator[int]:
        return iter(filled(list(self.order), self.batch, self.together, self.step))


def filled(places: list[int], batch: int, together: int, step: int) -> list[int]:
    """Whole batches, and as many as are taken at once: those of the last step stand in."""
    batches = [places[n : n + batch] for n in range(0, len(places), batch)]
    batches[-1] = list(islice(cycle(batches[-1]), batch))
    last_step = batches[-(len(batches) % step or step) :]
    batches += islice(cycle(last_step), -len(batches) % together)
    return [place for one in batches for place in one]


class Shuffled:
    """The order of accelerate's own sampler, which as SimilarLengths is told no epoch."""

    def __init__(self, order: Any, epoch: Callable[[], int]) -> None:
        self.order, self.epoch = order, epoch

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[int]:
        self.order.set_epoch(self.epoch())
        return iter(self.order)


class OrderedRows:
    """Comes before a trainer of transformers: a step has the same rows for any number of processes.

    `batch`: rows of a batch that one process would take alone. With `similar_lengths` the rows have
    a column `length`, in tokens.
    """

    args: Any
    state: Any
    train_dataset: Any

    def __init__(self, *args: Any, batch: int, similar_lengths: bool = False, **kw: Any) -> None:
        self.batch, self.similar_lengths = batch, similar_lengths
        super().__init__(*args, **kw)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        rows = self.train_dataset if train_dataset is None else train_dataset
        order = self._order(rows)
        parts = self.args.world_size
        if parts == 1:
            return order
        # Whole batches side by side, or a part of each batch: see train/steps.py.
        together = parts if self.args.train_batch_size == self.batch else 1
        step = self.args.gradient_accumulation_steps * together
        return WholeBatches(order, self.batch, together, step)

    def _order(self, rows: Any) -> Any:
        if self.similar_lengths:
            return SimilarLengths(rows["length"], self.batch, self.args.seed, self._epoch)
        order = super()._get_train_sampler(rows)  # type: ignore[misc]  # the trainer's
        if self.args.world_size == 1 or not hasattr(order, "replacement"):  # KTO's is not random
            return order
        from accelerate.data_loader import SeedableRandomSampler

        return Shuffled(SeedableRandomSampler(rows, data_seed=self.args.data_seed), self._epoch)

    def _epoch(self) -> int:
        """From 0; in the middle of one it is a fraction more, before the first one nothing."""
        return int(self.state.epoch or 0)
