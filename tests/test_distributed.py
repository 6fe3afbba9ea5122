"""Two processes learn what one learns, under accelerate and under Ray, and end with their launcher.

All on CPU with gloo, and with the starter in nf4.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from tests.test_child import alive
from tests.tiny_runs import again, make_run, pick
from train.launch import LaunchConfig, command, environment, place
from train.process import ChildProcess, marked
from train.run_folder import RunFolder
from train.settings import Part

pytestmark = pytest.mark.slow
# Of a step's loss: bf16 rounds halves of a batch otherwise than the whole, up to 2.5 % over four
# rows. Other rows would make a difference of tens of per cent.
LIKE = 0.05
LOCAL = LaunchConfig()
ACCELERATE = LaunchConfig(launcher="accelerate", processes=2)
RAY = LaunchConfig(launcher="ray", processes=2)
needs_ray = pytest.mark.skipif(
    find_spec("ray") is None, reason="Ray is an extra that is not installed: make ray"
)
LAUNCHERS = [
    pytest.param(ACCELERATE, id="accelerate"),
    pytest.param(RAY, id="ray", marks=needs_ray),
]


@pytest.fixture(scope="module")
def alone(starter_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run of one process."""
    run = make_run(
        tmp_path_factory.mktemp("distributed") / "alone",
        "dpo",
        starter_dir,
        train=[pick(n) for n in range(22)],  # half of the last step of a pass is missing
        batching="similar_length",  # as the starter's preset has it
        sft_weight=0.0,  # it would be most of the loss, and nearly the same for any rows
        evaluations=1,
        samples=1,
    )
    finish(run, LOCAL)
    return run


def start(run: RunFolder, launch: LaunchConfig) -> ChildProcess:
    begun = command(run.config()["kind"], run.path, launch)
    return ChildProcess(begun, run.log, environment(launch))


def finish(run: RunFolder, launch: LaunchConfig) -> None:
    process = start(run, launch)
    try:
        assert process.wait(240) == 0, process.tail(40)
    finally:
        process.stop()
    assert run.ending() == ("DONE", ""), process.tail(40)


def curve(run: RunFolder, key: str) -> list[tuple[int, float]]:
    return [(line["step"], line[key]) for line in run.progress() if key in line]


def mean(points: list[tuple[int, float]]) -> float:
    return fmean(value for _, value in points)


@pytest.mark.parametrize("launch", LAUNCHERS)
def test_two_processes_learn_what_one_learns(
    alone: RunFolder, tmp_path: Path, launch: LaunchConfig
) -> None:
    run = again(alone, tmp_path / "run")
    finish(run, launch)
    for key in ("loss", "eval_loss"):
        one, two = curve(alone, key), curve(run, key)
        assert [step for step, _ in one] == [step for step, _ in two]  # each step once
        for (_, expected), (_, found) in zip(one, two, strict=True):
            assert found == pytest.approx(expected, rel=LIKE)
        assert mean(two) == pytest.approx(mean(one), rel=0.02)
    assert run.metrics()["eval_loss"] == pytest.approx(alone.metrics()["eval_loss"], rel=0.02)
    (_, expected), (_, found) = curve(alone, "tokens")[-1], curve(run, "tokens")[-1]
    assert expected < found < 1.2 * expected  # of both processes; two rows of a pass come twice
    assert [line["step"] for line in run.samples()] == [line["step"] for line in alone.samples()]
    assert sorted(p.name for p in run.path.iterdir()) == sorted(
        p.name for p in alone.path.iterdir()
    )


@pytest.mark.parametrize("part", ["rm", "kto"])
def test_the_other_losses_are_the_same_in_two_processes(
    starter_dir: Path, tmp_path: Path, part: Part
) -> None:
    """A reward model also fits its temperature on what both have measured."""
    alone = make_run(tmp_path / "alone", part, starter_dir, epochs=1, evaluations=1)
    finish(alone, LOCAL)
    run = again(alone, tmp_path / "run")
    finish(run, ACCELERATE)
    for key in ("loss", "eval_loss"):
        one, two = curve(alone, key), curve(run, key)
        assert [step for step, _ in one] == [step for step, _ in two]
        assert mean(two) == pytest.approx(mean(one), rel=0.02)
    assert run.metrics()["rows_train"] == alone.metrics()["rows_train"]
    if part == "rm":
        assert run.metrics()["temperature"] == pytest.approx(
            alone.metrics()["temperature"], rel=0.05
        )


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a Ray cluster that was there before: one head, two CPUs, a token."""
    for name, value in (("RAY_AUTH_MODE", "token"), ("RAY_AUTH_TOKEN", secrets.token_hex(32))):
        monkeypatch.setenv(name, value)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    scratch = tempfile.mkdtemp(prefix="ray-")  # short: it holds sockets
    options = f"--head --block --port {port} --num-cpus 2 --include-dashboard false"
    more = f"--node-ip-address 127.0.0.1 --object-store-memory {100 << 20} --temp-dir {scratch}"
    start_head = [sys.executable, "-m", "ray.scripts.scripts", "start"]
    head = ChildProcess([*start_head, *options.split(), *more.split()], tmp_path / "head.log", {})
    try:
        wait_for(lambda: "runtime started" in head.tail(60) or head.poll() is not None)
        assert head.poll() is None, head.tail(40)
        yield f"127.0.0.1:{port}"
    finally:
        head.stop()
        shutil.rmtree(scratch, ignore_errors=True)


@needs_ray
def test_a_cluster_that_is_there_trains_on_shared_storage(
    alone: RunFolder, cluster: str, tmp_path: Path
) -> None:
    """The data directory has a link to the run's folder."""
    launch = replace(RAY, ray_address=cluster, storage=str(tmp_path / "shared"))
    folder = tmp_path / "data" / "runs" / "run"
    place(folder, launch)
    shutil.copytree(alone.data, folder / "data")
    run = RunFolder(folder)
    run.freeze(alone.config() | {"run_id": "run"})
    finish(run, launch)
    assert folder.is_symlink() and (tmp_path / "shared" / "run" / "DONE").exists()
    assert mean(curve(run, "loss")) == pytest.approx(mean(curve(alone, "loss")), rel=0.02)
    assert run.metrics()["eval_loss"] == pytest.approx(alone.metrics()["eval_loss"], rel=0.02)


# --- the end --------------------------------------------------------------------------------------


@pytest.mark.parametrize("launch", LAUNCHERS)
def test_no_worker_outlives_its_run(tmp_path: Path, launch: LaunchConfig) -> None:
    """Both start workers in sessions of their own. Under accelerate the guardian is killed, which
    could have ended them; Ray is stopped, as for a run that is cancelled."""
    run = RunFolder(tmp_path / "run")
    run.freeze({})
    waiting = [
        "tests.waiting_run" if word == "train.dpo" else word
        for word in command("dpo", run.path, launch)
    ]
    process = ChildProcess(waiting, run.log, environment(launch), grace_s=3.0)
    try:
        wait_for(lambda: len(workers(run)) == 2 or process.poll() is not None)
        assert process.poll() is None, process.tail(40)
        pids = workers(run)
        if launch == ACCELERATE:
            os.kill(process.pid, signal.SIGKILL)
            wait_for(lambda: process.poll() is not None)
        else:
            process.stop()
        wait_for(lambda: not any(alive(pid) for pid in pids))
        assert not marked(process._mark)
    finally:
        process.stop()


def workers(run: RunFolder) -> list[int]:
    texts = [file.read_text() for file in run.path.glob("at-work-*")]
    return [int(text) for text in texts if text]


def wait_for(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
