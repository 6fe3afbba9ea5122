"""Whether the disk has room for a run before it starts. Pure, but for the looks at the disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from store.rows import Invalid
from train.settings import AnySettings

SPARE_BYTES = 128 * 2**20  # log, samples, and what annotators store meanwhile
KEPT = 3  # checkpoints at the same time: an older one goes once the next is written
PER_WEIGHT = 12  # bytes in a checkpoint: the weight and AdamW's two moments, all fp32
REFERENCE = 4  # more in one of a policy that goes on from the champion: TRL saves its copy too
BEST = 8  # with a patience: the best adapter so far, and the one that takes its place
RESULT = 8  # the adapter, and its copy among the policies


def adapter_weights(shapes: Iterable[tuple[int, int]], rank: int) -> int:
    """Weights of a LoRA on linear layers of these [rows, columns]."""
    return sum(rank * (rows + columns) for rows, columns in shapes)


def needed_bytes(adapters: Sequence[tuple[int, AnySettings]], data: int) -> int:
    """`adapters`: weights and settings of each run, which follow each other: the checkpoints of one
    go when it ends. `data`: bytes of the frozen picks."""
    at_work = max(
        (weights * _while_training(settings) for weights, settings in adapters), default=0
    )
    results = sum(weights * RESULT for weights, _ in adapters)
    return at_work + results + 4 * data + SPARE_BYTES


def _while_training(settings: AnySettings) -> int:
    """Bytes for each weight at the moment when most lies on the disk."""
    return KEPT * (PER_WEIGHT + REFERENCE * settings.goes_on) + BEST * bool(settings.patience)


def held_bytes(folder: Path) -> int:
    """Of the files below a folder, which need not be there."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def check_space(free: int, needed: int, folder: Path) -> None:
    """Raises Invalid when a run would fill the disk."""
    if free < needed:
        raise Invalid(
            f"The disk of {folder} has {_mb(free)} MB free, and this run may need {_mb(needed)} MB."
            " Free some space, then start it again."
        )


def free_bytes(folder: Path) -> int:
    """Of the disk that the folder is on, or will be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def sizes(shapes: Mapping[str, list[int]]) -> list[tuple[int, int]]:
    return [(rows, columns) for rows, columns in shapes.values()]


def _mb(count: int) -> str:
    return f"{count / 2**20:,.0f}"
