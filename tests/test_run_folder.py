"""The run folder and how a training script ends in it."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from store.rows import Invalid
from train.process import ChildProcess, how_it_ended
from train.run_folder import RunFolder
from train.runs import RunCancelled, RunFailed, RunPaused, lost, outcome
from train.script import Stopped, enough_rows, run_script
from train.trackers import chosen

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
    assert folder.asked_to_stop() is None
    folder.ask_to_stop("pause")
    assert RunFolder(folder.path).asked_to_stop() == "pause"
    folder.ask_to_stop()
    folder.ask_to_stop("pause")  # does not take the cancel back
    assert RunFolder(folder.path).asked_to_stop() == "cancel"


def test_an_empty_request_of_an_older_version_cancels(folder: RunFolder) -> None:
    (folder.path / "STOP").touch()
    assert folder.asked_to_stop() == "cancel"


# --- going on ----------------------------------------------------------------------------------


def add_checkpoint(folder: RunFolder, step: int, state: str | None = '{"global_step": 1}') -> Path:
    path = folder.checkpoints / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "adapter_model.safetensors").write_bytes(b"x")
    if state is not None:
        (path / "trainer_state.json").write_text(state)
    return path


def test_the_newest_checkpoint_is_the_last_complete_one(folder: RunFolder) -> None:
    assert folder.newest_checkpoint() is None
    nine, ten = add_checkpoint(folder, 9), add_checkpoint(folder, 10)
    torn = [add_checkpoint(folder, 11, None), add_checkpoint(folder, 12, '{"global_st')]
    (folder.checkpoints / "best").mkdir()
    assert folder.newest_checkpoint() == ten
    folder.remove_unfinished_checkpoints()
    assert [path.exists() for path in (nine, ten, *torn)] == [True, True, False, False]


def test_what_lies_beyond_the_checkpoint_is_forgotten(folder: RunFolder) -> None:
    folder.forget_after(3)  # nothing is written yet
    for step in (1, 2, 3, 4):
        folder.add_progress({"step": step, "loss": 0.5})
        folder.add_sample({"step": step, "text": "zwei\u2028Zeilen"})
    with open(folder.path / "progress.jsonl", "a") as file:
        file.write('{"step": 5, "lo')  # killed in the middle of a line
    with open(folder.path / "samples.jsonl", "ab") as samples:
        samples.write('{"step": 5, "text": "你'.encode()[:-1])  # or of a letter
    folder.forget_after(2)
    folder.add_progress({"step": 3})
    assert [line["step"] for line in folder.progress()] == [1, 2, 3]
    assert [line["text"] for line in folder.samples()] == ["zwei\u2028Zeilen"] * 2
    assert not list(folder.path.glob("*.tmp"))


@pytest.mark.parametrize("how", ["FAILED", "PAUSED", "CANCELLED"])
def test_a_run_that_is_opened_again_has_no_ending_and_no_request(
    folder: RunFolder, how: Any
) -> None:
    folder.ask_to_stop("pause")
    folder.end(how, "why")
    folder.reopen()
    assert folder.ending() is None and folder.asked_to_stop() is None


def test_a_run_that_is_done_stays_done(folder: RunFolder) -> None:
    folder.finish(MAIN_METRICS)
    folder.reopen()
    assert folder.ending() == ("DONE", "")


# --- how a script ends -------------------------------------------------------------------------


class OutOfMemoryError(RuntimeError):
    """As torch calls it."""


def failing(error: Exception) -> Any:
    def main(run: RunFolder) -> dict[str, Any]:
        run.adapter.mkdir()
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
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), "The device ran out of memory. "),
        (MemoryError(), "The device ran out of memory. "),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't"), "The device ran out of memory"),
        (OSError(errno.ENOSPC, "No space left on device"), "The disk is full. "),
        (RuntimeError("PytorchStreamWriter failed writing file data/0"), "The disk is full. "),
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
    assert not folder.adapter.exists()


@pytest.mark.parametrize("processes", [1, 2])
def test_a_process_that_lost_another_one_says_so(
    folder: RunFolder, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What gloo says when the other process was killed."""
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    said = "[/__w/third_party/gloo/gloo/transport/tcp/pair.cc:537] Read error [127.0.0.1]:58077: "
    with pytest.raises(SystemExit):
        run_script(failing(RuntimeError(f"{said}Connection reset by peer.")), folder.path)
    _, reason = folder.ending() or ("", "")
    assert reason.startswith("Another process of this run was lost") is (processes == 2)


def test_a_script_that_was_asked_to_stop_is_cancelled(folder: RunFolder) -> None:
    folder.ask_to_stop()
    run_script(lambda run: MAIN_METRICS, folder.path)
    assert folder.ending() == ("CANCELLED", "Stopped on request.")


def test_a_pause_that_came_after_the_last_step_is_void(folder: RunFolder) -> None:
    folder.ask_to_stop("pause")
    run_script(lambda run: MAIN_METRICS, folder.path)
    assert folder.ending() == ("DONE", "")


@pytest.mark.parametrize(
    ("how", "ending", "kept"),
    [
        ("pause", ("PAUSED", "Paused after step 7."), True),
        ("cancel", ("CANCELLED", "Stopped on request."), False),
    ],
)
def test_a_pause_keeps_the_checkpoint(folder: RunFolder, how: Any, ending: Any, kept: bool) -> None:
    checkpoint = add_checkpoint(folder, 7)
    run_script(lambda run: stopped(how), folder.path)
    assert folder.ending() == ending and checkpoint.exists() is kept


def stopped(how: Any) -> dict[str, Any]:
    raise Stopped(how, 7)


def test_a_script_that_fails_keeps_its_last_whole_checkpoint(folder: RunFolder) -> None:
    whole, torn = add_checkpoint(folder, 7), add_checkpoint(folder, 8, None)
    with pytest.raises(SystemExit):
        run_script(failing(ValueError()), folder.path)
    assert folder.newest_checkpoint() == whole and not torn.exists()


def test_of_several_processes_the_first_writes(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    run_script(lambda run: MAIN_METRICS, folder.path)
    assert folder.ending() is None
    with pytest.raises(SystemExit):
        run_script(failing(Invalid("Why it failed.")), folder.path)
    assert folder.ending() == ("FAILED", "Why it failed.")  # the first may not know


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


KNOWN = ["mlflow", "trackio", "wandb"]


@pytest.mark.parametrize(
    ("names", "installed", "expected"),
    [
        ("trackio", ["trackio"], ["trackio"]),
        ("trackio", [], []),  # the default never fails a run
        ("none", ["trackio"], []),
        ("", ["trackio"], []),
        ("wandb, trackio", ["wandb", "trackio"], ["wandb", "trackio"]),
    ],
)
def test_trackers(names: str, installed: list[str], expected: list[str]) -> None:
    assert chosen(names, KNOWN, installed) == expected


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ("wandb", r"^The tracker wandb is not installed\. Run `pip install wandb`"),
        ("wanbd", r"^report_to knows no tracker 'wanbd': write mlflow, trackio, wandb or none\.$"),
    ],
)
def test_trackers_that_cannot_be_used(names: str, reason: str) -> None:
    with pytest.raises(Invalid, match=reason):
        chosen(names, KNOWN, ["trackio"])


# --- how the app reads it ----------------------------------------------------------------------


def test_the_outcome_of_a_run_that_is_done(folder: RunFolder) -> None:
    folder.finish(MAIN_METRICS)
    assert outcome(folder) == MAIN_METRICS


@pytest.mark.parametrize(
    ("how", "raised"),
    [("FAILED", RunFailed), ("CANCELLED", RunCancelled), ("PAUSED", RunPaused)],
)
def test_the_outcome_of_a_run_that_says_why(
    folder: RunFolder, how: Any, raised: type[Exception]
) -> None:
    folder.end(how, "This is why.")
    with pytest.raises(raised, match=r"^This is why\.$"):
        outcome(folder)


@pytest.mark.parametrize(
    ("script", "how"),
    [("kill -9 $$", "was killed by signal 9 (SIGKILL)"), ("exit 3", "ended with exit code 3")],
)
def test_a_process_that_left_no_word(folder: RunFolder, script: str, how: str) -> None:
    process = ChildProcess(["sh", "-c", script], folder.log)
    process.wait(20)
    process.stop()
    assert how_it_ended(process.poll()) == how


def test_only_the_kernels_kill_may_be_for_lack_of_memory(folder: RunFolder) -> None:
    assert lost(-9, folder.log) == (
        "The training process was killed by signal 9 (SIGKILL) before it finished, perhaps for lack"
        " of memory. Resume it, or start again with a smaller batch and a larger accumulate; its "
        f"log is {folder.log}."
    )
    assert lost(137, folder.log) == lost(-9, folder.log)
    for code in (-15, 3):
        assert "memory" not in lost(code, folder.log)


def test_a_killed_guardian(folder: RunFolder) -> None:
    process = ChildProcess(["sleep", "300"], folder.log)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(20)
    process.stop()
    assert how_it_ended(process.poll()) == "was killed by signal 9 (SIGKILL)"
