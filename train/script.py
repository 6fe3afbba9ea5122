"""How a training script ends: result and DONE, one sentence in FAILED, or CANCELLED, or PAUSED."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from store.rows import Invalid, PrefloopError
from train.plan import LEAST_ROWS
from train.run_folder import RunFolder, Stop

OUT_OF_MEMORY = (
    "The device ran out of memory. Lower batch and raise accumulate, or lower max_length."
)
DISK_FULL = "The disk is full. Make room, then resume the run: it goes on from its last checkpoint."
PROCESS_LOST = (
    "Another process of this run was lost, perhaps for lack of memory. Resume the run: it goes on "
    "from its last checkpoint."
)
# Libraries say it in their own types: safetensors, torch.save, pyarrow.
NO_MEMORY = (
    "DefaultCPUAllocator",
    "t allocate memory",
    "not enough memory",
    "out of memory",
    "STATUS_ALLOC_FAILED",  # of cuBLAS and cuDNN on a card that is nearly full
)
NO_ROOM = (
    "No space left on device",
    "File too large",
    "Disk quota exceeded",
    "PytorchStreamWriter failed",
    "file write failed",
)
NO_PEER = ("gloo/transport", "NCCL", "ProcessGroup")


class Stopped(PrefloopError):
    """Training ended early on request, and what it leaves behind is written."""

    def __init__(self, how: Stop, step: int) -> None:
        super().__init__(f"Paused after step {step}." if how == "pause" else "Stopped on request.")
        self.how = how


def run_script(main: Callable[[RunFolder], dict[str, Any]], path: Path) -> None:
    """Run `main` on the folder and write how it ended. Exit code 1 when it failed, else 0.

    Of several processes the first writes; any of them may write why it failed.
    """
    run = RunFolder(path)
    try:
        if is_main():
            run.reserve()
        metrics = main(run)
        if is_main():
            _end(run, metrics)
    except Stopped as stopped:
        if is_main():
            run.end("PAUSED" if stopped.how == "pause" else "CANCELLED", str(stopped))
            if stopped.how == "cancel":
                run.remove_checkpoints()
    except Exception as error:  # noqa: BLE001 - edge of the process: all becomes a written reason
        with suppress(OSError):  # the log may lie on the full disk
            traceback.print_exc()
        run.remove_unfinished_checkpoints()
        run.remove_adapter()  # perhaps it is whole, but it was not measured
        if run.ending() is None:
            run.end("FAILED", reason(error))
        sys.exit(1)


def _end(run: RunFolder, metrics: dict[str, Any]) -> None:
    """A request to pause that came after the last step is void; one to cancel is not."""
    if run.asked_to_stop() == "cancel":
        run.end("CANCELLED", "Stopped on request.")
    else:
        run.finish(metrics)
    run.remove_checkpoints()


def reason(error: Exception) -> str:
    if isinstance(error, PrefloopError | FloatingPointError):
        return str(error)
    if isinstance(error, MemoryError) or _is_of(error, "OutOfMemoryError", NO_MEMORY):
        return OUT_OF_MEMORY
    if disk_is_full(error):
        return DISK_FULL
    if processes() > 1 and _is_of(error, "DistBackendError", NO_PEER):
        return PROCESS_LOST  # one that could still say why has written it before
    first = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first} (details in log.txt)"


def disk_is_full(error: Exception) -> bool:
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
    return full or _is_of(error, "", NO_ROOM)


def _is_of(error: Exception, name: str, phrases: tuple[str, ...]) -> bool:
    return type(error).__name__ == name or any(phrase in str(error) for phrase in phrases)


def is_main(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process writes the run's files; accelerate and Ray number them by RANK."""
    return int(environment.get("RANK", "0")) == 0


def processes(environment: Mapping[str, str] = os.environ) -> int:
    return int(environment.get("WORLD_SIZE", "1"))


def enough_rows(counts: dict[str, int]) -> None:
    """Raises Invalid when the rows that fit are too few to train or to measure."""
    if min(counts["rows_train"], counts["rows_eval"]) < 1 or counts["rows_train"] < LEAST_ROWS:
        others = f"{counts['rows_too_long']} longer than max_length"
        if refused := counts.get("rows_refused"):
            others += f", {refused} that the chat template refuses (why is in the log)"
        if alike := counts.get("rows_alike"):
            others += f", {alike} whose answers it makes alike"
        raise Invalid(
            f"Too few rows fit: {counts['rows_train']} to train on, "
            f"{counts['rows_eval']} held out, {others}. Annotate more or raise max_length."
        )
