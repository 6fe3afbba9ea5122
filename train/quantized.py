"""What both training scripts share: the quantised base, LoRA, rows that fit, callbacks.

Each fix is for a fault that was measured on these versions: nf4 repacking on CPU, adapters forced
to bf16, hidden NaN.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bitsandbytes.nn.modules as bnb_modules
import datasets
import psutil
import torch
from peft import LoraConfig
from transformers import BitsAndBytesConfig, PreTrainedTokenizerBase, TrainerCallback

from train.interval import wilson
from train.run_folder import RunFolder

# On CPUs with AVX512-BF16 an evaluation repacks 4-bit weights and nothing unpacks them for
# training: gradients vanish silently. Packing gains nothing, so it is off before a model is loaded.
bnb_modules.has_avx512bf16 = lambda: False

datasets.disable_progress_bars()


def device() -> str:
    return "cuda:0" if torch.cuda.is_available() else "cpu"


def base_arguments(quantization: str) -> dict[str, Any]:
    """Keyword arguments of `from_pretrained` for the base that is also served."""
    arguments: dict[str, Any] = {"dtype": torch.bfloat16, "device_map": device()}
    if quantization == "nf4":
        arguments["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )  # llm_int8_skip_modules stays unset: naming any module would quantise the reward head
    return arguments


def lora(rank: int, task: str) -> LoraConfig:
    head = ["score"] if task == "SEQ_CLS" else None
    return LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        target_modules="all-linear",
        task_type=task,
        modules_to_save=head,
    )


def trainer_arguments(settings: Any, run: RunFolder, steps: int) -> dict[str, Any]:
    """What RewardConfig and DPOConfig have in common."""
    return {
        "output_dir": str(run.path / "trainer"),
        "learning_rate": settings.learning_rate,
        "num_train_epochs": settings.epochs,
        "per_device_train_batch_size": settings.batch,
        "gradient_accumulation_steps": settings.accumulate,
        "max_length": settings.max_length,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.1,  # below one: share of all steps
        "logging_steps": max(1, steps // 50),
        "logging_nan_inf_filter": False,  # the default logs NaN as 0.0
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "seed": settings.seed,
        "use_cpu": device() == "cpu",
        "dataloader_pin_memory": device() != "cpu",
    }


def keep_adapters_in_fp32(model: torch.nn.Module) -> None:
    """TRL casts QLoRA adapters to bf16, where small AdamW steps vanish.

    Costs about 0.4 GB for a 7B model at rank 16.
    """
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def load_rows(
    run: RunFolder, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> tuple[datasets.Dataset, datasets.Dataset, dict[str, int]]:
    """Train and eval rows of {prompt, chosen, rejected} that fit, and how many did not.

    A cut answer loses its end token and a cut prompt its question: long rows are left out, not cut.
    """
    kept, counts = {}, {"rows_too_long": 0}
    for split in ("train", "eval"):
        rows = datasets.Dataset.from_parquet(
            str(run.data / f"{split}.parquet"), cache_dir=str(run.path / "trainer" / "cache")
        ).select_columns(["prompt", "chosen", "rejected"])
        fitting = rows.filter(lambda row: _length(tokenizer, row) <= max_length)
        counts["rows_too_long"] += len(rows) - len(fitting)
        kept[split] = fitting
    return (
        kept["train"],
        kept["eval"],
        counts | {"rows_train": len(kept["train"]), "rows_eval": len(kept["eval"])},
    )


def _length(tokenizer: PreTrainedTokenizerBase, row: dict[str, Any]) -> int:
    return max(
        len(
            tokenizer.apply_chat_template(
                row["prompt"] + row[side], tokenize=True, return_dict=False
            )
        )
        for side in ("chosen", "rejected")
    )


def full_batches(rows: datasets.Dataset, batch: int) -> tuple[datasets.Dataset, int]:
    """Rows and a batch size such that the trainer's mean over batches is the mean over rows."""
    if len(rows) < 4 * batch:
        return rows, 1
    return rows.select(range(len(rows) // batch * batch)), batch


def held_out_metrics(
    scores: dict[str, Any], rows: int, accuracy: str, margin: str
) -> dict[str, float]:
    """The trainer's scores on held-out pairs in our words, the accuracy with its 95 % interval."""
    share = float(scores[accuracy])
    low, high = wilson(share, rows)
    return {
        "rows_eval": rows,
        "accuracy": share,
        "accuracy_low": low,
        "accuracy_high": high,
        "eval_loss": float(scores["eval_loss"]),
        "margin": float(scores[margin]),
    }


def steps_of(rows: int, settings: Any) -> int:
    return math.ceil(rows / (settings.batch * settings.accumulate)) * settings.epochs


def save_adapter(trainer: Any, folder: Path) -> None:
    """Only what is served: no optimiser state, no pickles, no generated README."""
    trainer.model.save_pretrained(folder, safe_serialization=True)
    for file in folder.iterdir():
        if file.name not in ("adapter_config.json", "adapter_model.safetensors"):
            file.unlink()


class StopOnNaN(TrainerCallback):
    """A loss or gradient that is not finite ends the run before bad weights can be saved."""

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        for key in ("loss", "grad_norm"):
            if key in (logs or {}) and not math.isfinite(float((logs or {})[key])):
                raise FloatingPointError(
                    f"{key} is not finite at step {state.global_step}; lower the learning rate"
                )


class StopWhenAsked(TrainerCallback):
    def __init__(self, run: RunFolder) -> None:
        self.run = run

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        control.should_training_stop |= self.run.asked_to_stop()
        return control


NAMES = {
    "loss": "loss",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "num_tokens": "tokens",
    "rewards/accuracies": "accuracy",
    "accuracy": "accuracy",
    "rewards/margins": "margin",
    "margin": "margin",
    "rewards/chosen": "reward_chosen",
    "rewards/rejected": "reward_rejected",
    "logps/chosen": "logps_chosen",
    "eval_loss": "eval_loss",
    "eval_rewards/accuracies": "eval_accuracy",
    "eval_accuracy": "eval_accuracy",
    "eval_rewards/margins": "eval_margin",
    "eval_margin": "eval_margin",
}


class Progress(TrainerCallback):
    """One line of progress.jsonl for each logging step, in the same words for both trainers."""

    def __init__(self, run: RunFolder, clock: Callable[[], float] = time.monotonic) -> None:
        self.run, self.clock, self.start = run, clock, clock()

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        line: dict[str, Any] = {NAMES[k]: float(v) for k, v in (logs or {}).items() if k in NAMES}
        if not line:
            return
        seconds = self.clock() - self.start
        line |= {
            "step": state.global_step,
            "max_steps": state.max_steps,
            "seconds": round(seconds, 2),
        }
        if line.get("tokens"):
            line["tokens_per_second"] = round(line["tokens"] / max(seconds, 1e-9), 1)
        line["memory_mb"] = round(memory_bytes() / 2**20)
        self.run.add_progress(line)


def memory_bytes() -> int:
    """Peak of the GPU, or resident memory of the process."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return int(psutil.Process().memory_info().rss)
