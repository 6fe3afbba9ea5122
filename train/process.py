"""A child process of the app: own group, own log, and no orphan whichever side is killed (see
child.py)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from train import child


class ChildProcess:
    """Started at once; `stop()` ends the whole group. Standard output and errors go to `log`."""

    def __init__(
        self, command: Sequence[str], log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as out:
            self._guardian = subprocess.Popen(
                [sys.executable, "-S", child.__file__, "--", *command],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Of the guardian; also the id of the process group."""
        return self._guardian.pid

    def poll(self) -> int | None:
        """The exit code, or None while it runs. What a killed guardian left behind is ended
        here."""
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

    def stop(self, grace_s: float = 15.0) -> None:
        assert self._guardian.stdin is not None
        self._guardian.stdin.close()  # the guardian sees the end of the pipe and ends its group
        if self.wait(grace_s) is None:
            self._kill_group()
            self._guardian.wait()

    def tail(self, lines: int = 20) -> str:
        return tail(self.log, lines)

    def _kill_group(self) -> None:
        try:
            os.killpg(self._guardian.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # nobody is left


def tail(log: Path, lines: int = 20) -> str:
    """The last lines of a log, at most 64 kB of them."""
    if not log.exists():
        return ""
    with open(log, "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 65536))
        text = file.read().decode(errors="replace")
    return "\n".join(text.rstrip().splitlines()[-lines:])
