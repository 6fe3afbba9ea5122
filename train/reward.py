"""Train a LoRA reward model on frozen picks.

    python -m train.reward RUN_DIR

Reads RUN_DIR/config.json and RUN_DIR/data; writes progress.jsonl, adapter/, result.json and DONE
(or FAILED, CANCELLED, PAUSED). All answers of a pick are one row, also of four ranked ones, with
labels, weights or margins by its strength (train/rules.py, train/reward_trainer.py). The float32
head is part of the adapter. After training a temperature is fitted on the held-out picks, so that
sigmoid((reward - other reward) / temperature) is a probability; result.json has how often it comes
true, by pool, by annotator and by strength. Left out here: ensembles.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from trl import RewardConfig

from store.rows import Invalid
from train import calibration
from train.fitting import callbacks, configured, fit, open_job, read_picks, read_rows, shown
from train.quantized import base_arguments, lora, under_fsdp
from train.reward_head import fresh_reward_model
from train.reward_trainer import RankingCollator, RankingTrainer, encode_ranking
from train.run_folder import RunFolder
from train.score import scored_picks
from train.script import is_main, run_script
from train.settings import RewardSettings


def main(run: RunFolder) -> dict[str, Any]:
    job = open_job(run, RewardSettings)
    settings: RewardSettings = job.settings
    if under_fsdp():
        raise Invalid(
            "A reward model cannot be trained under FSDP yet: its head stays in float32. Use DDP."
        )
    rows = read_rows(job, encode_ranking)
    # Before the model: with it each process learns its device.
    config = configured(RewardConfig, job, rows, center_rewards_coefficient=settings.center or None)
    trainer = RankingTrainer(
        fresh_reward_model(job.config["base"], base_arguments(job.precision), job.tokenizer),
        args=config,
        train_dataset=rows.train,
        eval_dataset=rows.held_out,
        data_collator=RankingCollator(job.pad_token_id),
        batch=settings.batch,
        similar_lengths=settings.batching == "similar_length",
        processing_class=job.tokenizer,
        peft_config=lora(settings.rank, "SEQ_CLS"),
        callbacks=callbacks(job, rows),
    )
    found = fit(job, trainer)
    if not is_main():
        return {}
    scored = scored_picks(trainer.model, job.encoder, read_picks(run, "eval"), settings)
    return rows.counts | shown(found) | calibration.report(scored)


if __name__ == "__main__":
    run_script(main, Path(sys.argv[1]))
