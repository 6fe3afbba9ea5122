"""Guardian of one child process: `python child.py GRACE_S COMMAND...`. Starts in milliseconds.

vLLM and torch leave grandchildren, and a killed app cannot clean up. The guardian leads a process
group of its own and holds the read end of a pipe whose other end only the app has. When the app is
gone (the pipe ends) or the command is gone, everything left is ended: the group, and descendants
that left it, as the workers of torch's launcher and of Ray do. It exits with the command's exit
code, or as shells do with 128 + N after signal N. Standard library only.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress

SET_CHILD_SUBREAPER = 36  # of prctl(2)


def main(grace_s: float, command: list[str]) -> int:
    # Descendants whose parent has ended become our children, wherever they went.
    ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)
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
    """SIGTERM to the group and to all descendants, after the grace SIGKILL, until none is left."""
    escaped = [pid for pid, group in others().items() if group != os.getpgid(0)]
    os.killpg(0, signal.SIGTERM)
    for pid in escaped:
        send(pid, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while left := others():
        if time.monotonic() > deadline:
            for pid in left:
                send(pid, signal.SIGKILL)
        time.sleep(0.05)


def send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it ended by itself meanwhile
        os.kill(pid, number)


def others() -> dict[int, int]:
    """The groups of living processes of our group and of descendants, besides us, by id. A zombie
    waits for its parent, not for a signal."""
    group, us = os.getpgid(0), os.getpid()
    table = processes()
    parents = {pid: parent for pid, (_, parent, _) in table.items()}
    return {
        pid: theirs
        for pid, (state, _, theirs) in table.items()
        if pid != us and state != "Z" and (theirs == group or us in ancestors(pid, parents))
    }


def processes() -> dict[int, tuple[str, int, int]]:
    """State, parent and group of each process."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                state, parent, group = file.read().rpartition(") ")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        found[int(name)] = state, int(parent), int(group)
    return found


def ancestors(pid: int, parents: dict[int, int]) -> set[int]:
    """`parents` was read bit by bit, so a number that was given away twice may close a circle."""
    above: set[int] = set()
    while (pid := parents.get(pid, 0)) and pid not in above:
        above.add(pid)
    return above


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
