"""Real runs through the loop: paused, resumed, repeated, killed, cancelled. A tiny random base.

The policy server is real but never started, as in a command that only trains.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from store import policies, runs
from store.database import Store
from store.rows import Run
from tests.stored import add_imports, add_picks, add_user
from tests.test_loop import add_base
from tests.tiny_runs import QUICK, make_base
from train.base_model import BaseModel
from train.gate import GateConfig
from train.loop import TrainLoop
from train.policy.adapters import SHAPES
from train.policy.client import Sampling
from train.policy.registry import PolicyRegistry
from train.policy.server import PolicyServer
from train.policy.vllm import PolicyConfig
from train.run_config import TrainConfig
from train.run_folder import ADAPTER, ADAPTER_CONFIG
from train.runs import Trainer
from train.trial import Trial
from train.triggers import LoopConfig

pytestmark = pytest.mark.slow
SOON_S = 120.0
# 24 picks, 18 of them to train on, in batches of 2: 9 steps an epoch.
SETTINGS = QUICK | {"batch": 2, "epochs": 4, "checkpoints": 2, "evaluations": 1, "samples": 1}
LAYER = {
    **{f"self_attn.{name}_proj": [64, 64] for name in "qkvo"},
    **{f"mlp.{name}_proj": [128, 64] for name in ("gate", "up")},
    "mlp.down_proj": [64, 128],
}


@pytest.fixture(scope="module")
def loop(starter_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainLoop]:
    with looping(starter_dir, tmp_path_factory.mktemp("control"), PolicyConfig()) as made:
        yield made


@contextmanager
def looping(starter_dir: Path, folder: Path, policy: PolicyConfig) -> Iterator[TrainLoop]:
    base = BaseModel("tiny", make_base(starter_dir, folder / "base"), 200_000)
    with Store.open(folder / "data") as store:
        add_base(store)
        add_imports(store, 24)
        shapes = {
            f"model.layers.{n}.{name}": shape for n in (0, 1) for name, shape in LAYER.items()
        }
        (store.data_dir / "policies" / SHAPES).write_text(json.dumps(shapes))
        server = PolicyServer(policy, base, folder / "vllm.log")
        trainer = Trainer(store, server, TrainConfig())
        registry = PolicyRegistry(store, server)
        trial = Trial(store, registry, GateConfig(), Sampling(), 4)
        made = TrainLoop(store, registry, trainer, trial, LoopConfig(every_picks=0), lambda: None)
        made.start()
        yield made
        made.stop()
        server.stop()


@pytest.fixture(scope="module")
def finished(loop: TrainLoop) -> Run:
    """A run that was paused on its way, and went on."""
    run_id = loop.request("dpo", None, SETTINGS)
    wait(lambda: step_of(loop, run_id) >= 3)
    loop.pause(run_id)
    wait(lambda: status(loop, run_id) == "paused")
    folder = loop.trainer.folder(run_id)
    paused, checkpoint = runs.get(loop.store, run_id), folder.newest_checkpoint()
    assert checkpoint is not None
    reached = int(checkpoint.name.rpartition("-")[2])
    assert paused.reason == f"Paused after step {reached}."
    assert 3 <= reached < 36 and not children("train.dpo")
    loop.resume(run_id)
    return ended(loop, run_id)


def step_of(loop: TrainLoop, run_id: str) -> int:
    lines = loop.trainer.folder(run_id).progress()
    return max((line["step"] for line in lines), default=0)


def ended(loop: TrainLoop, run_id: str) -> Run:
    wait(lambda: status(loop, run_id) in runs.FINAL)
    return runs.get(loop.store, run_id)


def wait(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON_S
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def children(module: str) -> list[psutil.Process]:
    found = [(one, words(one)) for one in psutil.Process().children(recursive=True)]
    return [one for one, said in found if module in said and "-S" not in said]


def words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:  # it has just ended
        return []


def status(loop: TrainLoop, run_id: str) -> str:
    return runs.get(loop.store, run_id).status


def losses(loop: TrainLoop, run_id: str) -> dict[int, float]:
    lines = loop.trainer.folder(run_id).progress()
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def test_a_paused_run_goes_on_and_its_policy_is_published(loop: TrainLoop, finished: Run) -> None:
    assert finished.status == "done", finished.reason
    assert policies.get(loop.store, str(finished.policy_id)).status == "candidate"
    folder = loop.trainer.folder(finished.run_id)
    steps = [line["step"] for line in folder.progress() if "loss" in line]
    assert steps == list(range(1, 37))  # none is missing, none stands there twice
    assert not folder.checkpoints.exists()
    assert {sample["step"] for sample in folder.samples()} >= {0, 36}


def test_a_repeated_run_has_the_same_losses_and_is_killed_and_cancelled(
    loop: TrainLoop, finished: Run
) -> None:
    run_id = loop.repeat(finished.run_id, None)
    folder = loop.trainer.folder(run_id)
    wait(lambda: folder.newest_checkpoint() is not None)
    for process in children("train.dpo"):
        os.kill(process.pid, signal.SIGKILL)
    lost = ended(loop, run_id)
    assert lost.status == "failed"
    assert "was killed by signal 9 (SIGKILL) before it finished" in str(lost.reason)
    first, second = losses(loop, finished.run_id), losses(loop, run_id)
    assert [first[step] for step in (1, 2, 3)] == [second[step] for step in (1, 2, 3)]
    last = max(second)  # the first run was paused before that step
    assert second[last] == pytest.approx(first[last], rel=0.01)

    loop.resume(run_id)
    wait(lambda: status(loop, run_id) == "running" and step_of(loop, run_id) > last)
    loop.cancel(run_id)
    cancelled = ended(loop, run_id)
    assert (cancelled.status, cancelled.reason) == ("cancelled", "Stopped on request.")
    assert (folder.adapter / "adapter_model.safetensors").exists()  # of the last good step
    assert not loop.can_resume(cancelled)
    published = [policy.run_id for policy in policies.everyone(loop.store)]
    assert published == [finished.run_id, None]  # None: the base


def test_a_cancel_after_the_last_step_publishes_nothing(
    loop: TrainLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, train = policies.everyone(loop.store), loop.trainer.train

    def cancelled_late(run: Run, config: dict[str, Any]) -> dict[str, Any]:
        metrics = train(run, config)
        loop.cancel(run.run_id)
        return metrics

    monkeypatch.setattr(loop.trainer, "train", cancelled_late)
    run_id = loop.request("sft", None, SETTINGS | {"epochs": 1})
    cancelled = ended(loop, run_id)
    assert (cancelled.status, cancelled.reason) == ("cancelled", "Stopped on request.")
    assert policies.everyone(loop.store) == before


def test_a_cancel_that_a_long_step_does_not_hear_keeps_the_newest_adapter(
    loop: TrainLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.runs.STOP_GRACE_S", 0.0)
    run_id = loop.request("sft", None, SETTINGS)
    folder = loop.trainer.folder(run_id)
    wait(lambda: folder.newest_checkpoint() is not None)
    (process,) = children("train.sft")
    process.suspend()
    checkpoint = folder.newest_checkpoint()
    assert checkpoint is not None
    loop.cancel(run_id)
    cancelled = ended(loop, run_id)
    assert cancelled.status == "cancelled" and loop.can_resume(cancelled)
    assert {file.name: file.read_bytes() for file in folder.adapter.iterdir()} == {
        name: (checkpoint / name).read_bytes() for name in ADAPTER
    }


def test_a_cancel_that_comes_while_a_pause_is_carried_out_counts(
    loop: TrainLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_for_its_end = loop.trainer._wait

    def cancelled_meanwhile(process: Any, run: Run, folder: Any) -> Any:
        found = wait_for_its_end(process, run, folder)
        assert folder.ending()[0] == "PAUSED"
        loop.cancel(run.run_id)
        return found

    monkeypatch.setattr(loop.trainer, "_wait", cancelled_meanwhile)
    run_id = loop.request("sft", None, SETTINGS)
    wait(lambda: step_of(loop, run_id) > 1)
    loop.pause(run_id)
    cancelled = ended(loop, run_id)
    assert (cancelled.status, cancelled.reason) == ("cancelled", "Cancelled while it was paused.")
    assert (loop.trainer.folder(run_id).adapter / ADAPTER_CONFIG).exists(), (
        "of the step it paused at"
    )


def test_a_cancel_while_the_policy_server_comes_back_publishes_nothing(
    starter_dir: Path, tmp_path: Path
) -> None:
    nobody_there = PolicyConfig(url="http://127.0.0.1:9")  # so it stays at starting
    with looping(starter_dir, tmp_path, nobody_there) as loop:
        before = policies.everyone(loop.store)
        loop.trainer.server.start()
        run_id = loop.request("sft", None, SETTINGS | {"epochs": 1})
        wait(lambda: loop.trainer.folder(run_id).ending() == ("DONE", ""))
        wait(lambda: not children("train.sft"))
        time.sleep(1.0)  # time to publish it, which must not happen yet
        loop.cancel(run_id)
        assert ended(loop, run_id).status == "cancelled"
        assert policies.everyone(loop.store) == before


def test_drift_is_measured_with_the_newest_reward_model(loop: TrainLoop) -> None:
    model = ended(loop, loop.request("rm", None, SETTINGS | {"epochs": 1, "samples": 0}))
    assert model.status == "done", model.reason
    add_picks(loop.store, add_user(loop.store, "someone"), 6)
    loop.drift.measure(6)
    told = (loop.drift.folder / "log.txt").read_text()
    measured = loop.drift.measured()
    assert measured is not None and (measured.picks, measured.at) == (6, 6), told
    assert 0 <= measured.accuracy <= 1
    known = json.loads((loop.drift.folder / "measured.json").read_text())
    assert known["reward_model"] == model.run_id and known["low"] <= known["accuracy"]
