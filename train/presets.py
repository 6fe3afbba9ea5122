"""Training settings, and defaults by the size of the model and the number of picks. Pure; no torch.

Sizes matter: a 2 M model hardly moves below a learning rate of 1e-3 and wants several epochs
(benchmarks/learns.py measures what these defaults give); a 7B model wants 2e-5 and one (the recipes
of TRL and of Llama 3, arXiv 2407.21783).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from store.rows import Invalid

TINY = 50_000_000  # parameters; below this a model is a starter


@dataclass(frozen=True)
class DpoSettings:
    learning_rate: float = 2e-5
    epochs: int = 1
    beta: float = 0.1  # strength of the pull towards the reference
    sft_weight: float = 0.2  # share of likelihood on the chosen side; keeps it from falling
    batch: int = 2  # pairs on the device at once
    accumulate: int = 8  # batches in one step
    rank: int = 16  # LoRA
    max_length: int = 1024  # tokens of prompt and answer; longer rows are left out and counted
    gradient_checkpointing: bool = True
    seed: int = 0


@dataclass(frozen=True)
class RewardSettings:
    learning_rate: float = 1e-4
    epochs: int = 1
    center: float = 0.01  # keeps rewards around zero
    batch: int = 2
    accumulate: int = 8
    rank: int = 16
    max_length: int = 1024
    gradient_checkpointing: bool = True
    seed: int = 0


Settings = TypeVar("Settings", DpoSettings, RewardSettings)


def dpo_preset(parameters: int, pairs: int, context: int = 1024) -> DpoSettings:
    base = DpoSettings(max_length=context)
    if parameters < TINY:
        return replace(
            base,
            learning_rate=1e-3,
            epochs=tiny_epochs(pairs),
            batch=16,
            accumulate=1,
            gradient_checkpointing=False,
        )
    if pairs < 1000:
        return replace(base, epochs=2, beta=0.3 if pairs < 500 else 0.1)
    return base


def reward_preset(parameters: int, pairs: int, context: int = 1024) -> RewardSettings:
    base = RewardSettings(max_length=context)
    if parameters < TINY:
        return replace(
            base,
            learning_rate=1e-3,
            epochs=max(1, min(4, round(800 / max(1, pairs)))),  # a head needs fewer passes
            batch=16,
            accumulate=1,
            gradient_checkpointing=False,
        )
    return base


def tiny_epochs(pairs: int) -> int:
    """About 50 steps of 16 pairs when picks are few, at least three passes when they are many."""
    return max(3, min(10, round(800 / max(1, pairs))))


def override(settings: Settings, changes: dict[str, str | int | float | bool]) -> Settings:
    """Settings with `changes` applied, texts converted by the field's type. Raises Invalid."""
    known = {field.name: field.type for field in fields(settings)}
    converted: dict[str, Any] = {}
    for key, value in changes.items():
        if key not in known:
            raise Invalid(f"Unknown setting {key!r}: choose {', '.join(known)}.")
        converted[key] = convert(key, value, str(known[key]))
    return replace(settings, **converted)


def convert(key: str, value: str | int | float | bool, kind: str) -> Any:
    """`value` as the type named `kind` (int, float or bool). Raises Invalid."""
    text = str(value).strip()
    try:
        if kind == "bool":
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        number = int(text) if kind == "int" else float(text)
    except (KeyError, ValueError):
        raise Invalid(f"{key} must be a value of type {kind}, not {text!r}.") from None
    least = 1 if kind == "int" and key != "seed" else 0
    if not least <= number < math.inf:
        raise Invalid(f"{key} must be a finite number and at least {least}, not {text!r}.")
    return number
