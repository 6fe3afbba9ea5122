"""Settings by the size of the model and the number of rows. Pure; no torch.

Sizes matter: a 2 M model hardly moves below a learning rate of 1e-3 and wants several epochs
(benchmarks/learns.py measures what these defaults give); a 7B model wants 2e-5 and one (the recipes
of TRL and of Llama 3, arXiv 2407.21783; ten times that where it imitates, as TRL's script for
LoRA), and one of 33B or more half of that (QLoRA, arXiv 2305.14314, table 9). A step has 16 rows, 8
for DPO of a starter, and as many of them at once as fit. Only those of a starter are measured.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from train.settings import (
    KINDS,
    AnySettings,
    DpoSettings,
    KtoSettings,
    Part,
    RewardSettings,
    SftSettings,
)

TINY = 50_000_000  # parameters; below this a model is a starter
SMALL, HUGE = 2_000_000_000, 20_000_000_000  # parameters
MANY = 600  # rows
USUAL_CONTEXT = 2048  # tokens, for which the rows at once are chosen


def preset(part: Part, parameters: int, rows: int, context: int = 1024) -> AnySettings:
    """Defaults of one kind of run. `rows`: to train on; `context`: tokens that vLLM serves."""
    base: Any = KINDS[part](max_length=context)
    if part == "kto":
        rows //= 2  # a pair gives two: what suits so many pairs does
    if parameters < TINY:
        base = replace(
            base, learning_rate=1e-3, batch=16, accumulate=1, gradient_checkpointing=False
        )
        if isinstance(base, RewardSettings | DpoSettings):
            base = replace(base, batching="similar_length")  # half the time; learns the same
        if isinstance(base, DpoSettings):
            base = replace(base, batch=8)  # twice the steps of 16 in the same time
            # Many picks are trusted more: what they do not say stays as the base has it, and the
            # answers of `lists` do not run away in length, as with less likelihood of picked ones.
            # Of few, a fifth flipped would be learned by heart: `concise` falls from 83 % to 76.
            base = base if rows < MANY else replace(base, beta=0.25, sft_weight=0.1)
        return replace(base, epochs=_tiny_passes(base, rows))
    return _of_few(_fitting(_sized(base, parameters), parameters, context), rows)


def _tiny_passes(base: AnySettings, rows: int) -> int:
    match base:
        case RewardSettings():
            return max(1, min(6, round(800 / max(1, rows))))  # a head needs fewer passes
        case SftSettings() | KtoSettings():
            return max(2, min(5, round(800 / max(1, rows))))
        case _:
            return tiny_epochs(rows)


def _sized(base: Any, parameters: int) -> Any:
    if parameters < SMALL:
        return replace(base, batch=4, accumulate=4)
    if parameters < HUGE:
        return base
    base = replace(base, learning_rate=base.learning_rate / 2)
    if isinstance(base, KtoSettings):  # its KL wants four rows at once
        return base
    return replace(base, batch=1, accumulate=16)


def _fitting(base: Any, parameters: int, context: int) -> Any:
    """Half as many rows at once for each doubling of the context, since what a step holds in memory
    are tokens. A reward model's row may be four answers, twice as many as one of DPO."""
    if parameters < SMALL:
        return base
    least = 2 if isinstance(base, KtoSettings) else 1
    batch, accumulate = base.batch, base.accumulate
    if isinstance(base, RewardSettings) and batch > 1:
        batch, accumulate = batch // 2, accumulate * 2
    while context > USUAL_CONTEXT and batch > least:
        batch, accumulate, context = batch // 2, accumulate * 2, context // 2
    return replace(base, batch=batch, accumulate=accumulate)


def _of_few(base: AnySettings, rows: int) -> AnySettings:
    match base:
        case DpoSettings() | KtoSettings() if rows < 1000:
            return replace(base, epochs=2, beta=0.3 if rows < 500 else 0.1)
        case SftSettings() if rows < 1000:
            return replace(base, epochs=3)
        case RewardSettings() if rows < 500:  # in one pass of few its head hardly moves from zero
            return replace(base, epochs=2)
        case _:
            return base


def tiny_epochs(rows: int) -> int:
    """Four passes over few pairs, two over many: with more the answers run away in length."""
    if rows < MANY:
        return 4 if rows < 350 else 3
    return 2
