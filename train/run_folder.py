"""The run folder: the only channel between the app and a training process. Standard library only.

config.json and data/ are frozen before the process starts; progress.jsonl and samples.jsonl grow;
checkpoints/ holds states to resume from; result.json is written whole; DONE, FAILED, CANCELLED or
PAUSED comes last, and readers trust nothing before one exists. STOP asks for an early end.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

log = logging.getLogger(__name__)
Ending = Literal["DONE", "FAILED", "CANCELLED", "PAUSED"]
ENDINGS: tuple[Ending, ...] = get_args(Ending)
Stop = Literal["cancel", "pause"]
ADAPTER = ("adapter_config.json", "adapter_model.safetensors")  # as PEFT calls its files
ADAPTER_CONFIG, ADAPTER_WEIGHTS = ADAPTER
SCORED = "scored.jsonl"
STATE = "trainer_state.json"  # the last file that transformers writes into a checkpoint
RESERVE_BYTES = 1 << 14  # freed when the disk is full, so that the reason can still be written


@dataclass(frozen=True)
class RunFolder:
    path: Path

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def adapter(self) -> Path:
        return self.path / "adapter"

    @property
    def half_adapter(self) -> Path:
        """While it is written; then it becomes the adapter."""
        return self.path / "adapter.tmp"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    def freeze(self, config: dict[str, Any]) -> None:
        """Write the resolved configuration; it never changes afterwards."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_whole(self.path / "config.json", json.dumps(config, indent=1, ensure_ascii=False))

    def config(self) -> dict[str, Any]:
        config: dict[str, Any] = json.loads((self.path / "config.json").read_text(encoding="utf-8"))
        return config

    # --- what grows while it runs ---------------------------------------------------------------

    def add_progress(self, line: dict[str, Any]) -> None:
        """Append one line. Values that are not finite are left out: JSON has no word for them."""
        _append(self.path / "progress.jsonl", line)

    def progress(self) -> list[dict[str, Any]]:
        """The whole lines written so far."""
        return list(_lines(self.path / "progress.jsonl"))

    def add_sample(self, line: dict[str, Any]) -> None:
        """Append one line {step, prompt_id, prompt, text, ...}."""
        _append(self.path / "samples.jsonl", line)

    def samples(self) -> list[dict[str, Any]]:
        """One of each step and prompt: after an early stop the last step has the kept adapter's."""
        lines = _lines(self.path / "samples.jsonl")
        return list({(one["step"], str(one.get("prompt"))): one for one in lines}.values())

    def write_scored(self, lines: Iterable[dict[str, Any]]) -> None:
        """Held-out answers as the trained policy scores them: {prompt_ids, answer_ids, logprobs}
        each."""
        with open(self.path / SCORED, "w", encoding="utf-8") as file:
            file.writelines(_text(line) for line in lines)

    def scored(self) -> list[dict[str, Any]]:
        return list(_lines(self.path / SCORED))

    def forget_after(self, step: int) -> None:
        """Drop what was written beyond `step`, from where the run now goes on."""
        for name in ("progress.jsonl", "samples.jsonl"):
            file = self.path / name
            if file.exists():
                kept = [line for line in _lines(file) if line["step"] <= step]
                write_whole(file, "".join(_text(line) for line in kept))

    # --- states to resume from ------------------------------------------------------------------

    def newest_checkpoint(self) -> Path | None:
        """The last complete one: its process may have been killed while it wrote another."""
        complete = [path for path in self._checkpoints() if _is_complete(path)]
        return max(complete, key=step_of, default=None)

    def remove_unfinished_checkpoints(self) -> None:
        for path in self._checkpoints():
            if not _is_complete(path):
                shutil.rmtree(path, ignore_errors=True)

    def remove_checkpoints(self) -> None:
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def remove_adapter(self) -> None:
        for path in (self.adapter, self.half_adapter):
            shutil.rmtree(path, ignore_errors=True)

    def keep_newest_adapter(self) -> None:
        """That of the newest checkpoint, for a process that was ended before it saved its own."""
        checkpoint = self.newest_checkpoint()
        if self.adapter.exists() or checkpoint is None:
            return
        if not all((checkpoint / name).is_file() for name in ADAPTER):  # FSDP may keep it in parts
            return
        shutil.rmtree(self.half_adapter, ignore_errors=True)
        try:
            self.half_adapter.mkdir()
            for name in ADAPTER:
                shutil.copy2(checkpoint / name, self.half_adapter)
            self.half_adapter.rename(self.adapter)
        except OSError as error:  # a full disk: the run is cancelled all the same
            log.warning("the adapter of %s could not be kept: %s", checkpoint, error)
            shutil.rmtree(self.half_adapter, ignore_errors=True)

    def _checkpoints(self) -> list[Path]:
        found = self.checkpoints.glob("checkpoint-*")
        return [path for path in found if path.name.rpartition("-")[2].isdigit()]

    # --- how it ends ----------------------------------------------------------------------------

    def finish(self, metrics: dict[str, Any]) -> None:
        """Write the result, then DONE. Raises FloatingPointError for a value that is not finite."""
        for key, value in metrics.items():
            if not _is_finite(value):
                raise FloatingPointError(f"{key} is not finite; lower the learning rate")
        hashes = {
            p.name: hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted(self.adapter.glob("*"))
        }
        write_whole(
            self.path / "result.json", json.dumps({"metrics": metrics, "sha256": hashes}, indent=1)
        )
        self.end("DONE", "")

    def metrics(self) -> dict[str, Any]:
        """Of a run that is DONE."""
        metrics: dict[str, Any] = json.loads(
            (self.path / "result.json").read_text(encoding="utf-8")
        )["metrics"]
        return metrics

    def reserve(self) -> None:
        """Hold back a little room for the ending, should the disk get full."""
        (self.path / ".reserve").write_bytes(bytes(RESERVE_BYTES))

    def end(self, how: Ending, reason: str) -> None:
        (self.path / ".reserve").unlink(missing_ok=True)
        write_whole(self.path / how, reason)

    def ending(self) -> tuple[Ending, str] | None:
        """How the run ended and why, or None while it has not."""
        for name in ENDINGS:
            with suppress(FileNotFoundError):
                return name, (self.path / name).read_text(encoding="utf-8")
        return None

    def reopen(self) -> None:
        """Let the script go on where it stopped. A run that is done stays done."""
        for name in ("FAILED", "PAUSED", "CANCELLED", "STOP"):
            (self.path / name).unlink(missing_ok=True)

    def ask_to_stop(self, how: Stop = "cancel") -> None:
        """A request to cancel is not taken back by one to pause."""
        if self.asked_to_stop() != "cancel":
            write_whole(self.path / "STOP", how)

    def asked_to_stop(self) -> Stop | None:
        try:
            return "pause" if (self.path / "STOP").read_text() == "pause" else "cancel"
        except FileNotFoundError:
            return None


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _is_complete(checkpoint: Path) -> bool:
    try:
        return isinstance(json.loads((checkpoint / STATE).read_text(encoding="utf-8")), dict)
    except (OSError, ValueError):
        return False


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    """Whole lines only: the writer may be in the middle of one, even of a letter of more than one
    byte, or have been killed there."""
    if file.exists():
        yield from map(json.loads, file.read_bytes().split(b"\n")[:-1])


def _append(file: Path, line: dict[str, Any]) -> None:
    stamped = {key: value for key, value in line.items() if _is_finite(value)}
    stamped["time"] = round(time.time(), 3)
    with open(file, "a", encoding="utf-8") as out:
        out.write(_text(stamped))


def _text(line: dict[str, Any]) -> str:
    return json.dumps(line, ensure_ascii=False) + "\n"


def _is_finite(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def write_whole(path: Path, text: str) -> None:
    """Readers see the file as it was or as it is now, also after a power cut."""
    tmp = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with open(tmp, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(tmp, path)
