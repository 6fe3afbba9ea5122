"""How a training script ends: result and DONE, or one sentence in FAILED, or CANCELLED."""

from __future__ import annotations

import shutil
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from store.rows import Invalid, PrefloopError
from train.run_folder import RunFolder

LEAST_ROWS = 4  # on either side of the split


def run_script(main: Callable[[RunFolder], dict[str, Any]], path: Path) -> None:
    """Run `main` on the folder and write how it ended. Exit code 0 done or cancelled, 1 failed."""
    run = RunFolder(path)
    try:
        metrics = main(run)
        if run.asked_to_stop():
            run.end("CANCELLED", "Stopped on request.")
        else:
            run.finish(metrics)
    except Exception as error:  # noqa: BLE001 - edge of the process: all becomes a written reason
        traceback.print_exc()
        run.end("FAILED", reason(error))
        sys.exit(1)
    finally:
        shutil.rmtree(path / "trainer", ignore_errors=True)


def reason(error: Exception) -> str:
    if isinstance(error, PrefloopError | FloatingPointError):
        return str(error)
    if type(error).__name__ == "OutOfMemoryError":
        return (
            "The device ran out of memory. Lower batch and raise accumulate, or lower max_length."
        )
    first = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first} (details in log.txt)"


def enough_rows(counts: dict[str, int]) -> None:
    """Raises Invalid when the rows that fit are too few to train or to measure."""
    if min(counts["rows_train"], counts["rows_eval"]) < 1 or counts["rows_train"] < LEAST_ROWS:
        raise Invalid(
            f"Too few rows fit: {counts['rows_train']} to train on, "
            f"{counts['rows_eval']} held out, {counts['rows_too_long']} longer than max_length. "
            "Annotate more or raise max_length."
        )
