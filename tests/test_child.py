"""The guardian: a child and all its descendants end together, whichever side is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from train.process import ChildProcess, tail

ROOT = Path(__file__).parent.parent
SOON_S = 10.0
Start = Callable[..., ChildProcess]
# A shell that leaves a grandchild behind, tells both ids and waits.
FAMILY = "sleep 300 & echo $$ $! > {ids}; wait"
# The same with a grandchild in a session of its own, as torch's launcher starts its workers.
SESSION = FAMILY.replace("sleep", "setsid sleep")
families = pytest.mark.parametrize("family_of", [FAMILY, SESSION], ids=["group", "session"])
PARENT = """
import sys, time
from pathlib import Path
from train.process import ChildProcess
child = ChildProcess(["sh", "-c", sys.argv[1]], Path(sys.argv[2]))
print(child.pid, flush=True)
time.sleep(300)
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started = []

    def one(script: str, grace_s: float = 5.0) -> ChildProcess:
        process = ChildProcess(["sh", "-c", script], tmp_path / "log.txt", grace_s=grace_s)
        started.append(process)
        return process

    yield one
    for process in started:
        process.stop()


def family(ids: Path) -> list[int]:
    """The ids that FAMILY wrote: child and grandchild."""
    until(lambda: ids.exists() and ids.read_text().endswith("\n"))
    return [int(text) for text in ids.read_text().split()]


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(") ")[2][0] not in "ZX"


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON_S
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def all_gone(*pids: int) -> None:
    until(lambda: not any(alive(pid) for pid in pids))


def test_the_exit_code_and_the_output_are_passed_on(start: Start) -> None:
    process = start("echo out; echo err >&2; exit 7")
    assert process.wait(SOON_S) == 7
    assert process.poll() == 7
    assert process.tail().splitlines() == ["out", "err"]
    assert process.tail(1) == "err"


def test_wait_gives_none_while_it_runs(start: Start) -> None:
    process = start("sleep 300")
    assert process.wait(0.05) is None
    assert process.poll() is None


@families
def test_stop_ends_grandchildren(start: Start, tmp_path: Path, family_of: str) -> None:
    process = start(family_of.format(ids=tmp_path / "ids"))
    child, grandchild = family(tmp_path / "ids")
    process.stop()
    assert not alive(child) and not alive(grandchild) and not alive(process.pid)
    process.stop()  # a second time is fine


@families
def test_a_grandchild_does_not_outlive_a_child_that_ended(
    start: Start, tmp_path: Path, family_of: str
) -> None:
    process = start(family_of.format(ids=tmp_path / "ids").replace("wait", "exit 3"))
    _, grandchild = family(tmp_path / "ids")
    assert process.wait(SOON_S) == 3
    assert not alive(grandchild)


@families
def test_a_killed_child_takes_its_grandchild_along(
    start: Start, tmp_path: Path, family_of: str
) -> None:
    process = start(family_of.format(ids=tmp_path / "ids"))
    child, grandchild = family(tmp_path / "ids")
    os.kill(child, signal.SIGKILL)
    assert process.wait(SOON_S) == 128 + signal.SIGKILL
    assert not alive(grandchild)


@families
def test_a_killed_app_leaves_nothing(tmp_path: Path, family_of: str) -> None:
    script = family_of.format(ids=tmp_path / "ids")
    app = subprocess.Popen(
        [sys.executable, "-c", PARENT, script, str(tmp_path / "log.txt")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert app.stdout is not None
    guardian = int(app.stdout.readline())
    pids = family(tmp_path / "ids")
    app.kill()
    app.wait()
    app.stdout.close()
    all_gone(guardian, *pids)


@families
def test_poll_ends_what_a_killed_guardian_left(
    start: Start, tmp_path: Path, family_of: str
) -> None:
    process = start(family_of.format(ids=tmp_path / "ids"))
    pids = family(tmp_path / "ids")
    os.kill(process.pid, signal.SIGKILL)
    until(lambda: process.poll() is not None)
    assert process.poll() == -signal.SIGKILL
    all_gone(*pids)


def test_a_child_that_ignores_sigterm_is_killed_after_the_grace(
    start: Start, tmp_path: Path
) -> None:
    process = start('trap "" TERM; ' + FAMILY.format(ids=tmp_path / "ids"), grace_s=0.3)
    pids = family(tmp_path / "ids")
    before = time.monotonic()
    process.stop()
    assert 0.3 <= time.monotonic() - before < SOON_S
    assert not any(alive(pid) for pid in pids)


def test_a_child_has_time_to_clean_up_before_the_grace_ends(start: Start, tmp_path: Path) -> None:
    ready, cleaned = tmp_path / "ready", tmp_path / "cleaned"
    process = start(f"trap 'touch {cleaned}; exit 0' TERM; touch {ready}; sleep 300 & wait")
    until(ready.exists)
    process.stop()
    assert cleaned.exists()


def test_a_log_of_many_lines_is_read_from_its_end(tmp_path: Path, start: Start) -> None:
    process = start("seq 100000")
    assert process.wait(SOON_S) == 0
    assert process.tail(2) == "99999\n100000"


def test_a_log_is_told_as_a_terminal_shows_it(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_bytes(b"weights: 0 %\rweights: 100 %\r\n\x1b[1m\x1b[38;5;208mtrackio show\x1b[0m\n")
    assert tail(log) == "weights: 100 %\ntrackio show"
