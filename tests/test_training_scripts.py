"""The real training scripts on a tiny nf4 model: what they write, resume, pause, cancel, repeat."""

from __future__ import annotations

import json
import math
import signal
import time
from pathlib import Path

import pytest

from tests.forked_scripts import begin, done, forked_base, last_step, log_of, until
from tests.tiny_runs import again, make_run, pick
from train.policy.adapters import read_safetensors
from train.run_folder import RunFolder

pytestmark = pytest.mark.slow
CHECKED = {"checkpoints": 3, "evaluations": 2, "samples": 2, "sft_weight": 0.0, "epochs": 3}


@pytest.fixture(scope="module")
def base(starter_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return forked_base(starter_dir, tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="module")
def fresh(base: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A DPO run of 18 steps that nothing disturbed."""
    run = make_run(tmp_path_factory.mktemp("fresh") / "run-1", "dpo", base, **CHECKED)
    done(run)
    return run


@pytest.fixture(scope="module")
def continued(fresh: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The same, from the adapter of the fresh one."""
    run = going_on(fresh, tmp_path_factory.mktemp("continued") / "run-2")
    done(run)
    return run


def going_on(fresh: RunFolder, folder: Path, **settings: float | str) -> RunFolder:
    run = again(fresh, folder, start="champion", **settings)
    run.freeze(run.config() | {"start_adapter": str(fresh.adapter)})
    return run


def losses(run: RunFolder, key: str = "loss") -> dict[int, float]:
    return {line["step"]: line[key] for line in run.progress() if key in line}


def weights(run: RunFolder) -> bytes:
    return (run.adapter / "adapter_model.safetensors").read_bytes()


def killed_after(run: RunFolder, step: int) -> float:
    """The time of it."""
    process = begin(run)
    until(lambda: last_step(run) >= step)
    process.kill()
    process.join()
    assert run.ending() is None, "it was over before it could be killed"
    return time.time()


def resumed(run: RunFolder, killed: float, steps: tuple[int, ...]) -> None:
    """It went on from a checkpoint of one of these steps, and did not begin anew."""
    before = [line["step"] for line in run.progress() if "loss" in line and line["time"] < killed]
    assert before[0] == 1 and before[-1] in steps


# --- what a run writes ------------------------------------------------------------------------


def test_a_fresh_run_starts_at_log_2_and_learns(fresh: RunFolder) -> None:
    assert losses(fresh)[1] == pytest.approx(math.log(2), abs=1e-6)
    metrics = fresh.metrics()
    assert metrics["eval_loss"] < 0.66 and metrics["accuracy"] == 1.0
    assert 0.5 < metrics["accuracy_low"] < metrics["accuracy_high"] == 1.0
    assert (metrics["rows_train"], metrics["rows_eval"], metrics["rows_too_long"]) == (24, 8, 0)


def test_how_sure_picks_are_weighs_the_loss(base: Path, tmp_path: Path) -> None:
    """At the start every pair has the loss log 2, by its weight: 18 picked much, 6 slightly."""
    rows = [pick(n, strength=3 if n < 18 else 1) for n in range(24)]
    run = make_run(
        tmp_path / "run-1", "dpo", base, train=rows, sft_weight=0.0, epochs=1, learning_rate=1e-9
    )
    done(run)
    found = losses(run)
    assert len(found) == 6 and len(set(found.values())) > 1
    assert sum(found.values()) / 6 == pytest.approx(1.25 * math.log(2), abs=1e-5)


def test_progress_has_what_the_charts_show(fresh: RunFolder) -> None:
    lines = fresh.progress()
    trained = next(line for line in lines if line["step"] == 7 and "loss" in line)
    assert trained.keys() >= {
        "loss", "learning_rate", "grad_norm", "reward_chosen", "reward_rejected", "margin",
        "accuracy", "logps_chosen", "logps_rejected", "tokens", "tokens_per_second",
        "memory_mb", "epoch", "step", "max_steps", "seconds", "time",
    }  # fmt: skip
    assert list(losses(fresh)) == list(range(1, 19))
    assert list(losses(fresh, "eval_loss")) == [6, 12, 18]
    measured = next(line for line in lines if "eval_loss" in line)
    assert measured.keys() >= {"eval_margin", "eval_accuracy", "eval_logps_chosen", "step"}
    assert "tokens" not in measured


def test_samples_answer_the_same_prompts_on_the_way(fresh: RunFolder) -> None:
    lines = fresh.samples()
    assert [line["step"] for line in lines] == [0, 0, 6, 6, 12, 12, 18, 18]
    assert {line["prompt_id"] for line in lines} == {"prompt-100", "prompt-101"}
    assert lines[0]["prompt"] == lines[2]["prompt"] and lines[0]["text"]
    assert lines[0]["text"] != lines[-2]["text"]


def scored(run: RunFolder) -> list[dict]:
    return [json.loads(line) for line in (run.path / "scored.jsonl").read_text().splitlines()]


def test_the_lengths_of_picked_answers_are_told(fresh: RunFolder) -> None:
    assert fresh.metrics()["picked_words"] == [6.0, 6.0]  # the gate holds the policy's against them


def test_held_out_answers_are_scored_for_the_precision_gap(fresh: RunFolder) -> None:
    rows = scored(fresh)
    assert len(rows) == 8
    for row in rows:
        assert len(row["logprobs"]) == len(row["answer_ids"])
        assert all(value < 0 for value in row["logprobs"])
    last = next(reversed(fresh.progress()))  # the held-out log-probabilities of the trainer itself
    total = sum(sum(row["logprobs"]) for row in rows) / len(rows)
    assert total == pytest.approx(last["eval_logps_chosen"], rel=2e-3)


def test_what_is_served_is_all_that_is_left(fresh: RunFolder) -> None:
    assert sorted(path.name for path in fresh.adapter.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert {t.dtype.name for t in _tensors(fresh).values()} == {"float32"}
    assert not fresh.checkpoints.exists() and not (fresh.path / ".reserve").exists()


def _tensors(run: RunFolder) -> dict:
    return read_safetensors(run.adapter / "adapter_model.safetensors")


# --- the same again ---------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_numbers(fresh: RunFolder, tmp_path: Path) -> None:
    repeated = again(fresh, tmp_path / "run-2")
    assert done(repeated) == fresh.metrics()
    assert losses(repeated) == losses(fresh)
    assert weights(repeated) == weights(fresh)


@pytest.mark.parametrize(
    "moment",
    [
        "progress.jsonl",  # before there is any checkpoint
        "checkpoint-9/trainer_state.json",  # within one
        "adapter.tmp/adapter_config.json",  # its weights are written
        "adapter",
        "scored.jsonl",
        "result.json",
        "DONE",
    ],
)
def test_wherever_it_is_killed_it_goes_on_to_the_same_end(
    fresh: RunFolder, tmp_path: Path, moment: str
) -> None:
    """Each as that file is to be written, or the folder to get its name."""
    run = again(fresh, tmp_path / "run-2")
    process = begin(run, killed_at=moment)
    process.join(120)
    assert process.exitcode == -signal.SIGKILL and run.ending() is None, log_of(run)
    killed = time.time()
    assert done(run)["eval_loss"] == pytest.approx(fresh.metrics()["eval_loss"], rel=0.01)
    assert losses(run) == pytest.approx(losses(fresh), rel=0.02)
    assert len(scored(run)) == 8 and not run.checkpoints.exists()
    if moment != "progress.jsonl":  # it went on from a checkpoint, and did not begin anew
        assert run.progress()[0]["time"] < killed


def test_a_killed_run_goes_on_to_the_same_end(fresh: RunFolder, tmp_path: Path) -> None:
    run = again(fresh, tmp_path / "run-2")
    killed = killed_after(run, 11)
    torn = run.checkpoints / "checkpoint-17"  # the kill came while it was written
    torn.mkdir()
    (torn / "adapter_model.safetensors").write_bytes(b"half")
    assert done(run)["eval_loss"] == pytest.approx(fresh.metrics()["eval_loss"], rel=0.01)
    resumed(run, killed, (4, 9, 14))
    assert losses(run) == pytest.approx(losses(fresh), rel=0.02)
    steps = [line["step"] for line in run.progress() if "loss" in line]
    assert steps == list(range(1, 19))
    assert [line["step"] for line in run.samples()] == [0, 0, 6, 6, 12, 12, 18, 18]
    seconds = [line["seconds"] for line in run.progress()]
    assert seconds == sorted(seconds)


# --- from the champion ------------------------------------------------------------------------


def test_a_continued_run_starts_at_log_2(fresh: RunFolder, continued: RunFolder) -> None:
    """The reference is the champion itself, to the last digit, and is not saved with it."""
    assert losses(continued)[1] == pytest.approx(math.log(2), abs=1e-6)
    assert losses(continued)[18] < 0.68
    line = next(line for line in continued.progress() if line["step"] == 1)
    assert line["reward_chosen"] == line["reward_rejected"] == 0
    assert _tensors(continued).keys() == _tensors(fresh).keys()
    assert weights(continued) != weights(fresh)
    assert len(list(continued.adapter.iterdir())) == 2


@pytest.mark.parametrize("loss", ["sigmoid", "sigmoid_norm"])
def test_a_continued_policy_is_measured_against_the_base(
    fresh: RunFolder, tmp_path: Path, loss: str
) -> None:
    """It adds nothing to a champion that orders all held-out picks rightly: the gate sees that."""
    run = going_on(fresh, tmp_path / "run-3", learning_rate=1e-9, epochs=1, loss=loss)
    found = done(run)
    assert found["accuracy"] >= 0.8 > found["accuracy_since_champion"]
    assert "accuracy_since_champion" not in fresh.metrics()


def test_a_killed_continued_run_goes_on_to_the_same_end(
    fresh: RunFolder, continued: RunFolder, tmp_path: Path
) -> None:
    """With gradient checkpointing, as larger models have it: the numbers are the same."""
    run = going_on(fresh, tmp_path / "run-3", gradient_checkpointing=True)
    killed = killed_after(run, 11)
    assert done(run)["eval_loss"] == pytest.approx(continued.metrics()["eval_loss"], rel=0.01)
    resumed(run, killed, (4, 9, 14))
    assert losses(run) == pytest.approx(losses(continued), rel=0.02)


# --- requests ---------------------------------------------------------------------------------


def test_a_paused_run_keeps_the_step_and_goes_on(base: Path, tmp_path: Path) -> None:
    """Supervised, with noise on the embeddings: the noise goes on where it was too."""
    whole = make_run(tmp_path / "run-1", "sft", base, neftune=5.0, epochs=3)
    run = again(whole, tmp_path / "run-2")
    plain = again(whole, tmp_path / "run-3", neftune=0.0)
    done(whole)
    done(plain)
    assert losses(whole) != pytest.approx(losses(plain), rel=1e-4)
    process = begin(run)
    until(lambda: last_step(run) >= 5)
    run.ask_to_stop("pause")
    process.join(60)
    ending, checkpoint = run.ending(), run.newest_checkpoint()
    assert process.exitcode == 0 and ending is not None and checkpoint is not None
    step = int(checkpoint.name.rpartition("-")[2])
    assert ending == ("PAUSED", f"Paused after step {step}.") and 5 <= step < 18
    run.reopen()
    assert done(run)["eval_loss"] == pytest.approx(whole.metrics()["eval_loss"], rel=0.01)
    assert losses(run) == pytest.approx(losses(whole), rel=0.02)
    answers = [value for row in scored(run) for value in row["logprobs"]]
    per_token = -sum(answers) / len(answers)  # of the answers alone: prompts are not imitated
    assert run.metrics()["eval_loss"] == pytest.approx(per_token, rel=0.02)


def test_a_pause_on_a_measured_step_keeps_its_measurement(base: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run-1", "dpo", base, epochs=3, evaluations=17)  # every step
    process = begin(run)
    until(lambda: last_step(run) >= 3)
    run.ask_to_stop("pause")
    process.join(60)
    ending = run.ending()
    assert ending is not None and ending[0] == "PAUSED" and last_step(run) < 18
    run.reopen()
    done(run)
    assert list(losses(run, "eval_loss")) == list(range(1, 19))


def test_a_cancelled_run_leaves_the_adapter_of_its_last_step(base: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run-1", "dpo", base, epochs=3, checkpoints=5)
    process = begin(run)
    until(lambda: last_step(run) >= 5)
    run.ask_to_stop()
    process.join(60)
    assert process.exitcode == 0 and run.ending() == ("CANCELLED", "Stopped on request.")
    assert len(_tensors(run)) == 28 and not run.checkpoints.exists()
    assert not (run.path / "result.json").exists() and last_step(run) < 18


def test_training_stops_when_the_held_out_loss_rises(base: Path, tmp_path: Path) -> None:
    """Held-out picks of the opposite taste: the better it learns, the worse they fare."""
    opposite = [pick(n, better=1 - n % 2) for n in range(100, 108)]
    run = make_run(
        tmp_path / "run-1", "dpo", base, held_out=opposite, patience=2, evaluations=5, epochs=3,
        samples=2,
    )  # fmt: skip
    found = done(run)
    measured = losses(run, "eval_loss")
    assert last_step(run) == 9 and list(measured)[:3] == [3, 6, 9]  # best at 3, then worse twice
    said = {step: [one["text"] for one in run.samples() if one["step"] == step] for step in (3, 9)}
    assert said[9] == said[3] and len(said[3]) > 0, "the kept adapter's, not the last one's"
    assert found["eval_loss"] == pytest.approx(measured[3], abs=1e-6)


# --- the other kinds --------------------------------------------------------------------------


def test_kto_learns_from_both_bad_picks_too(base: Path, tmp_path: Path) -> None:
    rows = [pick(n) for n in range(12)]
    rows += [pick(n, verdict="both_bad", better=None) for n in range(20, 26)]
    run = make_run(tmp_path / "run-1", "kto", base, train=rows, samples=1)
    found = done(run)
    assert (found["rows_good"], found["rows_bad"]) == (12, 24)
    assert found["margin"] > 0 and found["eval_loss"] < 0.5625  # where it starts
    line = next(line for line in run.progress() if "reward_chosen" in line)
    assert line.keys() >= {"reward_rejected", "kl", "logps_chosen", "tokens"}
    # At the start every row has the loss 1 - sigmoid(0), by the weight of its side: 12 good count
    # as much as 24 bad.
    of_batches = [0.5 * (good * 1.5 + (4 - good) * 0.75) / 4 for good in range(5)]
    assert min(abs(losses(run)[1] - one) for one in of_batches) < 1e-5
    assert len(scored(run)) == 8


def test_kto_from_the_champion_starts_at_it(fresh: RunFolder, base: Path, tmp_path: Path) -> None:
    """Answers are as likely as to the reference, so each loss is 1 - sigmoid(0)."""
    run = make_run(tmp_path / "run-1", "kto", base, start="champion", epochs=1, samples=0)
    run.freeze(run.config() | {"start_adapter": str(fresh.adapter)})
    done(run)
    first = next(line for line in run.progress() if line["step"] == 1)
    assert first["loss"] == pytest.approx(0.5, abs=1e-6)
    assert first["reward_chosen"] == first["reward_rejected"] == first["kl"] == 0
    assert _tensors(run).keys() == _tensors(fresh).keys() and weights(run) != weights(fresh)
