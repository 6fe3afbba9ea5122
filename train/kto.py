"""Train a LoRA KTO policy on single answers that were good or bad.

    python -m train.kto RUN_DIR

Reads RUN_DIR/config.json and RUN_DIR/data; writes progress.jsonl, samples.jsonl, adapter/,
scored.jsonl, result.json and DONE (or FAILED, CANCELLED, PAUSED). Unlike DPO it learns from "both
bad" too (Ethayarajh et al. 2024, arXiv 2402.01306). Which answers are good is said in
train/rules.py. The start and the reference are as in train/dpo.py.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from datasets import Dataset
from trl import KTOConfig, KTOTrainer

from store.rows import Invalid
from train.batching import OrderedRows
from train.encoding import Encoded, Encoder
from train.fitting import (
    Rows,
    callbacks,
    configured,
    fit,
    open_job,
    read_rows,
    shown,
    start,
    write_scored,
)
from train.picks import AnswerRow
from train.run_folder import RunFolder
from train.script import run_script
from train.settings import KtoSettings


class EncodedKTOTrainer(OrderedRows, KTOTrainer):
    """Takes rows that are token ids already."""

    def _prepare_dataset(
        self, dataset: Dataset, processing_class: Any, args: KTOConfig, name: str
    ) -> Dataset:
        """The KL of a batch is estimated from its own answers to each other's prompts."""
        others = neighbours(
            list(dataset["prompt_ids"]),
            list(dataset["completion_ids"]),
            args.per_device_train_batch_size,
        )
        return dataset.add_column("KL_completion_ids", others)


def main(run: RunFolder) -> dict[str, Any]:
    job = open_job(run, KtoSettings)
    settings: KtoSettings = job.settings
    rows = read_rows(job, encode)
    good = sum(rows.train["label"])
    if good in (0, len(rows.train)):
        raise Invalid(
            f"All {len(rows.train)} answers that fit are {'good' if good else 'bad'} ones, and kto "
            "needs both. Raise max_length, or annotate some more."
        )
    weights = balance(good, len(rows.train) - good, settings.balance)
    args = configured(KTOConfig, job, rows, beta=settings.beta, **weights)
    trainer = EncodedKTOTrainer(
        **start(job),
        args=args,
        # The two answers of a pick stand side by side, and neighbours are to be of other prompts.
        train_dataset=rows.train.shuffle(seed=settings.seed),
        eval_dataset=rows.held_out.shuffle(seed=0),
        batch=settings.batch,
        processing_class=job.tokenizer,
        callbacks=callbacks(job, rows),
    )
    scores = fit(job, trainer)
    write_scored(job, trainer, rows, good_answers(rows))
    found = shown(scores, margin="eval_rewards/margins", kl="eval_kl")
    return rows.counts | {"rows_good": good, "rows_bad": len(rows.train) - good} | found


def encode(encoder: Encoder, row: AnswerRow) -> tuple[dict[str, Any], int]:
    (one,) = encoder.answers(row.prompt, [row.answer])
    if row.cut:
        one = encoder.without_end(one)
    columns = {"prompt_ids": one.prompt, "completion_ids": one.answer, "label": row.good}
    return columns, len(one.ids)


def balance(good: int, bad: int, wanted: bool) -> dict[str, float]:
    """Weights with which both sides count the same in sum, and a row counts one on average."""
    if not wanted or not good or not bad:
        return {"desirable_weight": 1.0, "undesirable_weight": 1.0}
    half = (good + bad) / 2
    return {"desirable_weight": half / good, "undesirable_weight": half / bad}


def neighbours(prompts: list[list[int]], answers: list[list[int]], batch: int) -> list[list[int]]:
    """For each row the last answer before it in its batch that is to another prompt, round and
    round; where all prompts are the same, its predecessor's."""
    found = []
    for place in range(len(prompts)):
        first = place // batch * batch
        size = min(batch, len(prompts) - first)
        before = [first + (place - first - back) % size for back in range(1, size + 1)]
        found.append(answers[next((b for b in before if prompts[b] != prompts[place]), before[0])])
    return found


def good_answers(rows: Rows) -> list[Encoded]:
    return [
        Encoded(row["prompt_ids"], row["completion_ids"]) for row in rows.held_out if row["label"]
    ]


if __name__ == "__main__":
    run_script(main, Path(sys.argv[1]))
