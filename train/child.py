"""Guardian of one child process: `python child.py GRACE_S COMMAND...`. Starts in milliseconds.

vLLM and torch leave grandchildren, and a killed app cannot clean up. The guardian leads a process
group of its own and holds the read end of a pipe whose other end only the app has. When the app is
gone (the pipe ends) or the command is gone, everything left in the group is ended. It exits with
the command's exit code, or as shells do with 128 + N after signal N. Standard library only.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress


def main(grace_s: float, command: list[str]) -> int:
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # first: it keeps default signals
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # meant for the group; the guardian leaves last
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    exited = os.pidfd_open(child.pid)
    waiting = select.poll()
    waiting.register(0, select.POLLIN | select.POLLHUP)
    waiting.register(exited, select.POLLIN)
    waiting.poll()
    end_others(grace_s)
    code = child.wait()
    return code if code >= 0 else 128 - code


def end_others(grace_s: float) -> None:
    """SIGTERM to the rest of the group, after the grace SIGKILL, until nothing is left."""
    os.killpg(0, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while left := others_in_group():
        if time.monotonic() > deadline:
            for pid in left:
                with suppress(ProcessLookupError):  # it ended by itself meanwhile
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def others_in_group() -> list[int]:
    """Living processes of our group besides us. A zombie waits for its parent, not for a signal."""
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


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
