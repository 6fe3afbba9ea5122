"""How rows become batches, and batches steps, in one process and in several. Pure; no torch."""

from __future__ import annotations

import math
from typing import TypeVar

from store.rows import Invalid
from train.settings import AnySettings, Part

T = TypeVar("T")


def steps_of(rows: int, settings: AnySettings) -> int:
    """How many it takes, unless rows turn out too long; processes share a step's rows."""
    return math.ceil(rows / (settings.batch * settings.accumulate)) * settings.epochs


def warmup_steps(share: float, steps: int) -> int:
    """The learning rate of the first one is 0, so a run of one step has none."""
    return min(math.ceil(share * steps), steps - 1)


def shared_step(part: Part, settings: AnySettings, processes: int) -> tuple[int, int]:
    """Batch and accumulation of each of the processes. Raises Invalid."""
    batch, accumulate = divided(settings.batch, settings.accumulate, processes)
    if part == "kto" and batch < 2:
        raise Invalid("KTO compares the rows of a batch: set batch to 2 or more for each process.")
    return batch, accumulate


def divided(batch: int, accumulate: int, parts: int) -> tuple[int, int]:
    """Batch and accumulation of each of `parts` processes: together the same rows in a step."""
    if accumulate % parts == 0:
        return batch, accumulate // parts
    if batch % parts == 0:
        return batch // parts, accumulate
    raise Invalid(
        f"{parts} processes cannot share a step of {batch} x {accumulate} rows. "
        f"Set batch or accumulate to a multiple of {parts}."
    )


def full_batches(rows: list[T], batch: int, parts: int = 1) -> tuple[list[T], int]:
    """Rows and a batch size such that the trainer's mean over batches is the mean over rows.

    Where a number of rows has no good divisor, the last row or two are left out. `parts`: processes
    that share the rows.
    """
    for kept in range(len(rows) // parts * parts, 0, -parts):
        size = divisor(kept // parts, batch)
        if kept // parts // size <= 2 * math.ceil(kept / parts / batch):
            return rows[:kept], size
    return rows, 1


def divisor(rows: int, most: int) -> int:
    """The largest divisor of `rows` that is at most `most`."""
    return next(size for size in range(min(rows, most), 0, -1) if rows % size == 0)
