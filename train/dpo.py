"""Train a LoRA DPO policy on frozen picks.

    python -m train.dpo RUN_DIR

Reads RUN_DIR/config.json and RUN_DIR/data; writes progress.jsonl, samples.jsonl, adapter/,
scored.jsonl, result.json and DONE (or FAILED, CANCELLED, PAUSED). By default a fresh LoRA on the
base, which with the adapter off is the reference too, so there is one copy of the weights (Rafailov
et al. 2023; the likelihood term on the chosen side as in Llama 3, arXiv 2407.21783). With
start=champion the champion's adapter goes on and a frozen copy of it is the reference.
What a pick means is said in train/rules.py, the losses are in train/losses.py.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import fmean
from typing import Any

from trl import DPOConfig

from train.dpo_trainer import WeightedCollator, WeightedDPOTrainer, encode_pair
from train.encoding import Encoded
from train.fitting import (
    Job,
    Rows,
    accuracy_of,
    callbacks,
    configured,
    fit,
    open_job,
    read_picks,
    read_rows,
    share_right,
    shown,
    start,
    write_scored,
)
from train.losses import PairLoss
from train.quantized import under_fsdp
from train.rules import EVEN, pair_rows
from train.run_folder import RunFolder
from train.sampling import logprobs
from train.script import is_main, run_script
from train.settings import BY_TOKEN, DpoSettings
from train.words import usual_words


def main(run: RunFolder) -> dict[str, Any]:
    job = open_job(run, DpoSettings)
    settings: DpoSettings = job.settings
    rows = read_rows(job, encode_pair)
    trainer = WeightedDPOTrainer(
        **start(job),
        args=configured(DPOConfig, job, rows, beta=settings.beta),
        pair_loss=PairLoss(settings.loss, settings.beta, settings.label_smoothing),
        imitation_weight=settings.sft_weight,
        length_alpha=settings.length_alpha,
        batch=settings.batch,
        similar_lengths=settings.batching == "similar_length",
        train_dataset=rows.train,
        eval_dataset=rows.held_out,
        data_collator=WeightedCollator(pad_token_id=job.pad_token_id),
        processing_class=job.tokenizer,
        callbacks=callbacks(job, rows),
    )
    scores = fit(job, trainer)
    write_scored(job, trainer, rows, answers(rows, "chosen_ids"))
    right = [trainer.right.get(number, 0.0) for number in range(len(rows.judged))]
    share, decided = share_right(right, rows.judged)
    more: dict[str, Any] = {"rows_decided": decided, "picked_words": picked_words(job)}
    if job.start_adapter and is_main() and not under_fsdp():
        more["accuracy_since_champion"] = share
        share, decided = share_right(right_against_base(job, trainer, rows), rows.judged)
    return (
        rows.counts
        | more
        | accuracy_of(share, decided)
        | shown(scores, margin="eval_rewards/margins")
    )


def answers(rows: Rows, side: str) -> list[Encoded]:
    """`side`: chosen_ids or rejected_ids."""
    return [Encoded(row["prompt_ids"], row[side]) for row in rows.held_out]


def right_against_base(job: Job, trainer: WeightedDPOTrainer, rows: Rows) -> list[float]:
    """Held-out rows, 1.0 where the chosen answer gained more on the base than the rejected one.

    Rewards of a run that goes on are against the champion: they are near chance on picks that the
    champion orders rightly already, so the gate cannot judge the policy by them.
    """

    def gained(side: str) -> list[float]:
        some = answers(rows, side)
        with_it = logprobs(trainer.model, some, job.pad_token_id, rows.eval_batch)
        with trainer.model.disable_adapter():
            without = logprobs(trainer.model, some, job.pad_token_id, rows.eval_batch)
        total = fmean if job.settings.loss in BY_TOKEN else sum
        return [total(one) - total(other) for one, other in zip(with_it, without, strict=True)]

    sides = zip(gained("chosen_ids"), gained("rejected_ids"), strict=True)
    return [float(chosen > rejected) for chosen, rejected in sides]


def picked_words(job: Job) -> tuple[float, float] | None:
    """How long the answers are that people picked: the gate holds the policy's against it."""
    rows = [row for pick in read_picks(job.run, "train") for row in pair_rows(pick, job.settings)]
    return usual_words(row.chosen for row in rows if row.p > EVEN)


if __name__ == "__main__":
    run_script(main, Path(sys.argv[1]))
