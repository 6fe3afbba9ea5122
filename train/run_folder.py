"""The run folder: the only channel between the app and a training process. Standard library only.

config.json and data/ are frozen before the process starts; progress.jsonl grows; result.json is
written whole; DONE, FAILED or CANCELLED comes last, and readers trust nothing before one exists.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Ending = Literal["DONE", "FAILED", "CANCELLED"]
ENDINGS: tuple[Ending, ...] = ("DONE", "FAILED", "CANCELLED")


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
    def log(self) -> Path:
        return self.path / "log.txt"

    def freeze(self, config: dict[str, Any]) -> None:
        """Write the resolved configuration; it never changes afterwards."""
        self.path.mkdir(parents=True, exist_ok=True)
        _write_whole(self.path / "config.json", json.dumps(config, indent=1, ensure_ascii=False))

    def config(self) -> dict[str, Any]:
        config: dict[str, Any] = json.loads((self.path / "config.json").read_text(encoding="utf-8"))
        return config

    def add_progress(self, line: dict[str, Any]) -> None:
        """Append one line. Values that are not finite are left out: JSON has no word for them."""
        stamped = {key: value for key, value in line.items() if _is_finite(value)}
        stamped["time"] = round(time.time(), 3)
        with open(self.path / "progress.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(stamped) + "\n")

    def progress(self) -> list[dict[str, Any]]:
        """The whole lines written so far."""
        file = self.path / "progress.jsonl"
        if not file.exists():
            return []
        text = file.read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def finish(self, metrics: dict[str, Any]) -> None:
        """Write the result, then DONE. Raises FloatingPointError for a value that is not finite."""
        for key, value in metrics.items():
            if not _is_finite(value):
                raise FloatingPointError(f"{key} is not finite; lower the learning rate")
        hashes = {
            p.name: hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted(self.adapter.glob("*"))
        }
        _write_whole(
            self.path / "result.json", json.dumps({"metrics": metrics, "sha256": hashes}, indent=1)
        )
        self.end("DONE", "")

    def metrics(self) -> dict[str, Any]:
        """Of a run that is DONE."""
        metrics: dict[str, Any] = json.loads(
            (self.path / "result.json").read_text(encoding="utf-8")
        )["metrics"]
        return metrics

    def end(self, how: Ending, reason: str) -> None:
        _write_whole(self.path / how, reason)

    def ending(self) -> tuple[Ending, str] | None:
        """How the run ended and why, or None while it has not."""
        for name in ENDINGS:
            if (file := self.path / name).exists():
                return name, file.read_text(encoding="utf-8")
        return None

    def ask_to_stop(self) -> None:
        (self.path / "STOP").touch()

    def asked_to_stop(self) -> bool:
        return (self.path / "STOP").exists()


def _is_finite(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def _write_whole(path: Path, text: str) -> None:
    tmp = path.with_name(path.name + ".tmp")
    with open(tmp, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(tmp, path)
