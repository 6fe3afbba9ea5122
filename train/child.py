"""Guardian of one child process: `python child.py -- COMMAND...`. Standard library only, starts in
milliseconds.

vLLM and torch leave grandchildren, and a killed app cannot clean up. The guardian leads a process
group of its own and
holds the read end of a pipe whose other end only the app has. When the app is gone (the pipe ends) or the command is
gone, everything left in the group is ended. It exits with the command's exit code.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time

GRACE_S = 10.0  # from SIGTERM to SIGKILL


def main(command: list[str]) -> int:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # meant for the group; the guardian leaves last
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_default_signals)
    exited = os.pidfd_open(child.pid)
    waiting = select.poll()
    waiting.register(0, select.POLLIN | select.POLLHUP)
    waiting.register(exited, select.POLLIN)
    waiting.poll()
    end_others()
    return child.wait()


def end_others(grace_s: float = GRACE_S) -> None:
    """SIGTERM to the rest of the group, SIGKILL to what is left after the grace."""
    os.killpg(0, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while (left := others_in_group()) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in left:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # it ended by itself meanwhile


def others_in_group() -> list[int]:
    """Living processes of our group besides us. A zombie is waiting for its parent and needs no
    signal."""
    group, found = os.getpgid(0), []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/stat") as file:
                state, _, pgrp = file.read().rpartition(") ")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(pgrp) == group and state != "Z":
            found.append(int(name))
    return found


def _default_signals() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[sys.argv.index("--") + 1 :]))
