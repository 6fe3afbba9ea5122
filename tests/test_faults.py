"""kill -9 of the app, vLLM and a trainer: no acknowledged pick is lost, and work goes on."""

from __future__ import annotations

import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from annotate.api_client import ApiClient
from annotate.simulate import Plan, simulate, token_of
from store.rows import PrefloopError
from tests.served_app import ServedApp, start_app

pytestmark = pytest.mark.slow
QUIET = {"PREFLOOP_LOOP__EVERY_PICKS": "0"}


@pytest.fixture(scope="module")
def data_dir(starter_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults") / "data"


@pytest.fixture(scope="module")
def app(data_dir: Path) -> Iterator[ServedApp]:
    """One for all: each fault leaves it at work, but for the last one."""
    served = start_app(data_dir, **QUIET)
    yield served
    if served.process.poll() is None:
        served.stop()


def test_kill_9_of_the_app_loses_no_pick_and_leaves_no_process(data_dir: Path) -> None:
    served = start_app(data_dir, **QUIET)
    acknowledged: list[str] = []
    with served.client() as admin:
        tokens = [token_of(admin, f"sim-crash-{number}") for number in range(3)]
    threads = [
        threading.Thread(target=pick_until_gone, args=(served.url, token, acknowledged))
        for token in tokens
    ]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(acknowledged) >= 25, 120)
    family = psutil.Process(served.process.pid).children(recursive=True)
    assert any("vllm" in " ".join(process.cmdline()) for process in family)
    served.kill()
    for thread in threads:
        thread.join(60)
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive, [process.cmdline() for process in alive]

    again = start_app(data_dir, wait_up=False, **QUIET)
    try:
        with again.client() as admin:
            stored = [row["id"] for row in admin.get("/judgments", limit=10_000)["judgments"]]
        assert set(acknowledged) <= set(stored)
        assert len(stored) == len(set(stored))
    finally:
        again.stop()


def test_killed_trainer_fails_its_run_and_nothing_else(app: ServedApp) -> None:
    with app.client() as admin:
        simulate(admin, Plan("warm", picks=30, annotators=2))
        server = child_of(app, "vllm.entrypoints")
        run_id = admin.post("/runs", {"kind": "rm"})["run_id"]
        wait_for(lambda: bool(children_of(app, "train.reward")), 60)
        for process in children_of(app, "train.reward"):
            process.kill()
        run = list(admin.wait_for_run(run_id))[-1]
        assert run["status"] == "failed"
        assert "was killed by signal 9 (SIGKILL) before it finished, perhaps for" in run["reason"]
        assert server.is_running()
        assert admin.post("/policies/policy-000000/sample", {"messages": hello()})["completions"]


def test_a_policy_that_is_ruined_never_serves_and_people_go_on(app: ServedApp) -> None:
    """Trained at a thousand times the usual rate, without a bound for its gradient."""
    with app.client() as admin:
        simulate(admin, Plan("warm", picks=60, annotators=2))
        server, serving = child_of(app, "vllm.entrypoints"), champion(admin)
        ruin = {"dpo.learning_rate": 1.0, "dpo.max_grad_norm": 0.0, "rm.epochs": 1}
        run_id = admin.post("/runs", {"kind": "round", "set": ruin})["run_id"]
        wait_for(lambda: bool(children_of(app, "train.dpo")), 120)
        before = admin.get("/stats")["picks"]
        simulate(admin, Plan("warm", picks=5))
        run = list(admin.wait_for_run(run_id))[-1]
        assert (run["status"], run["verdict"]) == ("done", "rejected"), run["reason"]
        assert run["reason"].startswith("Rejected: ")
        ruined = admin.get("/policies")["policies"][0]
        assert (ruined["policy_id"], ruined["status"]) == (run["policy_id"], "rejected")
        assert champion(admin) == serving and server.is_running()
        assert admin.get("/stats")["picks"] == before + 5
        assert admin.post(f"/policies/{serving}/sample", {"messages": hello()})["completions"]


def champion(admin: ApiClient) -> str:
    (found,) = [one for one in admin.get("/policies")["policies"] if one["status"] == "champion"]
    policy_id: str = found["policy_id"]
    return policy_id


@pytest.mark.parametrize("victim", ["vllm.entrypoints", "EngineCore"])
def test_killed_vllm_comes_back_with_its_adapters(app: ServedApp, victim: str) -> None:
    family = children_of(app, "vllm") + children_of(app, "EngineCore")
    for process in children_of(app, victim):
        process.send_signal(signal.SIGKILL)
    with app.client() as admin:
        wait_for(lambda: admin.get("/stats")["server"] != "up", 30)
        psutil.wait_procs(family, timeout=30)
        assert not [process for process in family if process.is_running()], "an orphan is left"
        wait_for(lambda: admin.get("/stats")["server"] == "up", 180)
        assert admin.post("/policies/policy-000000/sample", {"messages": hello()})["completions"]
        before = admin.get("/stats")["picks"]
        simulate(admin, Plan("concise", picks=3))
        assert admin.get("/stats")["picks"] == before + 3


def test_killed_app_during_training_marks_the_run_which_then_goes_on(
    app: ServedApp, data_dir: Path
) -> None:
    with app.client() as admin:
        simulate(admin, Plan("warm", picks=12, annotators=2))
        body = {"kind": "rm", "set": {"epochs": 1}}
        run_id = admin.post("/runs", body)["run_id"]
        wait_for(lambda: bool(children_of(app, "train.reward")), 60)
    family = psutil.Process(app.process.pid).children(recursive=True)
    app.kill()
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive
    again = start_app(data_dir, wait_up=False, **QUIET)
    try:
        with again.client() as admin:
            run = admin.get(f"/runs/{run_id}")
            assert (run["status"], run["reason"], run["can"]) == (
                "failed",
                "The app ended while it ran. Resume it, or start it again.",
                ["resume", "repeat"],
            )
            assert admin.post(f"/runs/{run_id}/resume")["run_id"] == run_id
            run = list(admin.wait_for_run(run_id))[-1]
            assert run["status"] == "done", run["reason"]
    finally:
        again.stop()


def pick_until_gone(url: str, token: str, acknowledged: list[str]) -> None:
    """Pick as fast as pairs come; note each pick only after the app has said that it is stored."""
    with ApiClient(url, token, timeout_s=20) as client:
        while True:
            try:
                pair = client.post("/pairs/next")
                if pair is None:
                    time.sleep(0.05)
                    continue
                pick = {"id": str(uuid.uuid4()), "pair_id": pair["pair_id"], "verdict": "left"}
                client.post("/judgments", pick)
            except PrefloopError:
                return
            acknowledged.append(pick["id"])


def children_of(app: ServedApp, word: str) -> list[psutil.Process]:
    """Processes of the app with the word in their name or command, guardians left out."""
    found = []
    for process in psutil.Process(app.process.pid).children(recursive=True):
        try:
            command = " ".join([process.name(), *process.cmdline()])
            if word in command and "child.py" not in command:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def child_of(app: ServedApp, word: str) -> psutil.Process:
    return children_of(app, word)[-1]


def hello() -> list[dict[str, str]]:
    return [{"role": "user", "content": "What is bread?"}]


def wait_for(condition: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(0.1)
