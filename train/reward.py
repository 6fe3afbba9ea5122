"""Train a QLoRA reward model on frozen picks.

    python -m train.reward RUN_DIR

Bradley-Terry loss through TRL's RewardTrainer on a sequence-classification head over the nf4 base;
rewards are centred (Eisenstein et al. 2023, arXiv 2312.09244). Held-out accuracy is the share of
pairs whose chosen side scores higher.
Left out here: margins from strength, ensembles, calibration.
"""

from __future__ import annotations

import sys
from pathlib import Path

from transformers import AutoModelForSequenceClassification, AutoTokenizer
from trl import RewardConfig, RewardTrainer

from train.presets import RewardSettings
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
    settings = RewardSettings(**config["settings"])
    tokenizer = AutoTokenizer.from_pretrained(config["base"])
    train, held_out, counts = load_rows(run, tokenizer, settings.max_length)
    enough_rows(counts)
    held_out, eval_batch = full_batches(held_out, settings.batch)
    base = AutoModelForSequenceClassification.from_pretrained(
        config["base"],
        num_labels=1,
        pad_token_id=tokenizer.pad_token_id,
        **base_arguments(config["quantization"]),
    )
    arguments = RewardConfig(
        **trainer_arguments(settings, run, steps_of(len(train), settings)),
        center_rewards_coefficient=settings.center,
        per_device_eval_batch_size=eval_batch,
    )
    trainer = RewardTrainer(
        base,
        args=arguments,
        train_dataset=train,
        eval_dataset=held_out,
        processing_class=tokenizer,
        peft_config=lora(settings.rank, "SEQ_CLS"),
        callbacks=[Progress(run), StopOnNaN(), StopWhenAsked(run)],
    )
    keep_adapters_in_fp32(trainer.model)
    trainer.train()
    scores = trainer.evaluate()
    save_adapter(trainer, run.adapter)
    return counts | held_out_metrics(scores, len(held_out), "eval_accuracy", "eval_margin")


if __name__ == "__main__":
    run_script(main, Path(sys.argv[1]))
