"""`prefloop train` and `prefloop runs` over a site whose loop never starts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from annotate.api_client import ApiClient
from annotate.app_file import as_typed
from annotate.commands import add_commands
from annotate.run_commands import follow, summary
from store import runs, users
from store.rows import Conflict, Invalid, NotFound, PrefloopError
from tests.stored import add_imports, add_policy
from tests.website import Site, made_site
from train.outlook import SENTENCES


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with made_site(tmp_path_factory.mktemp("site")) as made:
        add_policy(made.store)
        add_imports(made.store, 24)
        yield made


def token(site: Site) -> str:
    return users.issue(site.store, users.named(site.store, "researcher").user_id, "api")


@pytest.fixture(scope="module")
def served() -> list[bool]:
    """Of each command: whether an app of its own would start vLLM."""
    return []


@pytest.fixture(scope="module")
def cli(site: Site, served: list[bool]) -> typer.Typer:
    secret = token(site)

    def connect(
        config_file: Path | None, data_dir: Path | None, *, policy: bool = False
    ) -> AbstractContextManager[ApiClient]:
        served.append(policy)
        return ApiClient(site.url, secret)

    made = typer.Typer()
    add_commands(made, connect)
    return made


def ask(cli: typer.Typer, *arguments: str) -> Result:
    return CliRunner().invoke(cli, [*arguments])


def said(cli: typer.Typer, *arguments: str) -> str:
    done = ask(cli, *arguments)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_plan_is_told_before_the_start(cli: typer.Typer, site: Site) -> None:
    before = runs.newest(site.store)
    sets = ["--set", "dpo.epochs=2", "--set", "dpo.batch=6", "--set", "dpo.beta=0.2"]
    told = said(cli, "train", "round", *sets, "--preview").splitlines()
    assert told[0] == "rm: 24 picks: 18 pairs, 6 held out"
    assert "dpo: 24 picks: 18 pairs, 6 held out" in told
    assert "  Settings: the preset, but epochs=2, batch=6, beta=0.2." in told
    assert "  6 steps on 18 rows." in told
    folder = site.store.data_dir.resolve()  # not the one that a command takes by itself
    assert told[-1] == f"{as_typed()} train round {' '.join(sets)} --data-dir {folder}"
    assert runs.newest(site.store) == before


def test_all_settings_are_listed(cli: typer.Typer) -> None:
    told = said(cli, "train", "round", "--list-settings")
    assert "    dpo.gradient_checkpointing=false\n" in told
    assert "    rm.batch=16 rows\n        Rows on the device at once. 1 or more.\n" in told
    assert "One of sigmoid, ipo, robust, hinge, apo_zero, sigmoid_norm.\n" in told
    assert "    learning_rate=0.001\n" in said(cli, "train", "kto", "--list-settings")


def test_a_run_is_started_and_steered(cli: typer.Typer, site: Site) -> None:
    started = said(cli, "train", "dpo", "--set", "epochs=2")
    plan = said(cli, "train", "dpo", "--set", "epochs=2", "--preview")
    run_id = runs.newest(site.store)[0].run_id
    assert started.startswith(f"{plan}{run_id} is queued. ")  # what it will do comes first
    assert f"{run_id}  dpo   queued" in said(cli, "runs")
    assert said(cli, "runs", "pause", run_id).startswith(f"{run_id} pauses")
    assert json.loads(said(cli, "runs", "show", run_id))["status"] == "paused"
    assert said(cli, "runs", "resume", run_id).startswith(f"{run_id} waits to go on.")
    assert said(cli, "runs", "cancel", run_id).startswith(f"{run_id} ends")
    assert "Cancelled before it started." in said(cli, "runs", "list")
    assert said(cli, "runs", "log", run_id) == "\n"
    never = ask(cli, "runs", "repeat", run_id).exception
    assert isinstance(never, Conflict) and "never began" in str(never)


@pytest.mark.parametrize(
    ("arguments", "policy"),
    [
        (("round",), True),
        (("dpo",), True),
        (("kto",), True),
        (("sft",), True),
        (("rm",), False),
        (("dpo", "--preview"), False),
        (("round", "--list-settings"), False),
    ],
    ids=str,
)
def test_vllm_starts_for_a_run_that_makes_a_policy(
    cli: typer.Typer, served: list[bool], arguments: tuple[str, ...], policy: bool
) -> None:
    """It scores what was trained: the gap is measured in each run."""
    said(cli, "train", *arguments)
    assert served[-1] is policy


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("train", "dpo", "--set", "epochs"), Invalid, "Cannot read --set 'epochs'"),
        (("train", "dpo", "--set", "bta=1"), Invalid, "Unknown setting 'bta'"),
        (("train", "dpo", "--set", "bta=1", "--preview"), Invalid, "Unknown setting 'bta'"),
        (("runs", "show", "run-000099"), NotFound, "There is no run 'run-000099'"),
    ],
)
def test_what_cannot_be_done(
    cli: typer.Typer, arguments: tuple[str, ...], error: type[PrefloopError], words: str
) -> None:
    done = ask(cli, *arguments)
    assert isinstance(done.exception, error) and words in str(done.exception)


def test_a_run_that_cannot_start_is_not_queued(tmp_path: Path) -> None:
    with made_site(tmp_path) as empty:
        secret = token(empty)
        made = typer.Typer()
        add_commands(made, lambda *_, policy=False: ApiClient(empty.url, secret))
        done = ask(made, "train", "dpo")
        assert isinstance(done.exception, Invalid) and "picks" in str(done.exception)
        assert done.output.startswith("dpo: No picks\n")
        assert runs.newest(empty.store) == []


def test_a_run_must_be_named(cli: typer.Typer) -> None:
    done = ask(cli, "runs", "pause")
    assert done.exit_code == 2 and "pause needs the id of a run" in done.output


def test_waiting_for_a_run_ends_when_it_rests(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = runs.add(site.store, "sft", {"settings": {}}, None)
    folder = site.trainer.folder(run_id)
    folder.freeze({"kind": "sft"})
    folder.add_progress({"step": 3, "max_steps": 12, "loss": 0.5, "seconds": 3.0})
    with ApiClient(site.url, token(site)) as client:
        runs.mark(site.store, run_id, "paused", reason="Paused after step 3.")
        follow(client, run_id)
        told = capsys.readouterr()
        assert told.err == f"{run_id} paused sft step 3 of 12, loss 0.500\n"
        assert told.out == f"{run_id} is paused. `prefloop runs resume {run_id}` goes on.\n"
        runs.mark(site.store, run_id, "failed", reason="It was too much.")
        with pytest.raises(PrefloopError, match=f"{run_id} failed: It was too much."):
            follow(client, run_id)
        runs.mark(site.store, run_id, "done", metrics={"rows_train": 18, "rows_eval": 6})
        follow(client, run_id)
        assert "sft policy: 18 rows used" in capsys.readouterr().out


def test_the_list_says_how_a_run_did(cli: typer.Typer, site: Site) -> None:
    run_id = runs.add(site.store, "dpo", {"settings": {}}, None)
    runs.mark(site.store, run_id, "paused", reason="Paused after step 3.")
    assert f"{run_id}  dpo   paused    Paused after step 3.\n" in said(cli, "runs")
    runs.mark(site.store, run_id, "running")
    assert f"{run_id}  dpo   running   \n" in said(cli, "runs"), "it is paused no more"
    metrics = {"accuracy": 0.7321, "eval_loss": 0.5}
    runs.mark(site.store, run_id, "done", reason="policy-1 is a candidate.", metrics=metrics)
    told = f"{run_id}  dpo   done      held-out accuracy 73.2%. policy-1 is a candidate.\n"
    assert told in said(cli, "runs")


@pytest.mark.parametrize(
    ("kind", "metrics", "lines"),
    [
        (
            "sft",
            {"rows_train": 18, "rows_eval": 6, "eval_loss": 1.25},
            [
                "run-1 done. Why.",
                (
                    "  sft policy: 18 rows used, 6 held out, 0 too long, 0 identical, 0 cut short; "
                    "held-out loss 1.250"
                ),
            ],
        ),
        (
            "round",
            {
                "rows_train": 18,
                "rows_eval": 6,
                "rows_cut": 1,
                "rows_other_prompt": 20,
                "precision_gap": {"mean": 0.0531, "bound": 0.02, "warning": "It differs."},
                "accuracy": 0.75,
                "accuracy_low": 0.5,
                "accuracy_high": 0.9,
                "reward_model": {"rows_train": 20, "rows_eval": 7},
            },
            [
                "run-1 done. Why.",
                "  reward model: 20 rows used, 7 held out, 0 too long, 0 identical, 0 cut short",
                (
                    "  dpo policy: 18 rows used, 6 held out, 0 too long, 0 identical, 1 cut short; "
                    "held-out accuracy 75.0% (95 % interval 50.0% to 90.0%)"
                ),
                "Warning: It differs.",
                "Warning: " + SENTENCES["other_prompt"].format(rows=20, all=24),
            ],
        ),
    ],
)
def test_the_result_in_plain_words(kind: str, metrics: dict[str, Any], lines: list[str]) -> None:
    run = {"run_id": "run-1", "kind": kind, "reason": "Why.", "metrics": metrics}
    assert summary(run).splitlines() == lines
