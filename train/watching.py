"""What watches a trainer at work: progress, faults, requests, the best adapter so far.

Callbacks run in every process; only the first writes, and all of them decide alike, since one that
stopped alone would leave the others waiting for it.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Sequence
from typing import Any

import psutil
import torch
from transformers import TrainerCallback

from train.quantized import save_weights
from train.run_folder import RunFolder, Stop
from train.script import is_main

LOWER = "lower the learning rate"


class StopOnNaN(TrainerCallback):
    """A step that is not finite ends the run before it reaches the weights."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.trainable: list[torch.nn.Parameter] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **known: Any) -> None:
        self.trainable = [p for p in known["model"].parameters() if p.requires_grad]

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **known: Any) -> None:
        """A loss that is not finite leaves no gradient that is."""
        gradients = [p.grad for p in self.trainable if p.grad is not None]
        if not bool(torch.isfinite(torch.nn.utils.get_total_norm(gradients))):
            step, rate = state.global_step + 1, known["lr_scheduler"].get_last_lr()[0]
            if is_main():  # no log of this step will follow; a line without a loss is a warning
                line = {"step": step, "max_steps": state.max_steps, "learning_rate": rate}
                self.run.add_progress(line)
            raise FloatingPointError(f"loss is not finite at step {step}; {LOWER}")

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        for key in ("loss", "grad_norm", "eval_loss"):
            if not math.isfinite(float((logs or {}).get(key, 0.0))):
                raise FloatingPointError(
                    f"{key} is not finite at step {state.global_step}; {LOWER}"
                )


class StopWhenAsked(TrainerCallback):
    """Ends training after the step at hand; a pause leaves a checkpoint of that step."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.how: Stop | None = None

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        if state.global_step < state.max_steps and (asked := agreed(self.run, args.device)):
            self.how = asked
            control.should_save = asked == "pause"
            if asked == "cancel":  # after a pause the run goes on, and does not measure this again
                control.should_evaluate = False
            control.should_training_stop = True
        return control


def agreed(run: RunFolder, device: Any) -> Stop | None:
    """What the first process was asked for, in all processes."""
    stops: tuple[Stop | None, ...] = (None, "cancel", "pause")
    if not torch.distributed.is_initialized():
        return run.asked_to_stop()
    place = torch.tensor(stops.index(run.asked_to_stop() if is_main() else None), device=device)
    torch.distributed.broadcast(place, src=0)
    return stops[int(place)]


class AtPoints(TrainerCallback):
    """Measures and saves at even points of the run, whatever its length."""

    def __init__(self, evaluations: int, checkpoints: int) -> None:
        self.evaluations, self.checkpoints = evaluations, checkpoints

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        if state.global_step in points(state.max_steps, self.evaluations):
            control.should_evaluate = control.should_log = True
        if state.global_step in points(state.max_steps, self.checkpoints):
            control.should_save = True
        return control


def points(steps: int, times: int) -> list[int]:
    """At most `times` even steps between the first and the last; the end is measured anyway."""
    found = {round(steps * number / (times + 1)) for number in range(1, times + 1)}
    return sorted(found - {0, steps})


class KeepBest(TrainerCallback):
    """With a patience: keeps the adapter with the best held-out loss, and stops when it is old."""

    def __init__(self, run: RunFolder, patience: int, losses: Sequence[float] = ()) -> None:
        """`losses`: held-out, of measurements before the run was resumed."""
        self.run, self.patience, self.losses = run, patience, list(losses)
        self.folder = run.checkpoints / "best"

    def on_evaluate(self, args: Any, state: Any, control: Any, **known: Any) -> Any:
        self.losses.append(float(known["metrics"]["eval_loss"]))
        if not self.patience:
            return control
        if age(self.losses) == 0:
            if is_main():
                self._save(known["model"])
        elif age(self.losses) >= self.patience:
            control.should_training_stop = True
        return control

    @property
    def is_older(self) -> bool:
        """Whether the best adapter is not the one at hand."""
        return bool(self.patience and self.losses and age(self.losses))

    def _save(self, model: Any) -> None:
        tmp = self.folder.with_name("best.tmp")
        shutil.rmtree(tmp, ignore_errors=True)
        save_weights(model, tmp)
        shutil.rmtree(self.folder, ignore_errors=True)
        tmp.rename(self.folder)


def age(losses: Sequence[float]) -> int:
    """Measurements since the best one; equal losses are no progress."""
    return len(losses) - 1 - min(range(len(losses)), key=lambda place: losses[place])


NAMES = {
    "num_tokens": "tokens",
    "rewards/accuracies": "accuracy",
    "rewards/margins": "margin",
    "rewards/chosen": "reward_chosen",
    "rewards/rejected": "reward_rejected",
    "logps/chosen": "logps_chosen",
    "logps/rejected": "logps_rejected",
    "mean_token_accuracy": "token_accuracy",
}
KNOWN = frozenset(NAMES.values()) | {"loss", "grad_norm", "learning_rate", "epoch", "entropy", "kl"}


def in_our_words(logs: dict[str, Any]) -> dict[str, float]:
    """A trainer's log line with the keys of progress.jsonl; what has no name there is left out."""
    line = {}
    for key, value in logs.items():
        held_out = key.startswith("eval_")
        name = NAMES.get(key.removeprefix("eval_"), key.removeprefix("eval_"))
        if name in KNOWN and not (held_out and name in ("tokens", "epoch")):
            line[f"eval_{name}" if held_out else name] = float(value)
    return line


class Progress(TrainerCallback):
    """One line of progress.jsonl for each log, in the same words for all trainers."""

    def __init__(self, run: RunFolder, clock: Callable[[], float] = time.monotonic) -> None:
        before = run.progress()
        last: dict[str, Any] = before[-1] if before else {}
        self.run, self.clock = run, clock
        self.start = self.lap = clock()  # lap: from when the tokens of the next line are counted
        self.between = True  # steps: what others do there, samples for one, is no time of training
        self.seconds_before = float(last.get("seconds", 0.0))  # of the run before it was resumed
        self.tokens_before = max((float(line.get("tokens", 0.0)) for line in before), default=0.0)
        self.tokens_counted = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.between:
            self.lap, self.between = self.clock(), False

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        line: dict[str, Any] = in_our_words(logs or {})
        if not is_main() or not line.keys() - {"epoch"}:
            return
        now = self.clock()
        if "tokens" in line and "loss" in line:
            line["tokens_per_second"] = round(
                (line["tokens"] - self.tokens_counted) / max(now - self.lap, 1e-9), 1
            )
            self.tokens_counted = line["tokens"]
            line["tokens"] = int(line["tokens"] + self.tokens_before)
        self.lap = now
        line |= {
            "step": state.global_step,
            "max_steps": state.max_steps,
            "seconds": round(self.seconds_before + now - self.start, 2),
            "memory_mb": round(memory_bytes() / 2**20),
        }
        self.run.add_progress(line)

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.between = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.between = True


def memory_bytes() -> int:
    """Peak of the GPU, or resident memory of the process."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return int(psutil.Process().memory_info().rss)
