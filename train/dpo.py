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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trl import DPOConfig

from train.dpo_trainer import WeightedCollator, WeightedDPOTrainer, encode_pair
from train.encoding import Encoded
from train.fitting import (
    Job,
    Rows,
    callbacks,
    configured,
    fit,
    open_job,
    read_picks,
    read_rows,
    shown,
    start,
    write_scored,
)
from train.interval import accuracy_of, share_right
from train.losses import PairLoss
from train.picks import PairRow
from train.rules import pair_rows
from train.run_folder import RunFolder
from train.script import run_script
from train.settings import DpoSettings
from train.words import usual_words


def main(run: RunFolder) -> dict[str, Any]:
    job = open_job(run, DpoSettings)
    settings: DpoSettings = job.settings
    rows = read_rows(job, encode_pair)
    args = configured(DPOConfig, job, rows, beta=settings.beta)
    trainer = WeightedDPOTrainer(
        **start(job),
        args=args,
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
    chosen = [Encoded(row["prompt_ids"], row["chosen_ids"]) for row in rows.held_out]
    write_scored(job, trainer, rows, chosen)
    share, decided = judged(trainer.right, rows)
    more: dict[str, Any] = {"rows_decided": decided, "picked_words": picked_words(job)}
    if job.start_adapter:
        more["accuracy_since_champion"] = share
        share, _ = judged(trainer.right_against_base(), rows)
    return (
        rows.counts
        | more
        | accuracy_of(share, decided)
        | shown(scores, margin="eval_rewards/margins")
    )


def judged(right: dict[int, float], rows: Rows) -> tuple[float, int]:
    """Share of held-out picks that are ordered as people did, and how many are decided."""
    return share_right([right.get(number, 0.0) for number in range(len(rows.judged))], rows.judged)


def picked_words(job: Job) -> tuple[float, float] | None:
    """How long the answers are that people picked: the gate holds the policy's against it."""
    picks = read_picks(job.run, "train")
    return usual_words(filter(None, (picked(pair_rows(one, job.settings)) for one in picks)))


def picked(rows: Sequence[PairRow]) -> str | None:
    """Of the rows of one pick: its edit, which comes last, else the better or best answer. A tie
    has none."""
    found = [row for row in rows if row.origin != "tie"]
    if not found:
        return None
    return (found[-1] if found[-1].origin == "edit" else found[0]).chosen


if __name__ == "__main__":
    run_script(main, Path(sys.argv[1]))
