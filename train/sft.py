"""Supervised training of a LoRA on the picked answers and the edits.

    python -m train.sft RUN_DIR

Reads RUN_DIR/config.json and RUN_DIR/data; writes progress.jsonl, samples.jsonl, adapter/,
scored.jsonl, result.json and DONE (or FAILED, CANCELLED, PAUSED). The loss is that of the answers'
tokens only. NEFTune adds noise to the embeddings while it trains (Jain et al. 2023, arXiv
2310.05914). Which answers are imitated is said in train/rules.py.
Left out here: packing, and continuing an earlier adapter.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM
from trl import SFTConfig, SFTTrainer

from train.batching import OrderedRows
from train.encoding import Encoded, Encoder
from train.fitting import (
    callbacks,
    configured,
    fit,
    load_base,
    open_job,
    read_rows,
    shown,
    write_scored,
)
from train.picks import ExampleRow
from train.quantized import lora
from train.run_folder import RunFolder
from train.script import run_script
from train.settings import SftSettings


class OrderedSFTTrainer(OrderedRows, SFTTrainer):
    pass


def main(run: RunFolder) -> dict[str, Any]:
    job = open_job(run, SftSettings)
    rows = read_rows(job, encode)
    args = configured(
        SFTConfig,
        job,
        rows,
        neftune_noise_alpha=job.settings.neftune or None,
        dataset_kwargs={"skip_prepare_dataset": True},  # the rows are token ids
    )
    trainer = OrderedSFTTrainer(
        load_base(job, AutoModelForCausalLM),
        args=args,
        train_dataset=rows.train,
        eval_dataset=rows.held_out,
        batch=job.settings.batch,
        processing_class=job.tokenizer,
        peft_config=lora(job.settings.rank, "CAUSAL_LM"),
        callbacks=callbacks(job, rows),
    )
    scores = fit(job, trainer)
    write_scored(job, trainer, rows, [answer_of(row) for row in rows.held_out])
    return rows.counts | shown(scores, token_accuracy="eval_mean_token_accuracy")


def encode(encoder: Encoder, row: ExampleRow) -> tuple[dict[str, Any], int]:
    (one,) = encoder.answers(row.prompt, [row.answer])
    labels = [-100] * len(one.prompt) + one.answer
    return {"input_ids": one.ids, "labels": labels}, len(one.ids)


def answer_of(row: dict[str, Any]) -> Encoded:
    first = sum(label == -100 for label in row["labels"])
    return Encoded(row["input_ids"][:first], row["input_ids"][first:])


if __name__ == "__main__":
    run_script(main, Path(sys.argv[1]))
