"""The HTTP API of training runs, over a site whose loop never starts: nothing here trains."""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from annotate.app_file import as_typed
from store import runs
from store.rows import Run
from tests.stored import add_imports, add_picks, add_policy, add_user
from tests.website import Site, error_code, made_site
from train.precision import Gap
from train.runs import Trainer

API = "/api/v1"
CUT = {"tokens": 64, "cut": True}  # of a sample


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """24 preferences and 2 ties of an annotator."""
    with made_site(tmp_path_factory.mktemp("site")) as made:
        add_policy(made.store)
        add_imports(made.store, 24)
        add_picks(made.store, add_user(made.store, "ann"), 2, "tie")
        yield made


@pytest.fixture(scope="module")
def api(site: Site) -> Iterator[httpx.Client]:
    with site.signed_in("researcher") as client:
        client.base_url = httpx.URL(site.url + API)
        yield client


@pytest.fixture
def trainer(site: Site) -> Trainer:
    return site.trainer


@pytest.fixture(autouse=True)
def empty_queue(site: Site) -> Iterator[None]:
    yield
    for run in runs.open_now(site.store):
        runs.mark(site.store, run.run_id, "done")


def start(api: httpx.Client, kind: str = "dpo", **settings: Any) -> str:
    answer = api.post("/runs", json={"kind": kind, "set": settings})
    assert answer.status_code == 202, answer.text
    return answer.json()["run_id"]


def begun(site: Site, trainer: Trainer, run_id: str) -> Run:
    runs.mark(site.store, run_id, "running")
    run = runs.get(site.store, run_id)
    trainer.prepare(run)
    return run


# --- before a start -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sft", "rm", "dpo", "kto", "round"])
def test_the_form_of_a_kind(api: httpx.Client, kind: str) -> None:
    form = api.get(f"/runs/settings/{kind}").json()
    assert form["kind"] == kind
    rows = {"rm": 19, "kto": 36}.get(kind, 18)  # it learns from ties too; a good and a bad one
    assert form["fitted_to"] == {"base": "base", "parameters": 2_000_000, "rows": rows}
    assert [part["part"] for part in form["parts"]] == (
        ["rm", "dpo"] if kind == "round" else [kind]
    )
    for part in form["parts"]:
        fields = {field["name"]: field for field in part["fields"]}
        assert fields["learning_rate"]["default"] == 1e-3  # the preset of so small a base
        assert fields["warmup"]["most"] == 1 and fields["rank"]["most"] is None
        assert fields["schedule"]["choices"] == ["cosine", "linear", "constant_with_warmup"]
        assert all(field["help"] for field in part["fields"]) and part["help"]


def test_a_run_that_has_not_ended_is_listed_however_old_it_is(
    site: Site, api: httpx.Client
) -> None:
    old = runs.add(site.store, "round", {"settings": {}}, None)
    runs.mark(site.store, old, "running")
    part = runs.add(site.store, "rm", {"settings": {}}, None, parent=old)
    runs.mark(site.store, part, "paused")
    runs.mark(site.store, old, "paused")
    newer = [runs.add(site.store, "sft", {"settings": {}}, None) for _ in range(3)]
    for run_id in newer:
        runs.mark(site.store, run_id, "cancelled")
    listed = api.get("/runs", params={"limit": 2}).json()
    assert [run["run_id"] for run in listed["runs"]] == [newer[2], newer[1], part, old]
    assert listed["more"]
    runs.mark(site.store, old, "cancelled")


def test_time_at_work_is_without_the_queue_and_pauses(site: Site) -> None:
    began = time.monotonic()
    run_id = runs.add(site.store, "sft", {"settings": {}}, None)
    assert run_id not in runs.at_work_s(site.store)
    for status in ("running", "paused", "queued", "running"):
        runs.mark(site.store, run_id, status)
        time.sleep(0.2)
    runs.mark(site.store, run_id, "cancelled")
    took = runs.at_work_s(site.store)[run_id]
    assert 0.4 <= took <= time.monotonic() - began - 0.4


def test_an_unknown_kind_has_no_form(api: httpx.Client) -> None:
    answer = api.get("/runs/settings/ppo")
    assert (answer.status_code, error_code(answer)) == (422, "invalid")


def test_a_preview_starts_nothing(site: Site, api: httpx.Client) -> None:
    before = len(runs.newest(site.store))
    told = api.post("/runs/preview", json={"kind": "round", "set": {"dpo.beta": 0.2}}).json()
    assert told.keys() == {"kind", "command", "problem", "warnings", "parts"}
    folder = site.store.data_dir.resolve()  # not the one that a command takes by itself
    assert told["command"] == f"{as_typed()} train round --set dpo.beta=0.2 --data-dir {folder}"
    assert told["problem"] is None
    rm, dpo = told["parts"]
    assert rm["plan"]["sentence"] == "26 picks: 18 pairs, 1 tie at 50 %, 7 held out"
    assert dpo["plan"]["sentence"] == "26 picks: 18 pairs, 2 ties dropped, 6 held out"
    assert (dpo["changed"], dpo["settings"]["beta"], dpo["preset"]["beta"]) == (["beta"], 0.2, 0.1)
    assert dpo["rule"]["ties"] == "Ties are left out."
    assert dpo["steps"] == 3 * dpo["settings"]["epochs"]  # 18 rows in batches of 8
    assert len(runs.newest(site.store)) == before


def test_a_preview_looks_at_the_disk_that_the_run_will_be_on(
    site: Site, api: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage

    def full_storage(folder: Path) -> Any:
        return usage(folder)._replace(free=0) if folder == tmp_path else usage(folder)

    monkeypatch.setattr(shutil, "disk_usage", full_storage)
    told = api.post("/runs/preview", json={"kind": "dpo"}).json()
    assert told["problem"] is None
    config = replace(site.trainer.config, storage=str(tmp_path))
    monkeypatch.setattr(site.trainer, "config", config)
    told = api.post("/runs/preview", json={"kind": "dpo"}).json()
    assert told["problem"].startswith(f"The disk of {tmp_path} has 0 MB free")


def test_a_command_names_the_configuration_of_the_app(tmp_path: Path) -> None:
    """With another one it would load another model, and be refused."""
    file = tmp_path / "my model.toml"
    with (
        made_site(tmp_path / "data", config_file=file) as site,
        site.signed_in("researcher") as client,
    ):
        told = client.post(f"{API}/runs/preview", json={"kind": "sft"}).json()["command"]
    assert shlex.split(told) == [
        *(as_typed(), "train", "sft"),
        *("--config", str(file), "--data-dir", str(tmp_path / "data")),
    ]
    assert shutil.which(as_typed()), "it runs as it is shown"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"kind": "dpo", "set": {"bta": 1}}, "Unknown setting 'bta'"),
        ({"kind": "dpo", "set": {"loss": "cross"}}, "loss must be one of sigmoid"),
        ({"kind": "dpo", "set": {"epochs": 0}}, "epochs must be"),
        ({"kind": "round", "set": {"epochs": 1}}, "write rm.NAME=VALUE or dpo.NAME=VALUE"),
        ({"kind": "ppo"}, "kind"),
        ({"kind": "dpo", "sets": {}}, "sets"),
        ({}, "kind"),
    ],
    ids=str,
)
def test_values_that_cannot_be_used(api: httpx.Client, body: dict[str, Any], words: str) -> None:
    for path in ("/runs/preview", "/runs"):
        answer = api.post(path, json=body)
        assert (answer.status_code, error_code(answer)) == (422, "invalid")
        assert words in answer.text


# --- steering -------------------------------------------------------------------------------------


def test_a_run_waits_pauses_and_waits_again(api: httpx.Client) -> None:
    first, second = start(api), start(api, "sft")
    assert api.get("/runs").json()["queue"] == [first, second]
    assert api.get("/stats").json()["queue"] == [first, second]
    one = api.get(f"/runs/{first}").json()
    assert (one["status"], one["place"], one["can"]) == ("queued", 1, ["pause", "cancel"])
    assert api.post(f"/runs/{first}/pause").json() == {"run_id": first}
    one = api.get(f"/runs/{first}").json()
    assert (one["status"], one["place"], one["can"]) == ("paused", None, ["resume", "cancel"])
    assert one["resumable"] is True
    assert api.post(f"/runs/{first}/resume").status_code == 202
    assert api.get("/runs").json()["queue"] == [second, first]
    assert api.post(f"/runs/{first}/cancel").status_code == 202
    late = api.post(f"/runs/{first}/cancel")
    assert (late.status_code, error_code(late)) == (409, "conflict")
    for action in ("pause", "resume", "repeat"):
        refused = api.post(f"/runs/{first}/{action}")
        assert (refused.status_code, error_code(refused)) == (409, "conflict"), action


def test_settings_are_stored_in_their_type(api: httpx.Client) -> None:
    """A command sends texts; the form that changes the run would show "false" as switched on."""
    given = {"dpo.gradient_checkpointing": "false", "rm.epochs": "2", "dpo.beta": 0.2}
    run_id = start(api, "round", **given)
    asked = api.get(f"/runs/{run_id}").json()["asked"]
    assert asked == {"dpo.gradient_checkpointing": False, "rm.epochs": 2, "dpo.beta": 0.2}


def test_the_queue_has_an_end(api: httpx.Client) -> None:
    for _ in range(20):
        start(api, "rm")
    full = api.post("/runs", json={"kind": "rm"})
    assert full.status_code == 409
    assert full.json()["error"]["key"] == "queue_full"


def test_older_runs_are_asked_for(site: Site, api: httpx.Client) -> None:
    for _ in range(3):
        runs.mark(site.store, start(api, "rm"), "cancelled")
    for run in runs.open_now(site.store):
        runs.mark(site.store, run.run_id, "cancelled")
    count = len(runs.newest(site.store, 1000))
    some = api.get("/runs", params={"limit": 2}).json()
    assert ([run["run_id"] for run in some["runs"]], some["more"]) == (
        [run.run_id for run in runs.newest(site.store, 2)],
        True,
    )
    every = api.get("/runs", params={"limit": count}).json()
    assert (len(every["runs"]), every["more"]) == (count, False)
    assert api.get("/runs", params={"limit": 0}).status_code == 422


def test_a_run_is_repeated(site: Site, api: httpx.Client, trainer: Trainer) -> None:
    run_id = start(api, epochs=1)
    begun(site, trainer, run_id)
    runs.mark(site.store, run_id, "done")
    told = api.get(f"/runs/{run_id}").json()
    folder = site.store.data_dir.resolve()
    assert told["can"] == ["repeat"]
    assert told["repeat"] == f"{as_typed()} runs repeat {run_id} --data-dir {folder}"
    again = api.post(f"/runs/{run_id}/repeat").json()["run_id"]
    config = api.get(f"/runs/{again}").json()["config"]
    assert config["repeat_of"] == run_id and config["settings"] == {"epochs": 1}
    other = api.post("/runs", json={"repeat_of": run_id}).json()["run_id"]
    assert other != again
    for body in ({"repeat_of": run_id, "set": {"beta": 1}}, {"repeat_of": run_id, "kind": "rm"}):
        assert api.post("/runs", json=body).status_code == 422
    assert api.post("/runs", json={"repeat_of": "run-999999"}).status_code == 404


@pytest.mark.parametrize("path", ["", "/progress", "/samples", "/log"])
def test_a_run_that_is_not_there(api: httpx.Client, path: str) -> None:
    answer = api.get(f"/runs/run-999999{path}")
    assert (answer.status_code, error_code(answer)) == (404, "not_found")


def test_annotators_have_no_part_in_it(site: Site) -> None:
    with site.signed_in("annotator") as client:
        for method, path in (
            ("GET", "/runs"),
            ("GET", "/runs/settings/dpo"),
            ("POST", "/runs/preview"),
            ("POST", "/runs"),
            ("POST", "/runs/run-000001/pause"),
            ("GET", "/runs/run-000001/samples"),
        ):
            assert client.request(method, API + path, json={}).status_code == 403, path
        assert client.get(API + "/stats").json().keys() == {"own"}


# --- looks ----------------------------------------------------------------------------------------


def test_a_run_at_work(site: Site, api: httpx.Client, trainer: Trainer) -> None:
    run = begun(site, trainer, start(api, beta=0.2))
    folder = trainer.folder(run.run_id)
    for step in range(1, 5):
        line = {"step": step, "max_steps": 8, "seconds": 2.0 * step, "loss": 1.0 - step / 10}
        folder.add_progress(line)
    prompt = [{"role": "user", "content": "Why?"}]
    folder.add_sample({"step": 0, "prompt": prompt, "text": "**So.** <script>x</script>"} | CUT)
    folder.log.write_text("one\ntwo\nthree\n")

    one = api.get(f"/runs/{run.run_id}").json()
    assert (one["asked"], one["config"]["settings"]["beta"]) == ({"beta": 0.2}, 0.2)
    assert {"rule", "plan", "versions", "launcher", "command"} <= one["config"].keys()
    assert (one["time_left_s"], one["warnings"], one["parts"]) == (8.0, [], [])
    assert one["can"] == ["pause", "cancel"]

    told = api.get(f"/runs/{run.run_id}/progress").json()
    assert (told["from"], told["next"], len(told["progress"])) == (0, 4, 4)
    told = api.get(f"/runs/{run.run_id}/progress", params={"after": 3}).json()
    assert (told["from"], told["next"], told["progress"][0]["step"]) == (3, 4, 4)
    folder.forget_after(2)  # it went on from an earlier checkpoint
    told = api.get(f"/runs/{run.run_id}/progress", params={"after": 4}).json()
    assert (told["from"], told["next"], len(told["progress"])) == (0, 2, 2)

    (sample,) = api.get(f"/runs/{run.run_id}/samples").json()["samples"]
    assert (sample["step"], sample["part"], sample["prompt"]) == (0, "dpo", prompt)
    assert sample | CUT == sample  # the page tells a cut answer from a whole one
    assert "<strong>So.</strong>" in sample["html"] and "<script>" not in sample["html"]
    assert api.get(f"/runs/{run.run_id}/log", params={"lines": 2}).json() == {"log": "two\nthree"}
    assert api.get(f"/runs/{run.run_id}/log", params={"lines": 0}).status_code == 422


def test_a_round_shows_its_parts(site: Site, api: httpx.Client, trainer: Trainer) -> None:
    run = begun(site, trainer, start(api, "round"))
    for part, config in trainer.prepare(run).items():
        child = runs.add(site.store, part, {"settings": {}}, None, parent=run.run_id)
        trainer.folder(child).freeze(config)
        trainer.folder(child).add_progress({"step": 1, "max_steps": 2, "seconds": 1.0})
        trainer.folder(child).log.write_text(f"log of {part}")
    one = api.get(f"/runs/{run.run_id}").json()
    assert [part["kind"] for part in one["parts"]] == ["rm", "dpo"]
    assert "center" in one["parts"][0]["config"]["settings"]
    assert one["config"]["data"]["picks"] == {"left": 24, "tie": 2} and "parts" not in one["config"]
    lines = api.get(f"/runs/{run.run_id}/progress").json()["progress"]
    assert [line["part"] for line in lines] == ["rm", "dpo"]
    assert api.get(f"/runs/{run.run_id}/log").json() == {"log": "log of dpo"}


def test_people_have_their_names_in_metrics(site: Site, api: httpx.Client) -> None:
    run_id = start(api, "round")
    (ann,) = site.store.read("select user_id from app_user where name = 'ann'")
    by = {ann["user_id"]: {"n": 2, "accuracy": 0.5, "ece": 0.1}, "gone": {"n": 1}}
    metrics = {"accuracy": 1.0, "reward_model": {"accuracy_by_annotator": by}}
    runs.mark(site.store, run_id, "done", metrics=metrics)
    told = api.get(f"/runs/{run_id}").json()["metrics"]["reward_model"]["accuracy_by_annotator"]
    assert told == {"ann": by[ann["user_id"]], "gone": {"n": 1}}


def test_a_policy_that_is_not_served_as_trained_is_a_warning(site: Site, api: httpx.Client) -> None:
    gap = Gap(0.0531, 0.4, 900, 2.0, bound=0.02).as_dict()
    run_id = runs.add(site.store, "dpo", {"settings": {}}, None)
    runs.mark(site.store, run_id, "done", metrics={"precision_gap": gap})
    (warning,) = api.get(f"/runs/{run_id}").json()["warnings"]
    assert (warning["key"], warning["values"]) == ("precision_gap", {"mean": 0.0531, "bound": 0.02})


def test_a_round_of_one_sided_picks_says_so_itself(
    site: Site, api: httpx.Client, trainer: Trainer
) -> None:
    """One that a trigger began has had no preview; both of its parts say it."""
    add_picks(site.store, add_user(site.store, "left-handed"), 40)
    run_id = runs.add(site.store, "round", {"settings": {}, "trigger": "picks"}, None)
    parts = trainer.prepare(runs.get(site.store, run_id))
    assert parts.keys() == {"rm", "dpo"}
    told = api.get(f"/runs/{run_id}").json()["remarks"]
    (remark,) = [one for one in told if one["key"] == "one_sided_left"]
    assert remark["message"].endswith("fell on the answer shown left. Look at how they were made.")
    assert len({one["message"] for one in told}) == len(told)


def test_what_the_next_round_waits_for(api: httpx.Client) -> None:
    stats = api.get("/stats").json()
    triggers = {one["name"]: one for one in stats["triggers"]}
    assert list(triggers) == ["picks", "interval", "cron", "drift", "person"]
    assert triggers["picks"]["message"].endswith("more picks.")
    assert stats["next_by"] == ["picks"]
    assert triggers["drift"] == {
        "name": "drift",
        "on": False,
        "key": "off",
        "message": "Off.",
        "values": {},
        "due_in": None,
        "cooldown": 0.0,
    }


def test_a_round_warns_of_the_answers_of_its_policy(site: Site, api: httpx.Client) -> None:
    run_id = runs.add(site.store, "round", {"settings": {}}, None)
    part = runs.add(site.store, "dpo", {"settings": {}}, None, parent=run_id)
    folder = site.trainer.folder(part)
    folder.freeze({"kind": "dpo"})
    for step, text in ((0, "Bees."), (6, "")):
        folder.add_sample({"step": step, "prompt": [], "text": text})
    (warning,) = api.get(f"/runs/{run_id}").json()["warnings"]
    assert warning["key"] == "answers_empty"
    runs.mark(site.store, run_id, "cancelled")
    runs.mark(site.store, part, "cancelled")
