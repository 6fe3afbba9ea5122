"""A child process of the app: own group, own log, no orphan whichever side is killed: child.py."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from train import child

MARK = "PREFLOOP_CHILD"  # in the environment of a child and of all that it starts
COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")  # of a terminal, and cursor movements
ROOT = Path(child.__file__).parent.parent


class ChildProcess:
    """Started at once; `stop()` ends the whole group. Standard output and errors go to `log`."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        env: Mapping[str, str] | None = None,
        grace_s: float = 10.0,  # from SIGTERM to SIGKILL when it is stopped
    ) -> None:
        self.log, self._grace_s, self._swept = log, grace_s, False
        self._mark = uuid.uuid4().hex
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as out:
            self._guardian = subprocess.Popen(
                [sys.executable, "-S", child.__file__, str(grace_s), *command],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {}), MARK: self._mark},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Of the guardian; also the id of the process group."""
        return self._guardian.pid

    def poll(self) -> int | None:
        """The exit code, or None while it runs. Ends here what a killed guardian left behind.

        128 + N: the command was ended by signal N; -N: the guardian was.
        """
        code = self._guardian.poll()
        if code is not None and code < 0:
            self._kill_group()
        return code

    def wait(self, timeout_s: float | None = None) -> int | None:
        """The exit code, or None when it still runs after the timeout."""
        try:
            self._guardian.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        return self.poll()

    def stop(self) -> None:
        assert self._guardian.stdin is not None
        self._guardian.stdin.close()  # the guardian sees the end of the pipe and ends its group
        if self.wait(self._grace_s + 5) is None:
            self._kill_group()
            self._guardian.wait()

    def tail(self, lines: int = 20) -> str:
        return tail(self.log, lines)

    def _kill_group(self) -> None:
        """Once: afterwards the kernel may give the number to a group of somebody else."""
        if not self._swept:
            self._swept = True
            with suppress(ProcessLookupError):  # nobody is left
                os.killpg(self._guardian.pid, signal.SIGKILL)
            for pid in marked(self._mark):
                child.send(pid, signal.SIGKILL)


def marked(mark: str) -> list[int]:
    """Living processes with this mark: those that left the group, whose guardian was killed."""
    found, wanted = [], f"{MARK}={mark}".encode()
    for pid in child.processes():
        with suppress(OSError):  # it ended, or belongs to somebody else
            if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(pid)
    return found


def import_path() -> dict[str, str]:
    """Environment in which `python -m train.NAME` finds us, whatever the current folder is."""
    given = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join([str(ROOT), given] if given else [str(ROOT)])}


def how_it_ended(code: int | None) -> str:
    """An exit code of `poll()` in words."""
    number = -code if code is not None and code < 0 else (code or 0) - 128
    if number in set(signal.Signals):
        return f"was killed by signal {number} ({signal.Signals(number).name})"
    return f"ended with exit code {code}"


def tail(log: Path, lines: int = 20) -> str:
    """The last lines of a log, at most 64 kB of them, as a terminal would show them."""
    if not log.exists():
        return ""
    with open(log, "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 65536))
        text = file.read().decode(errors="replace")
    written = COLOURS.sub("", text).rstrip().split("\n")[-lines:]
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in written)  # progress bars
