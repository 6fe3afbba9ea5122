"""The product in one test: pick, train, gate, hot-load; the next pair is the new policy's."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import pytest

from annotate.simulate import Plan, simulate, token_of
from store.ids import uuid7
from tests.served_app import ROOT, ServedApp

pytestmark = pytest.mark.slow


def prefloop(app: ServedApp, *arguments: str) -> str:
    """Run a command against the app; its standard output."""
    done = subprocess.run(
        [sys.executable, "app.py", *arguments, "--data-dir", str(app.data_dir)],
        cwd=ROOT, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def learned(served_app: ServedApp) -> dict[str, Any]:
    """60 simulated picks and a round through the command line; the finished run."""
    with served_app.client() as admin:
        before = admin.get("/policies/current")["policy_id"]
        rests = made_room(served_app)
        assert simulate(admin, Plan("concise", picks=60, annotators=2)) >= 40
        with working_on(served_app) as picked:
            printed = prefloop(served_app, "train", "round", "--wait")
        run = admin.get("/runs")["runs"]
    finished = next(found for found in run if found["kind"] == "round")
    rests = made_room(served_app) - rests
    return finished | {"printed": printed, "before": before, "picked": picked, "rests": rests}


def made_room(app: ServedApp) -> int:
    """How often vLLM has stood aside for a run."""
    log = (app.data_dir / "logs" / "app.log").read_text()
    return log.count("the policy server makes room for a run (stop)")


@contextmanager
def working_on(app: ServedApp) -> Iterator[list[str]]:
    """An annotator who picks all the time: what the policy server was doing at each pick."""
    over, picked = threading.Event(), []

    def annotate() -> None:
        with app.client() as admin, app.client(token_of(admin, "sim-busy")) as annotator:
            while not over.wait(0.5):
                if pair := annotator.post("/pairs/next"):
                    state = admin.get("/stats")["server"]
                    pick = {"id": uuid7(), "pair_id": pair["pair_id"], "verdict": "skip"}
                    annotator.post("/judgments", pick)
                    picked.append(state)

    thread = threading.Thread(target=annotate)
    thread.start()
    try:
        yield picked
    finally:
        over.set()
        thread.join()


def test_round_promotes_a_policy_with_written_reasons(
    served_app: ServedApp, learned: dict[str, Any]
) -> None:
    assert learned["status"] == "done", learned["reason"]
    assert learned["verdict"] == "promoted", learned["reason"]
    assert {check["name"] for check in learned["metrics"]["gate"]["checks"]} >= {
        "held-out accuracy", "length", "repetition", "variety"
    }  # fmt: skip
    assert learned["metrics"]["reward_model"]["rows_train"] >= learned["metrics"]["rows_train"] > 30
    assert "held-out accuracy" in learned["printed"]
    with served_app.client() as admin:
        assert admin.get("/policies/current")["policy_id"] == learned["policy_id"]
        assert learned["policy_id"] != learned["before"]
        assert admin.get(f"/policies/{learned['policy_id']}")["parent"] == learned["before"]


def test_the_policy_that_serves_is_the_one_that_was_trained(learned: dict[str, Any]) -> None:
    found = learned["metrics"]["precision_gap"]
    assert found["warning"] is None, found
    assert 0 < found["mean"] < found["bound"] and found["tokens"] > 100


def test_annotators_work_on_while_vllm_is_stopped_for_the_round(learned: dict[str, Any]) -> None:
    assert learned["picked"].count("resting") >= 5
    assert learned["rests"] == 1  # for both parts


def test_next_pair_comes_from_the_new_policy(
    served_app: ServedApp, learned: dict[str, Any], tmp_path: Path
) -> None:
    with served_app.client() as admin:
        # A new annotator holds no lease from before, so the pair is a free one of the champion.
        token = token_of(admin, "sim-after-the-round")
    shown = {}
    with served_app.client(token) as annotator:
        while len(shown) < 3:
            if pair := annotator.post("/pairs/next"):
                pick = {"id": uuid7(), "pair_id": pair["pair_id"], "verdict": "left"}
                assert annotator.post("/judgments", pick)["stored"]
                shown[pick["id"]] = pair["left"]["text"]
    prefloop(
        served_app,
        "export",
        "--format",
        "jsonl",
        "--where",
        "source=all",
        "--out",
        str(tmp_path / "all.jsonl"),
    )
    rows = datasets.load_dataset(
        "json", data_files=str(tmp_path / "all.jsonl"), split="train", cache_dir=str(tmp_path)
    )
    # One in ten may be a pair of an earlier policy that waits for a second opinion.
    new = [
        row
        for row in rows
        if row["id"] in shown
        and row["a"]["policy_id"] == row["b"]["policy_id"] == learned["policy_id"]
    ]
    assert len(new) >= 2
    for row in new:
        assert len(row["a"]["token_ids"]) == row["a"]["logprob_count"] > 0
        assert row["a"]["seed"] + 1 == row["b"]["seed"]
        shown_left = row["a"]["text"] if row["shown_left"] == "a" else row["b"]["text"]
        assert shown_left == row[row["choice"]]["text"] == shown[row["id"]]


def test_new_policy_has_the_taste(served_app: ServedApp, learned: dict[str, Any]) -> None:
    """Sampled through vLLM: shorter than the base on prompts of the pool."""
    with served_app.client() as admin:
        asked = admin.get("/prompts", limit=400)["prompts"][-24:]
        words = {}
        for policy in (learned["policy_id"], "policy-000000"):
            answers = [
                admin.post(f"/policies/{policy}/sample", {"messages": p["messages"], "seed": 5})
                for p in asked
            ]
            words[policy] = sum(len(a["completions"][0]["text"].split()) for a in answers)
    assert words[learned["policy_id"]] < 0.85 * words["policy-000000"]


def test_simulated_picks_stay_out_of_exports_unless_asked_for(
    served_app: ServedApp, learned: dict[str, Any], tmp_path: Path
) -> None:
    everything = tmp_path / "trl.jsonl"
    prefloop(served_app, "export", "--format", "trl-conversational", "--where", "source=simulated",
             "--out", str(everything))  # fmt: skip
    rows = datasets.load_dataset(
        "json", data_files=str(everything), split="train", cache_dir=str(tmp_path)
    )
    assert len(rows) >= 40
    assert set(rows.column_names) == {"prompt", "chosen", "rejected"}
    assert rows[0]["prompt"][-1]["role"] == "user"
    assert rows[0]["chosen"][0]["role"] == "assistant"
    prefloop(served_app, "export", "--format", "trl", "--out", str(tmp_path / "people.jsonl"))
    exported = (tmp_path / "people.jsonl").read_text()
    with served_app.client() as admin:
        human = [
            j for j in admin.get("/judgments", limit=1000)["judgments"] if j["source"] == "human"
        ]
    assert len(exported.splitlines()) <= len(human)


def test_rollback_serves_the_policy_before_and_back(
    served_app: ServedApp, learned: dict[str, Any]
) -> None:
    with served_app.client() as admin:
        assert admin.post("/policies/rollback")["policy_id"] == learned["before"]
        assert admin.get("/policies/current")["policy_id"] == learned["before"]
        assert admin.post(f"/policies/{learned['policy_id']}/promote")["status"] == "champion"
