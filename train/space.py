"""Whether the disk has room for a run before it starts. Pure, but for the one look at the disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from store.rows import Invalid

SPARE_BYTES = 128 * 2**20  # log, samples, and what annotators store meanwhile
PER_WEIGHT = 12  # bytes in a checkpoint: the weight and AdamW's two moments, all fp32
KEPT = 2  # checkpoints on the disk at the same time: the newest one, and the one being written


def adapter_weights(shapes: Iterable[tuple[int, int]], rank: int) -> int:
    """Weights of a LoRA on linear layers of these [rows, columns]."""
    return sum(rank * (rows + columns) for rows, columns in shapes)


def needed_bytes(weights: int, data: int) -> int:
    """`weights` of the adapter that is trained; `data`: bytes of the frozen picks."""
    return KEPT * PER_WEIGHT * weights + 4 * weights + 4 * data + SPARE_BYTES


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
