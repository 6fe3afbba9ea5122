"""Training scripts in processes of their own, which share the seconds that their imports take.

A fork server imports the scripts once; each run is a fork of it: a real process, to be killed or
kept short of memory and disk as one likes.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from tests.tiny_runs import make_base
from train.launch import MODULES
from train.run_folder import RunFolder

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
Limits = dict[int, int]  # resource.RLIMIT_... -> bytes; of the address space: beyond what is used


def begin(run: RunFolder, limits: Limits | None = None, killed_at: str = "") -> BaseProcess:
    """`killed_at`: the end of a path, which the process does not survive to open or to name."""
    return forked(_child, MODULES[run.config()["kind"]], run.path, limits or {}, killed_at)


def forked(target: Callable[..., object], *values: object) -> BaseProcess:
    with pytest.MonkeyPatch.context() as environment:
        for name, value in ENVIRONMENT.items():
            environment.setenv(name, value)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(MODULES.values()))
        process = context.Process(target=target, args=values)
        process.start()
    return process


def forked_base(starter: Path, folder: Path) -> Path:
    """The tiny base, without torch in the process of the tests."""
    forked(make_base, starter, folder).join(120)
    assert (folder / "config.json").exists()
    return folder


def finish(run: RunFolder, limits: Limits | None = None) -> int:
    """Run the script to its end. The exit code."""
    process = begin(run, limits)
    process.join(120)
    code = process.exitcode
    assert code is not None, log_of(run)
    return code


def done(run: RunFolder) -> dict[str, float]:
    """Run the script, which must succeed. Its metrics."""
    code = finish(run)
    assert (code, run.ending()) == (0, ("DONE", "")), f"{run.ending()}\n{log_of(run)}"
    return run.metrics()


def failed(run: RunFolder, limits: Limits | None = None) -> str:
    """Run the script, which must fail and leave no adapter. The reason."""
    assert finish(run, limits) == 1, log_of(run)
    ending = run.ending()
    assert ending is not None and ending[0] == "FAILED"
    assert not run.adapter.exists() and not (run.path / "result.json").exists()
    return ending[1]


def until(holds: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.002)


def last_step(run: RunFolder) -> int:
    return max((line["step"] for line in run.progress()), default=0)


def log_of(run: RunFolder) -> str:
    return run.log.read_text(errors="replace")[-4000:] if run.log.exists() else ""


def _child(script: str, path: Path, limits: Limits, killed_at: str) -> None:
    from train.script import run_script

    if killed_at:
        _die_at(killed_at)

    log = os.open(path / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    for what, size in limits.items():
        used = _address_space() if what == resource.RLIMIT_AS else 0
        resource.setrlimit(what, (used + size, resource.RLIM_INFINITY))
    run_script(importlib.import_module(script).main, path)


def _die_at(end: str) -> None:
    """As by kill -9, in the moment before a path with this end is opened or made by a rename."""

    def look(event: str, values: tuple[object, ...]) -> None:
        place = {"open": 0, "os.rename": 1}.get(event)  # os.replace tells os.rename too
        if place is not None and str(values[place]).endswith("/" + end):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
