"""The common flow of the training scripts, which all read like this:

    job = open_job(run, DpoSettings)              # config, settings, tokenizer; cheap checks first
    rows = read_rows(job, encode)                 # picks -> rows (train/rules.py) -> token ids
    args = configured(SomeConfig, job, rows, beta=...)
    trainer = SomeTrainer(
        load_base(job, AutoModelForCausalLM),
        args=args,
        train_dataset=rows.train, eval_dataset=rows.held_out,
        callbacks=callbacks(job, rows), ...
    )
    scores = fit(job, trainer)                    # float32, resume, train, evaluate, save
    return rows.counts | {...}                    # metrics of result.json

`encode(encoder, row)` turns one row into (columns that the trainer's collator reads, length in
tokens of its longest sequence). `fit` raises Stopped when somebody asked for an early end.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet
import torch
from datasets import Dataset
from peft import PeftModel
from torch.distributed import is_initialized
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from store.rows import Invalid
from train.encoding import Encoded, Encoder, Unfit, day_of, open_tokenizer
from train.picks import PEOPLES, Pick, Row
from train.quantized import (
    base_arguments,
    computes_in,
    device,
    keep_adapters_in_fp32,
    load_weights,
    lora,
    save_adapter,
    under_fsdp,
)
from train.rules import rows_of
from train.run_folder import RunFolder, step_of
from train.sampling import Prompt, Samples, logprobs
from train.script import Stopped, disk_is_full, enough_rows, is_main, processes
from train.settings import CommonSettings, stored
from train.steps import full_batches, shared_step, steps_of, warmup_steps
from train.trackers import tracker_arguments, trackers
from train.watching import AtPoints, KeepBest, Progress, StopOnNaN, StopWhenAsked

Columns = dict[str, Any]
Encode = Callable[[Encoder, Any], tuple[Columns, int]]
SCORED = 64  # held-out answers whose log-probabilities are kept
LEFT_OUT = ("rows_too_long", "rows_refused", "rows_alike")
LOGS = 50  # lines of progress.jsonl in a run, about


@dataclass(frozen=True)
class Job:
    """What a script was asked to do."""

    run: RunFolder
    config: dict[str, Any]
    settings: Any  # of the script's own class
    tokenizer: PreTrainedTokenizerBase
    encoder: Encoder
    reports: dict[str, Any]  # keyword arguments about trackers
    resume_from: Path | None

    @property
    def precision(self) -> str:
        return str(self.config["precision"])

    @property
    def start_adapter(self) -> Path | None:
        """Of the champion, when the run goes on from it; the base has none."""
        folder = self.config.get("start_adapter")
        return Path(folder) if self.settings.goes_on and folder else None

    @property
    def known(self) -> frozenset[str]:
        """Held-out prompts that the adapter which it starts from was trained on."""
        return frozenset(self.config.get("known_held_out", ()))

    @property
    def pad_token_id(self) -> int:
        return int(self.tokenizer.pad_token_id)


@dataclass(frozen=True)
class Rows:
    train: Dataset
    held_out: Dataset  # as many as fill whole batches
    eval_batch: int
    prompts: list[Prompt]  # held out, for samples
    counts: dict[str, int]
    judged: list[int | None]  # the pick behind each held-out row; None for a tie and for an edit


def open_job(run: RunFolder, kind: type[CommonSettings]) -> Job:
    """Read the folder, and find a state to resume from. Raises Invalid."""
    config = run.config()
    settings = stored(kind, config["settings"])
    reports = tracker_arguments(trackers(settings.report_to), config["run_id"])
    tokenizer = open_tokenizer(config["base"])
    if settings.patience and under_fsdp():
        raise Invalid("patience cannot keep the best adapter under FSDP yet. Set patience to 0.")
    checkpoint = run.newest_checkpoint()
    if is_main():
        run.forget_after(step_of(checkpoint) if checkpoint else -1)
        run.remove_unfinished_checkpoints()
        run.remove_adapter()
        if checkpoint:
            # TRL's copy of the start: with it in the folder, transformers would load only the copy.
            shutil.rmtree(checkpoint / "ref", ignore_errors=True)
        os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(run.path / "tensorboard"))
    encoder = Encoder(tokenizer, day_of(config))
    return Job(run, config, settings, tokenizer, encoder, reports, checkpoint)


# --- rows -----------------------------------------------------------------------------------------


def read_rows(job: Job, encode: Encode) -> Rows:
    """Rows of both splits that fit, and counts. Raises Invalid when they are few."""
    kept: dict[str, list[tuple[Columns, int | None]]] = {}
    counts = dict.fromkeys(LEFT_OUT, 0) | {"rows_other_prompt": 0}
    held_out: list[Pick] = []
    for split in ("train", "eval"):
        picks = read_picks(job.run, split)
        if split == "eval":
            picks = held_out = [one for one in picks if one.prompt_id not in job.known]
        kept[split] = []
        for number, pick in enumerate(picks):
            for row in rows_of(pick, job.settings):
                before = job.encoder.parted_early
                columns, why = fitting(job, encode, row, pick.prompt_id)
                if columns is None:
                    counts[f"rows_{why}"] += 1
                    continue
                counts["rows_other_prompt"] += job.encoder.parted_early - before
                kept[split].append((columns, number if row.origin in PEOPLES else None))
        counts[f"rows_{split}"] = len(kept[split])
    enough_rows(counts)
    if job.config["kind"] == "rm":  # is not served
        del counts["rows_other_prompt"]
    measured, eval_batch = full_batches(kept["eval"], job.settings.batch, processes())
    return Rows(
        Dataset.from_list([columns for columns, _ in kept["train"]]),
        Dataset.from_list([columns for columns, _ in measured]),
        eval_batch,
        sample_prompts(job, held_out),
        counts,
        [number for _, number in measured],
    )


def fitting(job: Job, encode: Encode, row: Row, prompt_id: str) -> tuple[Columns | None, str]:
    """None and why when the row cannot be trained on: too_long, refused or alike."""
    try:
        columns, length = encode(job.encoder, row)
    except Unfit as error:
        if is_main():
            print(f"A row of {prompt_id} is left out: {error}", flush=True)
        return None, error.why
    return (columns, "") if length <= job.settings.max_length else (None, "too_long")


def read_picks(run: RunFolder, split: str) -> list[Pick]:
    """`split`: train or eval."""
    table = pyarrow.parquet.read_table(run.data / f"{split}.parquet")
    return [Pick.of(row) for row in table.to_pylist()]


def sample_prompts(job: Job, picks: Iterable[Pick]) -> list[Prompt]:
    """The first few that fit and are told apart; a reward model writes no answers."""
    found: dict[str, Prompt] = {}
    for pick in picks:
        if len(found) == getattr(job.settings, "samples", 0):
            break
        try:
            ids = job.encoder.prompt(pick.prompt)
        except Unfit:
            continue
        if len(ids) < job.settings.max_length:
            found.setdefault(repr(pick.prompt), Prompt(pick.prompt_id, pick.prompt, ids))
    return list(found.values())


# --- trainer --------------------------------------------------------------------------------------


def load_base(job: Job, kind: Any, **more: Any) -> Any:
    """Under FSDP only the trainer's config gives each process its device: without it, all of them
    would load the weights onto the first one."""
    assert processes() == 1 or is_initialized(), "make the config before the model"
    return kind.from_pretrained(job.config["base"], **base_arguments(job.precision), **more)


def start(job: Job) -> dict[str, Any]:
    """The model and where its adapter starts, as arguments of the trainer of a policy."""
    base = load_base(job, AutoModelForCausalLM)
    if not job.start_adapter:
        return {"model": base, "peft_config": lora(job.settings.rank, "CAUSAL_LM")}
    try:
        return {"model": PeftModel.from_pretrained(base, job.start_adapter, is_trainable=True)}
    except (RuntimeError, ValueError) as error:
        raise Invalid(
            "The champion's adapter does not fit this base. Start from the base: set start=base."
        ) from error


def arguments(job: Job, rows: Rows) -> dict[str, Any]:
    """What the configs of all TRL trainers have in common."""
    settings = job.settings
    batch, accumulate = shared_step(job.config["kind"], settings, processes())
    on_cpu = device() == "cpu"
    return job.reports | {
        "output_dir": str(job.run.checkpoints),
        "learning_rate": settings.learning_rate,
        "num_train_epochs": settings.epochs,
        "lr_scheduler_type": settings.schedule,
        "warmup_steps": warmup_steps(settings.warmup, steps_of(len(rows.train), settings)),
        "max_grad_norm": settings.max_grad_norm,
        "weight_decay": settings.weight_decay,
        "per_device_train_batch_size": batch,
        "per_device_eval_batch_size": rows.eval_batch,
        "gradient_accumulation_steps": accumulate,
        "max_length": settings.max_length,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "logging_steps": max(1, steps_of(len(rows.train), settings) // LOGS),
        "logging_nan_inf_filter": False,  # the default logs NaN as 0.0
        "eval_strategy": "no",  # AtPoints asks for both
        "save_strategy": "no",
        "save_total_limit": 2,  # the last one may be cut short by a kill
        "disable_tqdm": True,
        "seed": settings.seed,
        "use_cpu": on_cpu,
        "bf16": computes_in() == torch.bfloat16,
        "ddp_backend": "gloo" if on_cpu and processes() > 1 else None,
        "ddp_find_unused_parameters": False,
        "dataloader_pin_memory": not on_cpu,
    }


def configured(kind: Any, job: Job, rows: Rows, **own: Any) -> Any:
    """The config of one of TRL's trainers. `own`: what only that trainer has."""
    made = kind(**arguments(job, rows), **own)
    made._n_gpu = min(made.n_gpu, 1)  # TRL refuses one process on several GPUs: it takes the first
    return made


def callbacks(job: Job, rows: Rows) -> list[Any]:
    """In the order in which they are called; the log line comes before what reads it."""
    settings, run = job.settings, job.run
    until = step_of(job.resume_from) if job.resume_from else -1
    before = [
        float(line["eval_loss"])
        for line in run.progress()
        if "eval_loss" in line and line["step"] <= until
    ]
    return [
        Progress(run),
        StopOnNaN(run),
        AtPoints(settings.evaluations, settings.checkpoints),
        KeepBest(run, settings.patience, before),
        Samples(run, job.tokenizer, rows.prompts),
        StopWhenAsked(run),
    ]


def fit(job: Job, trainer: Any) -> dict[str, float]:
    """Train, evaluate and save the adapter; the held-out scores in the trainer's words.

    Raises Stopped, and FloatingPointError for a loss or weights that are not finite.
    """
    keep_adapters_in_fp32(trainer.model)
    if job.start_adapter:
        start_from(trainer.model, job.start_adapter)
    trainer.create_model_card = lambda **_: None  # a text about training for each checkpoint
    trainer.accelerator.wait_for_everyone()  # the first process has tidied the checkpoint
    trainer.train(resume_from_checkpoint=str(job.resume_from) if job.resume_from else None)
    if how := _watcher(trainer, StopWhenAsked).how:
        if how == "cancel":
            save_if_it_fits(trainer, job.run)
        raise Stopped(how, trainer.state.global_step)
    scores: dict[str, float] = trainer.evaluate()
    best = _watcher(trainer, KeepBest)
    if best.is_older:
        load_weights(trainer.model, best.folder)
        _watcher(trainer, Samples).last_step = -1  # the kept adapter answers in place of the last
        scores = trainer.evaluate()
    save_adapter(trainer, job.run)
    return scores


def save_if_it_fits(trainer: Any, run: RunFolder) -> None:
    """On a full disk a cancelled run is cancelled all the same, without an adapter."""
    try:
        save_adapter(trainer, run)
    except Exception as error:
        if not disk_is_full(error):
            raise
        print(f"The adapter is not kept: {error}", flush=True)
        shutil.rmtree(run.half_adapter, ignore_errors=True)


def start_from(model: Any, adapter: Path) -> None:
    """The exact weights, also in the frozen copy: TRL has rounded the trained one to bf16."""
    for name in ("default", "ref"):
        if name in model.peft_config:
            load_weights(model, adapter, name)


def _watcher(trainer: Any, kind: type) -> Any:
    return next(one for one in trainer.callback_handler.callbacks if isinstance(one, kind))


# --- results --------------------------------------------------------------------------------------


def shown(scores: dict[str, Any], **names: str) -> dict[str, float]:
    """Our names for the trainer's held-out scores: eval_loss, and those given as ours=theirs."""
    wanted = {"eval_loss": "eval_loss"} | names
    return {ours: float(scores[theirs]) for ours, theirs in wanted.items() if theirs in scores}


def write_scored(job: Job, trainer: Any, rows: Rows, answers: list[Encoded]) -> None:
    """Held-out answers as the trained policy scores them, for vLLM to score them too."""
    if not is_main() or under_fsdp():  # one process alone has no whole model
        return
    some = answers[:SCORED]
    known = logprobs(trainer.model, some, job.pad_token_id, rows.eval_batch)
    job.run.write_scored(
        {"prompt_ids": one.prompt, "answer_ids": one.answer, "logprobs": values}
        for one, values in zip(some, known, strict=True)
    )
