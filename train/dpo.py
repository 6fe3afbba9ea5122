"""Train a QLoRA DPO policy on frozen picks.

    python -m train.dpo RUN_DIR

Reads RUN_DIR/config.json and RUN_DIR/data; writes progress.jsonl, adapter/, result.json and DONE
(or FAILED, or CANCELLED). A fresh LoRA from the base each time; the reference is the base with the
adapter off, so there is one copy of the weights (Rafailov et al. 2023; the likelihood term on the
chosen side as in Llama 3, arXiv 2407.21783).
Left out here: ties and both-bad picks, soft labels, continuing an earlier adapter.
"""

from __future__ import annotations

import sys
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

from train.presets import DpoSettings
from train.quantized import (
    Progress,
    StopOnNaN,
    StopWhenAsked,
    base_arguments,
    full_batches,
    held_out_metrics,
    keep_adapters_in_fp32,
    load_rows,
    lora,
    save_adapter,
    steps_of,
    trainer_arguments,
)
from train.run_folder import RunFolder
from train.script import enough_rows, run_script


def main(run: RunFolder) -> dict[str, float]:
    config = run.config()
    settings = DpoSettings(**config["settings"])
    tokenizer = AutoTokenizer.from_pretrained(config["base"])
    train, held_out, counts = load_rows(run, tokenizer, settings.max_length)
    enough_rows(counts)
    held_out, eval_batch = full_batches(held_out, settings.batch)
    base = AutoModelForCausalLM.from_pretrained(
        config["base"], **base_arguments(config["quantization"])
    )
    arguments = DPOConfig(
        **trainer_arguments(settings, run, steps_of(len(train), settings)),
        beta=settings.beta,
        loss_type=["sigmoid", "sft"] if settings.sft_weight else ["sigmoid"],
        loss_weights=[1.0, settings.sft_weight] if settings.sft_weight else None,
        per_device_eval_batch_size=eval_batch,
    )
    trainer = DPOTrainer(
        base,
        args=arguments,
        train_dataset=train,
        eval_dataset=held_out,
        processing_class=tokenizer,
        peft_config=lora(settings.rank, "CAUSAL_LM"),
        callbacks=[Progress(run), StopOnNaN(), StopWhenAsked(run)],
    )
    keep_adapters_in_fp32(trainer.model)
    trainer.train()
    scores = trainer.evaluate()
    save_adapter(trainer, run.adapter)
    return counts | held_out_metrics(
        scores, len(held_out), "eval_rewards/accuracies", "eval_rewards/margins"
    )


if __name__ == "__main__":
    run_script(main, Path(sys.argv[1]))
