"""The run folder and how a training script ends in it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from store.rows import Invalid
from train.process import ChildProcess
from train.run_folder import RunFolder
from train.runs import RunCancelled, RunFailed, outcome
from train.script import enough_rows, run_script

MAIN_METRICS = {"accuracy": 0.75, "rows_eval": 40}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "runs" / "run-000001")
    made.freeze({"base": "Ünïcode", "seed": 3})
    return made


def test_what_is_frozen_is_read_back(folder: RunFolder) -> None:
    assert folder.config() == {"base": "Ünïcode", "seed": 3}
    assert [path.name for path in folder.path.iterdir()] == ["config.json"]


def test_progress_is_whole_lines_with_their_time(folder: RunFolder) -> None:
    assert folder.progress() == []
    folder.add_progress({"step": 1, "loss": 0.7})
    folder.add_progress({"step": 2, "loss": 0.6})
    with open(folder.path / "progress.jsonl", "a") as file:
        file.write('{"step": 3, "lo')  # the writer is in the middle of a line
    lines = folder.progress()
    assert [line["step"] for line in lines] == [1, 2]
    assert abs(lines[0]["time"] - time.time()) < 60


def test_progress_holds_no_value_that_json_lacks(folder: RunFolder) -> None:
    folder.add_progress({"step": 1, "loss": float("nan"), "margin": float("-inf"), "accuracy": 1.0})
    (line,) = folder.progress()
    assert line.keys() == {"step", "accuracy", "time"}
    json.dumps(line, allow_nan=False)


def test_a_finished_run_has_metrics_hashes_and_done_last(folder: RunFolder) -> None:
    folder.adapter.mkdir()
    (folder.adapter / "adapter_config.json").write_text("{}")
    assert folder.ending() is None
    folder.finish(MAIN_METRICS)
    assert folder.ending() == ("DONE", "")
    assert folder.metrics() == MAIN_METRICS
    result = json.loads((folder.path / "result.json").read_text())
    assert result["sha256"] == {"adapter_config.json": hashlib.sha256(b"{}").hexdigest()}
    written = [folder.path / name for name in ("config.json", "result.json", "DONE")]
    times = [path.stat().st_mtime_ns for path in written]
    assert times == sorted(times)
    assert not list(folder.path.glob("*.tmp"))


@pytest.mark.parametrize("how", ["FAILED", "CANCELLED"])
def test_an_ending_holds_its_reason(folder: RunFolder, how: Any) -> None:
    folder.end(how, "The device ran out of memory.")
    assert folder.ending() == (how, "The device ran out of memory.")


def test_the_request_to_stop_is_seen_by_another_process(folder: RunFolder) -> None:
    assert not folder.asked_to_stop()
    folder.ask_to_stop()
    assert RunFolder(folder.path).asked_to_stop()


# --- how a script ends -------------------------------------------------------------------------


class OutOfMemoryError(RuntimeError):
    """As torch calls it."""


def failing(error: Exception) -> Any:
    def main(run: RunFolder) -> dict[str, Any]:
        (run.path / "trainer").mkdir()
        raise error

    return main


def test_a_script_that_returns_is_done(folder: RunFolder) -> None:
    run_script(lambda run: MAIN_METRICS, folder.path)
    assert folder.ending() == ("DONE", "")
    assert folder.metrics() == MAIN_METRICS


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Invalid("Too few rows fit."), "Too few rows fit."),
        (FloatingPointError("loss is not finite at step 3"), "loss is not finite at step 3"),
        (
            OutOfMemoryError("CUDA out of memory. Tried to allocate"),
            "The device ran out of memory. Lower batch and raise accumulate, or lower max_length.",
        ),
        (RuntimeError("size mismatch\nat line 3"), "RuntimeError: size mismatch (details in log"),
        (KeyError(), "KeyError:  (details in log.txt)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_script_that_raises_has_failed_with_one_sentence(
    folder: RunFolder, error: Exception, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        run_script(failing(error), folder.path)
    assert caught.value.code == 1
    ending = folder.ending()
    assert ending is not None and ending[0] == "FAILED"
    assert ending[1].startswith(reason)
    assert "Traceback" in capsys.readouterr().err  # into log.txt
    assert not (folder.path / "trainer").exists()


def test_a_script_that_was_asked_to_stop_is_cancelled(folder: RunFolder) -> None:
    folder.ask_to_stop()
    run_script(lambda run: MAIN_METRICS, folder.path)
    assert folder.ending() == ("CANCELLED", "Stopped on request.")


def test_a_metric_that_is_not_finite_fails_the_run(folder: RunFolder) -> None:
    with pytest.raises(SystemExit):
        run_script(lambda run: {"margin": float("nan")}, folder.path)
    ending = folder.ending()
    assert ending is not None and ending[0] == "FAILED"
    assert "margin is not finite" in ending[1]


@pytest.mark.parametrize(
    ("train", "held_out", "fits"), [(4, 1, True), (3, 5, False), (10, 0, False), (0, 0, False)]
)
def test_enough_rows(train: int, held_out: int, fits: bool) -> None:
    counts = {"rows_train": train, "rows_eval": held_out, "rows_too_long": 7}
    if fits:
        enough_rows(counts)
    else:
        with pytest.raises(Invalid, match=r"^Too few rows fit: .* 7 longer than max_length\. "):
            enough_rows(counts)


# --- how the app reads it ----------------------------------------------------------------------


def ended(script: str, folder: RunFolder) -> ChildProcess:
    process = ChildProcess(["sh", "-c", script], folder.log)
    process.wait(20)
    process.stop()
    return process


def test_the_outcome_of_a_run_that_is_done(folder: RunFolder) -> None:
    folder.finish(MAIN_METRICS)
    assert outcome(folder, ended("exit 0", folder)) == MAIN_METRICS


def test_the_outcome_of_a_run_that_says_why(folder: RunFolder) -> None:
    folder.end("FAILED", "Too few rows fit.")
    with pytest.raises(RunFailed, match=r"^Too few rows fit\.$"):
        outcome(folder, ended("exit 1", folder))


def test_the_outcome_of_a_cancelled_run(folder: RunFolder) -> None:
    folder.end("CANCELLED", "Stopped on request.")
    with pytest.raises(RunCancelled, match=r"^Stopped on request\.$"):
        outcome(folder, ended("exit 0", folder))


@pytest.mark.parametrize(
    ("script", "how"),
    [("kill -9 $$", "was killed by signal 9"), ("exit 3", "ended with exit code 3")],
)
def test_the_outcome_of_a_process_that_left_no_word(
    folder: RunFolder, script: str, how: str
) -> None:
    with pytest.raises(RunFailed, match=how):
        outcome(folder, ended(script, folder))
    ending = folder.ending()
    assert ending is not None and ending[0] == "FAILED"
    assert how in ending[1] and str(folder.log) in ending[1]


def test_the_outcome_of_a_killed_guardian(folder: RunFolder) -> None:
    process = ChildProcess(["sleep", "300"], folder.log)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(20)
    process.stop()
    with pytest.raises(RunFailed, match="was killed by signal 9"):
        outcome(folder, process)
