"""What goes wrong in training, for real: each gives one clear reason and never an adapter."""

from __future__ import annotations

import json
import resource
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.forked_scripts import begin, done, failed, forked, forked_base, last_step, until
from tests.tiny_runs import make_run, pick, start
from train.outlook import run_warnings
from train.script import DISK_FULL, OUT_OF_MEMORY

pytestmark = pytest.mark.slow
POISON = "ocean"  # a word that stands in no other text


@pytest.fixture(scope="module")
def base(starter_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return forked_base(starter_dir, tmp_path_factory.mktemp("base") / "tiny")


def copied(base: Path, folder: Path) -> Path:
    shutil.copytree(base, folder)
    return folder


# --- numbers that are none ----------------------------------------------------------------------


def poison(folder: Path, word: str) -> None:
    """The base turns to NaN wherever a text has this word."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder)
    ids = AutoTokenizer.from_pretrained(folder)(f" {word}", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        model.get_input_embeddings().weight[ids] = torch.nan
    model.save_pretrained(folder)


def test_nan_at_step_7_ends_the_run_before_it_reaches_the_weights(
    base: Path, tmp_path: Path
) -> None:
    """Pick 8 comes at step 7 with seed 0. Once the base is whole again, the run goes on."""
    sick = copied(base, tmp_path / "sick")
    forked(poison, sick, POISON).join(60)
    rows = [pick(n) for n in range(40)]
    rows[8] = with_word(rows[8], POISON)
    run = make_run(tmp_path / "run-1", "dpo", sick, train=rows, epochs=1, checkpoints=4)
    assert failed(run) == "loss is not finite at step 7; lower the learning rate"
    assert max(line["step"] for line in run.progress() if "loss" in line) == 6
    (told,) = (one for one in run_warnings(run.progress()) if one.key == "loss_not_finite")
    assert told.step == 7
    checkpoint = run.newest_checkpoint()
    assert checkpoint is not None and checkpoint.name == "checkpoint-6"
    shutil.rmtree(sick)
    copied(base, sick)
    run.reopen()
    assert done(run)["rows_train"] == 40
    assert [line["step"] for line in run.progress() if "loss" in line] == list(range(1, 11))


def with_word(row: dict[str, Any], word: str) -> dict[str, Any]:
    return row | {"prompt": [{"role": "user", "content": f"the {word}"}]}


def test_a_learning_rate_that_is_far_too_large(base: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run-1", "dpo", base, learning_rate=1e30, warmup=0.0, epochs=1)
    assert failed(run) == "loss is not finite at step 2; lower the learning rate"


def test_an_adapter_that_only_the_last_step_spoils(base: Path, tmp_path: Path) -> None:
    """There is no step after it to find out; the measurement does."""
    run = make_run(
        tmp_path / "run-1", "sft", base, learning_rate=1e30, warmup=0.0, epochs=1, batch=24
    )
    assert failed(run).startswith("eval_loss is not finite at step 1")


# --- too little room ----------------------------------------------------------------------------


def test_too_little_memory(base: Path, tmp_path: Path) -> None:
    """A limit of the kernel on the process: the allocator is really refused."""
    long = {"answers": [{"text": "sun " * n, "cut": False} for n in (3000, 2000)]}
    run = make_run(
        tmp_path / "run-1",
        "dpo",
        base,
        train=[pick(n, **long) for n in range(16)],
        max_length=4096,
        batch=16,
    )
    assert failed(run, {resource.RLIMIT_AS: 400 << 20}) == OUT_OF_MEMORY


def test_a_full_disk_at_a_checkpoint(base: Path, tmp_path: Path) -> None:
    """A limit of the kernel on the size of a file, which the optimiser's state exceeds."""
    run = make_run(tmp_path / "run-1", "dpo", base, epochs=1, checkpoints=2)
    assert failed(run, {resource.RLIMIT_FSIZE: 50 << 10}) == DISK_FULL
    assert not list(run.checkpoints.iterdir())  # the half one gave its room back
    run.reopen()
    done(run)


def test_a_full_disk_while_the_adapter_is_written(base: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run-1", "sft", base, epochs=1)
    assert failed(run, {resource.RLIMIT_FSIZE: 20 << 10}) == DISK_FULL
    assert not list(run.path.glob("adapter*"))  # what was written gave its room back


def test_a_cancel_on_a_full_disk_is_a_cancel(base: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run-1", "sft", base, epochs=9)
    process = begin(run, {resource.RLIMIT_FSIZE: 20 << 10})
    until(lambda: last_step(run) >= 2)
    run.ask_to_stop("cancel")
    process.join(60)
    assert process.exitcode == 0 and run.ending() == ("CANCELLED", "Stopped on request.")
    assert not list(run.path.glob("adapter*"))


def test_a_full_disk_at_the_end(base: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run-1", "sft", base, epochs=1)
    (run.path / "scored.jsonl").symlink_to("/dev/full")
    assert failed(run) == DISK_FULL


# --- bad input ----------------------------------------------------------------------------------


def test_rows_that_cannot_be_trained_on_are_left_out_and_counted(
    base: Path, tmp_path: Path
) -> None:
    same = {"answers": [{"text": "sun", "cut": False}] * 2}
    long_prompt = {"prompt": [{"role": "user", "content": "sun " * 300}]}
    long_answer = {"answers": [{"text": "sun " * n, "cut": False} for n in (300, 2)]}
    rows = [pick(n) for n in range(8)]
    rows += [pick(8, **same), pick(9, **long_prompt), pick(10, **long_answer)]
    run = make_run(tmp_path / "run-1", "dpo", base, train=rows, epochs=1)
    found = done(run)
    assert (found["rows_train"], found["rows_too_long"]) == (8, 2)


def strict(base: Path, folder: Path) -> Path:
    """The same base with a template that takes no system message, as Gemma's."""
    copied(base, folder)
    template = folder / "chat_template.jinja"
    refusal = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('No system!') }}{% endif %}"
    )
    template.write_text(refusal + template.read_text())
    return folder


SYSTEM = {"prompt": [{"role": "system", "content": "Be calm."}, {"role": "user", "content": "sun"}]}


@pytest.mark.parametrize("part", ["dpo", "rm"])
def test_rows_that_the_template_refuses_are_left_out_and_counted(
    base: Path, tmp_path: Path, part: Any
) -> None:
    more: dict[str, Any] = {} if part == "rm" else {"samples": 2}
    run = make_run(
        tmp_path / "run-1", part, strict(base, tmp_path / "strict"), epochs=1, **more,
        train=[pick(n) for n in range(8)] + [pick(8, **SYSTEM), pick(9, **SYSTEM)],
        held_out=[pick(100, **SYSTEM), *(pick(n) for n in range(101, 105))],
    )  # fmt: skip
    found = done(run)
    assert (found["rows_train"], found["rows_eval"], found["rows_refused"]) == (8, 4, 3)
    assert "A row of prompt-8 is left out: No system!" in run.log.read_text()


def test_a_template_whose_prompt_is_not_in_the_conversation_is_told(
    base: Path, tmp_path: Path
) -> None:
    """As templates do that open a thought which a whole answer has not."""
    opens = copied(base, tmp_path / "opens")
    template = opens / "chat_template.jinja"
    template.write_text(template.read_text() + "{% if add_generation_prompt %}Well, {% endif %}")
    long = {"prompt": [{"role": "user", "content": "sun " * 300}]}
    rows = [pick(n) for n in range(8)] + [pick(n, **long) for n in range(8, 20)]
    found = done(make_run(tmp_path / "run-1", "dpo", opens, train=rows, epochs=1))
    assert found["rows_too_long"] == 12
    (warning,) = (one for one in run_warnings([], metrics=found) if one.key == "other_prompt")
    rows = found["rows_train"] + found["rows_eval"]
    assert warning.values == {"rows": rows, "all": rows}


def test_a_template_that_refuses_all_rows(base: Path, tmp_path: Path) -> None:
    rows = [pick(n, **SYSTEM) for n in range(8)]
    run = make_run(tmp_path / "run-1", "sft", strict(base, tmp_path / "strict"), train=rows)
    assert failed(run) == (
        "Too few rows fit: 0 to train on, 8 held out, 0 longer than max_length, 8 that the chat "
        "template refuses (why is in the log). Annotate more or raise max_length."
    )


@pytest.mark.parametrize("part", ["dpo", "sft", "kto"])
def test_when_too_few_rows_fit_it_says_so(base: Path, tmp_path: Path, part: Any) -> None:
    run = make_run(tmp_path / "run-1", part, base, max_length=10)
    assert failed(run).startswith("Too few rows fit: 0 to train on, 0 held out, ")
    assert "Traceback" in run.log.read_text()


def test_kto_of_bad_answers_alone(base: Path, tmp_path: Path) -> None:
    """Every picked answer is too long: what is left would only be unlearned."""
    long, short = ({"text": "sun " * n, "cut": False} for n in (300, 2))
    rows = [pick(n, better=0, verdict="left", answers=[long, short]) for n in range(8)]
    run = make_run(tmp_path / "run-1", "kto", base, train=rows)
    assert failed(run) == (
        "All 8 answers that fit are bad ones, and kto needs both. Raise max_length, or annotate "
        "some more."
    )


def test_a_base_without_a_chat_template(base: Path, tmp_path: Path) -> None:
    plain = copied(base, tmp_path / "plain")
    (plain / "chat_template.jinja").unlink()
    run = make_run(tmp_path / "run-1", "sft", plain)
    assert failed(run) == ("The base model has no chat template. Choose an instruct or chat model.")


def test_a_tracker_that_is_not_installed(base: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run-1", "sft", base, report_to="swanlab")
    assert failed(run).startswith("The tracker swanlab is not installed. ")


def test_a_tracker_gets_the_curves_of_a_run(base: Path, tmp_path: Path) -> None:
    """trackio, as it is by default: the same steps and losses as in the run's own file."""
    run = make_run(tmp_path / "run-1", "dpo", base, epochs=1, report_to="trackio", evaluations=2)
    process = start("train.dpo", run, TRACKIO_DIR=str(tmp_path / "trackio"))
    assert process.wait(120) == 0, run.log.read_text()
    with closing(sqlite3.connect(tmp_path / "trackio" / "prefloop.db")) as database:
        rows = database.execute("select run_name, metrics from metrics").fetchall()
    assert {name for name, _ in rows} == {"run-1"}
    told = [json.loads(metrics) for _, metrics in rows]
    for theirs, ours in (("train/loss", "loss"), ("eval/loss", "eval_loss")):
        tracked = [one[theirs] for one in told if theirs in one]
        own = [line[ours] for line in run.progress() if ours in line]
        assert len(own) > 1 and tracked[: len(own)] == pytest.approx(own, rel=1e-3)


def test_an_adapter_of_another_base(base: Path, tmp_path: Path) -> None:
    source = make_run(tmp_path / "run-1", "sft", base, epochs=1)
    done(source)
    wide = copied(base, tmp_path / "wide")
    forked(widened, wide).join(60)
    run = make_run(
        tmp_path / "run-2",
        "dpo",
        wide,
        config={"start_adapter": str(source.adapter)},
        start="champion",
    )
    assert failed(run).startswith("The champion's adapter does not fit this base.")


def widened(folder: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder)
    config.intermediate_size = 192
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
