"""The reward model: its loss against TRL and against hand-worked numbers, its head, whole runs."""

from __future__ import annotations

import json
import math
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from trl import RewardConfig, RewardTrainer

from tests.forked_scripts import begin, done, until
from tests.tiny_runs import again, make_base, make_run, pick
from train import reward, score
from train.fitting import Job, arguments, open_job, read_rows
from train.picks import Comparison, Pick, RankingRow
from train.quantized import base_arguments, keep_adapters_in_fp32, lora
from train.reward_head import RewardHead, fresh_reward_model, scores, trained_reward_model
from train.reward_trainer import (
    Comparisons,
    RankingCollator,
    RankingTrainer,
    encode_ranking,
    ranking_loss,
    row_metrics,
)
from train.rules import ranking_rows
from train.run_folder import RunFolder, step_of
from train.script import run_script
from train.settings import RewardSettings

pytestmark = pytest.mark.slow


# --- the loss -------------------------------------------------------------------------------------


def log1pe(x: float) -> float:
    return math.log1p(math.exp(x))


def row(answers: int, *comparisons: tuple[int, int, float, float], weight: float = 1.0) -> Any:
    """(better, worse, p, margin) each."""
    better, worse, p, margin = (list(column) for column in zip(*comparisons, strict=True))
    return {
        "answers": [[1] * (place + 1) for place in range(answers)],
        "better": better,
        "worse": worse,
        "p": p,
        "margin": margin,
        "weight": weight,
    }


def compared(*rows: Any) -> Comparisons:
    batch = RankingCollator(0)(list(rows))
    return Comparisons(**{name: batch[name] for name in Comparisons.__annotations__})


def test_collator_numbers_answers_through_over_the_batch() -> None:
    batch = RankingCollator(7)(
        [row(2, (1, 0, 0.9, 0.0)), row(3, (0, 1, 1.0, 0.5), (0, 2, 1.0, 0.5), weight=1.5)]
    )
    assert next(iter(batch)) == "weight"
    assert batch["better"].tolist() == [1, 2, 2] and batch["worse"].tolist() == [0, 3, 4]
    assert batch["row"].tolist() == [0, 1, 1] and batch["answer_row"].tolist() == [0, 0, 1, 1, 1]
    assert batch["weight"].tolist() == [1.0, 1.5]
    assert batch["input_ids"].tolist() == [[1, 7, 7], [1, 1, 7], [1, 7, 7], [1, 1, 7], [1, 1, 1]]
    assert batch["attention_mask"].sum().item() == 9


def test_loss_of_pairs_with_soft_label_margin_and_weight() -> None:
    them = compared(
        row(2, (0, 1, 1.0, 0.0)),
        row(2, (0, 1, 0.7, 0.0)),
        row(2, (1, 0, 1.0, 2 / 3), weight=1.5),
        row(2, (0, 1, 0.5, 0.0)),
    )
    rewards = torch.tensor([2.0, 0.5, -1.0, 1.0, 0.25, 0.75, 3.0, 3.0])
    assert ranking_loss(rewards, them, 0.0).tolist() == pytest.approx(
        [
            log1pe(-1.5),
            0.7 * log1pe(2.0) + 0.3 * log1pe(-2.0),
            1.5 * log1pe(2 / 3 - 0.5),
            math.log(2),
        ]
    )


def test_loss_of_four_is_the_mean_of_its_five_comparisons_and_is_centred_as_one() -> None:
    best, high, low, worst = 1.5, 0.5, 0.25, -1.0
    them = compared(
        row(4, *[(a, b, 1.0, 0.0) for a, b in [(0, 3), (0, 1), (0, 2), (1, 3), (2, 3)]])
    )
    wins = [best - worst, best - high, best - low, high - worst, low - worst]
    ranked = sum(log1pe(-win) for win in wins) / 5
    centre = (2 * (best + high + low + worst) / 4) ** 2
    rewards = torch.tensor([best, high, low, worst])
    assert ranking_loss(rewards, them, 0.0).tolist() == pytest.approx([ranked])
    assert ranking_loss(rewards, them, 0.01).tolist() == pytest.approx([ranked + 0.01 * centre])


def test_metrics_count_equal_rewards_as_half_and_leave_ties_out() -> None:
    them = compared(
        row(3, (0, 1, 0.9, 0.0), (0, 2, 0.9, 0.0)), row(2, (0, 1, 0.5, 0.0)), row(2, (1, 0, 1.0, 0))
    )
    found = row_metrics(torch.tensor([1.0, 1.0, 3.0, 9.0, 2.0, -1.0, 4.0]), them)
    accuracy, margin = found["accuracy"].tolist(), found["margin"].tolist()
    assert (accuracy[0], margin[0]) == (0.25, -1.0)
    assert math.isnan(accuracy[1]) and math.isnan(margin[1])
    assert (accuracy[2], margin[2]) == (1.0, 5.0)


# --- against TRL ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(starter_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(starter_dir, tmp_path_factory.mktemp("reward") / "base")


@pytest.fixture(scope="module")
def job(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("reward-job") / "run-1"
    return open_job(make_run(folder, "rm", base, strength="margin"), RewardSettings)


@pytest.fixture(scope="module")
def trainer(job: Job) -> RankingTrainer:
    """With an adapter that is far from its start, so that no two rewards are equal."""
    rows = read_rows(job, encode_ranking)
    made = RankingTrainer(
        fresh_reward_model(job.config["base"], base_arguments("nf4"), job.tokenizer),
        args=RewardConfig(**arguments(job, rows), center_rewards_coefficient=0.01),
        train_dataset=rows.train,
        eval_dataset=rows.held_out,
        data_collator=RankingCollator(job.pad_token_id),
        batch=job.settings.batch,
        processing_class=job.tokenizer,
        peft_config=lora(4, "SEQ_CLS"),
    )
    keep_adapters_in_fp32(made.model)
    torch.manual_seed(1)
    for name, parameter in made.model.named_parameters():
        if parameter.requires_grad and ("lora_B" in name or "score" in name):
            parameter.data.normal_(0, 0.3)
    return made


@pytest.mark.parametrize("margin", [False, True])
def test_pairs_have_the_loss_of_trl(job: Job, trainer: RankingTrainer, margin: bool) -> None:
    """Its own rendering of the messages, its own collator, its own loss; the same model."""
    picks = [Pick.of(pick(n, strength=1 + n % 3)) for n in range(6)]
    strength = "margin" if margin else "ignore"
    rows = [
        ranked for one in picks for ranked in ranking_rows(one, RewardSettings(strength=strength))
    ]
    theirs = RewardTrainer(
        trainer.model,
        args=trainer.args,
        train_dataset=Dataset.from_list([as_trl(ranked, margin) for ranked in rows]),
        processing_class=job.tokenizer,
    )
    expected = theirs.compute_loss(
        trainer.model, theirs.data_collator([theirs.train_dataset[n] for n in range(6)])
    )
    ours = trainer.compute_loss(
        trainer.model,
        trainer.data_collator([encode_ranking(job.encoder, ranked)[0] for ranked in rows]),
    )
    assert ours.item() == pytest.approx(expected.item(), abs=1e-5)
    assert abs(ours.item() - math.log(2)) > 0.01  # the adapter is at work


def as_trl(ranked: RankingRow, margin: bool) -> dict[str, Any]:
    (only,) = ranked.comparisons

    def said(place: int) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": ranked.answers[place]}]

    found = {"prompt": ranked.prompt, "chosen": said(only.better), "rejected": said(only.worse)}
    return found | ({"margin": only.margin} if margin else {})


# --- the head -------------------------------------------------------------------------------------


def test_head_in_float32_keeps_apart_what_bf16_merges() -> None:
    torch.manual_seed(0)
    hidden = (1 + 0.02 * torch.randn(32, 256)).bfloat16()
    head = RewardHead(256, 1, bias=False)
    head.weight.data.fill_(5 / 256)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = head(hidden).squeeze(-1)
        rounded = torch.nn.functional.linear(hidden, head.weight.bfloat16()).squeeze(-1)
    assert ours.dtype == torch.float32
    assert len(set(ours.tolist())) == 32
    assert len(set(rounded.tolist())) < 8


def test_a_fresh_head_starts_at_ln_2_and_is_not_quantised(job: Job) -> None:
    model = fresh_reward_model(job.config["base"], base_arguments("nf4"), job.tokenizer)
    assert type(model.score) is RewardHead and model.score.weight.dtype == torch.float32
    assert type(model.model.layers[0].self_attn.q_proj).__name__ == "Linear4bit"
    texts = [[5, 6, 7], [8, 9], [10, 11, 12, 13]]
    assert scores(model, texts, job.pad_token_id, 2) == [0.0, 0.0, 0.0]


def test_under_fsdp_it_says_that_it_cannot(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The float32 head has no place among bf16 parts, and one process alone cannot score."""
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    run = make_run(tmp_path / "run-1", "rm", base)
    with pytest.raises(SystemExit):
        run_script(reward.main, run.path)
    ending = run.ending()
    assert ending is not None
    assert ending[1].startswith("A reward model cannot be trained under FSDP yet")


# --- whole runs -----------------------------------------------------------------------------------


def four(number: int) -> dict[str, Any]:
    """A ranking of four answers by their length."""
    long, short = (pick(number * 2 + n)["answers"] for n in (0, 1))
    texts = sorted([*long, *short], key=lambda answer: len(answer["text"]))
    ranked = {"verdict": "ranked", "better": None, "best": 0, "worst": 3, "answers": texts}
    return pick(number, **ranked, pool="fours")


def mixed(first: int, count: int) -> list[dict[str, Any]]:
    """Picks of every kind, mostly pairs."""
    kinds: list[dict[str, Any]] = [
        {"strength": 1, "pool": "chat"},
        {"strength": 3, "pool": "code"},
        {"verdict": "tie", "better": None},
        {"strength": 2, "edited_text": "the calm sea"},
        {"pool": "chat"},
        {"verdict": "both_bad", "better": None},
    ]
    pairs = [pick(first + n, **kinds[n % len(kinds)]) for n in range(count)]
    return pairs + [four(first + n) for n in range(count // 4)]


@pytest.fixture(scope="module")
def whole(base: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Ended without an interruption."""
    folder = tmp_path_factory.mktemp("reward-runs") / "run-2"
    run = make_run(
        folder, "rm", base, mixed(0, 48), mixed(1000, 24),
        epochs=4, checkpoints=2, evaluations=1, learning_rate=3e-3, batching="similar_length",
    )  # fmt: skip
    run_script(reward.main, run.path)
    return run


def test_a_run_learns_and_says_how_well(whole: RunFolder) -> None:
    assert whole.ending() == ("DONE", "")
    found = whole.metrics()
    assert found["rows_train"] == 52 and found["rows_eval"] == 26  # both-bad gives no row
    assert found["picks_scored"] == 22  # of these 4 are ties
    assert found["accuracy"] > 0.9
    assert found["accuracy_low"] < found["accuracy"] < found["accuracy_high"] + 1e-9
    assert found["nll_calibrated"] <= found["nll"] < math.log(2)
    assert found["eval_loss"] < math.log(2)
    assert found["length_correlation"] < -0.5  # the shorter answer was picked
    assert {name: one["n"] for name, one in found["accuracy_by_pool"].items()} == {
        "chat": 8, "code": 4, "fours": 6,
    }  # fmt: skip
    assert set(found["accuracy_by_annotator"]) == {"user-0", "user-1"}
    assert sum(one["n"] for one in found["accuracy_by_annotator"].values()) == 22
    assert set(found["accuracy_by_strength"]) == {"1", "2", "3"}
    assert sum(one["n"] for one in found["reliability"]) == pytest.approx(22)


def test_progress_of_a_run_is_in_the_words_of_all_runs(whole: RunFolder) -> None:
    lines = whole.progress()
    trained = [line for line in lines if "loss" in line]
    assert trained[0]["loss"] == pytest.approx(math.log(2), abs=1e-3)
    assert {"accuracy", "margin", "reward_chosen", "reward_rejected", "grad_norm"} <= set(
        trained[-1]
    )
    assert trained[-1]["margin"] == pytest.approx(
        trained[-1]["reward_chosen"] - trained[-1]["reward_rejected"], abs=1e-4
    )
    measured = [line for line in lines if "eval_loss" in line]
    assert len(measured) == 2 and "eval_accuracy" in measured[-1]
    assert not (whole.path / "samples.jsonl").exists()


def test_an_adapter_read_back_scores_the_same_to_the_last_digit(
    whole: RunFolder, job: Job, tmp_path: Path
) -> None:
    config = whole.config()
    shutil.copy(whole.data / "eval.parquet", tmp_path / "picks.parquet")
    wanted = {
        "base": config["base"],
        "precision": config["precision"],
        "adapter": str(whole.adapter),
        "settings": config["settings"] | {"samples": 3},  # as older runs have it
        "temperature": whole.metrics()["temperature"],
    }
    (tmp_path / "config.json").write_text(json.dumps(wanted))
    score.main(tmp_path)
    found, before = json.loads((tmp_path / "scores.json").read_text()), whole.metrics()
    assert found["n"] == 22 and (found["low"], found["high"]) != (0, 1)
    # The run measures its temperature on picks that it was not fitted on; here it is given.
    assert found["ece"] == pytest.approx(before["ece_calibrated"], abs=0.05)
    for name in ("accuracy", "nll", "margin", "length_correlation", "temperature"):
        assert found[name] == before[name], name

    texts = [job.encoder.prompt([{"role": "user", "content": "the calm sea"}])]
    model = trained_reward_model(
        config["base"], base_arguments("nf4"), job.tokenizer, whole.adapter
    )
    (alone,) = scores(model, texts, job.pad_token_id, 1)
    other = [texts[0] * 3, texts[0], texts[0][:4]]
    assert scores(model, other, job.pad_token_id, 4)[1] == pytest.approx(alone, abs=0.02)


def test_no_pick_with_a_better_side_scores_nothing() -> None:
    assert score.agreement({}) == {"n": 0}
    tie = Pick.of(pick(0, verdict="tie", better=None))
    ranked = RankingRow([], ["a", "b"], [Comparison(0, 1, 0.5, 0.0, "tie")], 1.0, "tie")
    assert score.scored_pick(tie, ranked, [1.0, 2.0]).differences == ()


def test_a_run_that_was_killed_ends_like_one_that_was_not(whole: RunFolder) -> None:
    killed = again(whole, whole.path.with_name("run-3"), samples=3)  # as older runs have it
    process = begin(killed)
    until(lambda: killed.newest_checkpoint() is not None, 120)
    process.kill()
    process.join()
    when, kept = time.time(), step_of(killed.newest_checkpoint() or Path())
    assert killed.ending() is None
    done(killed)
    expected, found = whole.metrics(), killed.metrics()
    assert found["eval_loss"] == pytest.approx(expected["eval_loss"], rel=0.01)
    assert found["temperature"] == pytest.approx(expected["temperature"], rel=0.05)
    trained = [line for line in killed.progress() if "loss" in line]
    one, other = (
        {n["step"]: n["loss"] for n in run.progress() if "loss" in n} for run in (whole, killed)
    )
    assert other == pytest.approx(one, rel=0.02)
    assert all((line["time"] < when) == (line["step"] <= kept) for line in trained)
