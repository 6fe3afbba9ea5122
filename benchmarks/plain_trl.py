"""The rival of our training scripts: TRL's own trainer, as a careful researcher writes it by hand.

    python -m benchmarks.plain_trl RUN_DIR [--stock]

Trains on the pairs of a run folder with the settings in its config.json: same model, precision,
LoRA, order of rows and evaluations; no samples, no checkpoints, no tracker. Writes
RUN_DIR/plain.json. Two faults of these versions are worked around here as well, since with them the
two sides would not compute the same thing: nf4 on a CPU loses gradients after an evaluation, and
adapters are cast to bf16 (--stock leaves the cast, and TRL's gradient checkpointing, as they are).
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import bitsandbytes.nn.modules as bnb_modules
import psutil
import pyarrow.parquet as parquet
import torch
from datasets import Dataset, disable_progress_bars
from peft import LoraConfig
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BitsAndBytesConfig,
    TrainerCallback,
    set_seed,
)
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer

from train.processor import multiplies_bf16

CUDA = torch.cuda.is_available()
BF16 = CUDA or multiplies_bf16()  # as ours computes
DTYPE = torch.bfloat16 if BF16 else torch.float32


class SamePoints(TrainerCallback):
    """Evaluates where our scripts do: at even points between the first and the last step."""

    def __init__(self, times: int) -> None:
        self.times = times

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        parts = self.times + 1
        if state.global_step in {round(state.max_steps * n / parts) for n in range(1, parts)}:
            control.should_evaluate = True


class Speed(TrainerCallback):
    """Tokens a second from the end of the first step on, which pays for every warm-up."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, float]] = []  # (second, tokens so far)
        self.memory_bytes = 0  # peak

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "num_tokens" in logs and "loss" in logs:
            if CUDA:
                torch.cuda.synchronize()
            self.seen.append((time.monotonic(), float(logs["num_tokens"])))
            self.memory_bytes = peak_memory()

    def tokens_per_second(self) -> float:
        (begin, first), (end, last) = self.seen[0], self.seen[-1]
        return (last - first) / max(end - begin, 1e-9)


def peak_memory() -> int:
    """Bytes on the GPU, or resident in this process."""
    return torch.cuda.max_memory_allocated() if CUDA else psutil.Process().memory_info().rss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--stock", action="store_true")
    options = parser.parse_args()
    bnb_modules.has_avx512bf16 = lambda: False  # gradients vanish with it, see above
    disable_progress_bars()
    config = json.loads((options.folder / "config.json").read_text())
    settings = config["settings"]
    set_seed(settings["seed"])
    speed = Speed()
    trainer = (reward if config["kind"] == "rm" else dpo)(options.folder, config, speed, options)
    if not options.stock:
        for parameter in trainer.model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
    trainer.train()
    scores = trainer.evaluate()
    trainer.save_model(str(options.folder / "plain"))
    found = {
        "eval_loss": scores["eval_loss"],
        "tokens_per_second": speed.tokens_per_second(),
        "memory_mb": speed.memory_bytes / 2**20,
    }
    (options.folder / "plain.json").write_text(json.dumps(found))


def dpo(folder: Path, config: dict[str, Any], speed: Speed, options: Any) -> DPOTrainer:
    settings = config["settings"]
    arguments = DPOConfig(
        **common(folder, settings, options.stock),
        beta=settings["beta"],
        loss_type=["sigmoid", "sft"],
        loss_weights=[1.0, settings["sft_weight"]],
    )
    return DPOTrainer(
        AutoModelForCausalLM.from_pretrained(config["base"], **precision(config)),
        args=arguments,
        train_dataset=pairs(folder, "train"),
        eval_dataset=pairs(folder, "eval"),
        processing_class=AutoTokenizer.from_pretrained(config["base"]),
        peft_config=lora(settings["rank"], "CAUSAL_LM", None),
        callbacks=[speed, SamePoints(settings["evaluations"])],
    )


def reward(folder: Path, config: dict[str, Any], speed: Speed, options: Any) -> RewardTrainer:
    settings = config["settings"]
    tokenizer = AutoTokenizer.from_pretrained(config["base"])
    base = AutoModelForSequenceClassification.from_pretrained(
        config["base"], num_labels=1, **precision(config)
    )
    base.config.pad_token_id = tokenizer.pad_token_id
    torch.nn.init.zeros_(base.score.weight)  # as ours: the same start, so the same way
    return RewardTrainer(
        base,
        args=RewardConfig(
            **common(folder, settings, options.stock),
            center_rewards_coefficient=settings["center"],
        ),
        train_dataset=pairs(folder, "train"),
        eval_dataset=pairs(folder, "eval"),
        processing_class=tokenizer,
        peft_config=lora(settings["rank"], "SEQ_CLS", ["score"]),
        callbacks=[speed, SamePoints(settings["evaluations"])],
    )


def common(folder: Path, settings: dict[str, Any], stock: bool) -> dict[str, Any]:
    rows = len(pairs(folder, "train"))
    steps = math.ceil(rows / (settings["batch"] * settings["accumulate"])) * settings["epochs"]
    return {
        "output_dir": str(folder / "plain"),
        "learning_rate": settings["learning_rate"],
        "lr_scheduler_type": settings["schedule"],
        "warmup_steps": settings["warmup"],  # below one: share of all steps
        "num_train_epochs": settings["epochs"],
        "per_device_train_batch_size": settings["batch"],
        "per_device_eval_batch_size": settings["batch"],
        "gradient_accumulation_steps": settings["accumulate"],
        "gradient_checkpointing": stock or settings["gradient_checkpointing"],
        "max_length": settings["max_length"],
        "max_grad_norm": settings["max_grad_norm"],
        "weight_decay": settings["weight_decay"],
        "logging_steps": max(1, steps // 50),
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        "seed": settings["seed"],
        "use_cpu": not CUDA,
        "bf16": BF16,
        "dataloader_pin_memory": CUDA,
    }


def precision(config: dict[str, Any]) -> dict[str, Any]:
    arguments = {"dtype": DTYPE, "device_map": "cuda:0" if CUDA else "cpu"}
    if config["precision"] == "nf4":
        arguments["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=DTYPE,
        )
    return arguments


def lora(rank: int, task: str, also: list[str] | None) -> LoraConfig:
    return LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        target_modules="all-linear",
        task_type=task,
        modules_to_save=also,
    )


def pairs(folder: Path, split: str) -> Dataset:
    rows = []
    for pick in parquet.read_table(folder / "data" / f"{split}.parquet").to_pylist():
        answers = [[{"role": "assistant", "content": one["text"]}] for one in pick["answers"]]
        better = pick["better"]
        rows.append(
            {
                "prompt": pick["prompt"],
                "chosen": answers[better],
                "rejected": answers[1 - better],
            }
        )
    return Dataset.from_list(rows)


if __name__ == "__main__":
    main()
