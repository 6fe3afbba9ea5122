"""Drift: does the reward model still order what people pick now? Measured on fresh picks."""

from __future__ import annotations

import json
import logging
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from store import fresh, runs
from store.database import Store
from store.rows import Run, utc_now
from train.process import ChildProcess
from train.run_folder import write_whole
from train.runs import Trainer
from train.triggers import Drift

log = logging.getLogger(__name__)
LONGEST_S = 1800.0  # for scoring; the queue waits meanwhile


class DriftMeter:
    """Scores the picks since the last round with the newest reward model, as a child process."""

    def __init__(self, store: Store, trainer: Trainer) -> None:
        self.store, self.trainer = store, trainer
        self.folder = store.data_dir / "drift"
        self._facts = _read(self.folder / "measured.json")  # of the last measurement

    def measured(self) -> Drift | None:
        """The last measurement, when it came after the last round and by the newest model."""
        known, model = self._facts, runs.newest_reward_model(self.store)
        if known is None or model is None or known["reward_model"] != model.run_id:
            return None
        if known["round"] != self._last_round():
            return None
        return Drift(known["accuracy"], known["n"], known["at"])

    def measure(self, picks: int) -> None:
        """`picks`: new ones, which the next measurement is counted from. Never raises: what cannot
        be measured starts nothing, and is tried again after as many new picks."""
        model = runs.newest_reward_model(self.store)
        assert model is not None
        facts: dict[str, Any] = {"accuracy": 1.0, "n": None}
        try:
            facts |= self._score(model)
        except Exception as error:  # DuckDB's own, of a full disk; a bug is told with its stack
            name = type(error).__name__
            log.warning("drift could not be measured (%s: %s)", name, error, exc_info=True)
        else:
            share, n = 100 * facts["accuracy"], facts["n"]
            log.info("%s orders %.0f %% of %d fresh picks as people did", model.run_id, share, n)
        self._facts = facts | {
            "at": picks,
            "round": self._last_round(),
            "reward_model": model.run_id,
            "when": utc_now().isoformat() + "Z",
        }
        with suppress(OSError):  # a full disk: after a restart it is measured again
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(self.folder / "measured.json", json.dumps(self._facts, indent=1))

    def _score(self, model: Run) -> dict[str, Any]:
        """Raises OSError or ValueError when there is no result."""
        trained = self.trainer.folder(model.run_id)
        (self.folder / "scores.json").unlink(missing_ok=True)
        before = trained.config()
        file = self.folder / "picks.parquet"
        rows = fresh.write_fresh(self.store, file, self.trainer.config.sources, model)
        if not rows:  # the model was trained on all of them
            return {"n": 0}
        wanted = {
            "base": before["base"],
            "precision": before["precision"],
            "adapter": str(trained.adapter.resolve()),
            "temperature": trained.metrics().get("temperature", 1.0),
            "settings": before["settings"],
            "data": {"frozen_at": before["data"].get("frozen_at")},
            "rows": rows,
        }
        (self.folder / "config.json").write_text(json.dumps(wanted, indent=1))
        with self.trainer.device_free():
            self._run()
        found = _read(self.folder / "scores.json")
        if found is None:
            raise ValueError(f"train.score left no result; its log is {self.folder / 'log.txt'}")
        return found

    def _run(self) -> None:
        nice = ["nice", "-n", str(self.trainer.config.nice)]
        command = [*nice, sys.executable, "-m", "train.score", str(self.folder.resolve())]
        process = ChildProcess(command, self.folder / "log.txt", self.trainer.environment())
        deadline = time.monotonic() + LONGEST_S
        try:
            while process.wait(0.25) is None:
                if self.trainer.stopping.is_set() or time.monotonic() > deadline:
                    return
        finally:
            process.stop()

    def _last_round(self) -> str:
        last = runs.last_round(self.store)
        return last.isoformat() if last else ""


def _read(file: Path) -> dict[str, Any] | None:
    """None when it is not there, or was cut short."""
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found
