"""Carry out one training run: freeze its data, run the script as a child, read how it ended."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import train
from store import runs, snapshots
from store.database import Store
from store.rows import PrefloopError, Run, RunKind, Source
from train.base_model import BaseModel
from train.policy.server import PolicyConfig
from train.presets import dpo_preset, override, reward_preset
from train.process import ChildProcess
from train.run_folder import RunFolder

log = logging.getLogger(__name__)
Part = Literal["rm", "dpo"]
MODULES: dict[str, str] = {"rm": "train.reward", "dpo": "train.dpo"}
LIBRARIES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "datasets")
STOP_GRACE_S = 60.0  # a clean stop waits for the end of a step


@dataclass(frozen=True)
class TrainConfig:
    sources: Sequence[Source] = ("human", "simulated", "import")  # whose picks are trained on
    threads: int = 1  # of a training process on CPU; a second one spins on shared cores
    nice: int = 10  # annotating comes first
    seed: int = 0


class RunFailed(PrefloopError):
    """The run ended without a result; the message is the reason shown to people."""


class RunCancelled(PrefloopError):
    """Somebody asked for the end of the run."""


class Trainer:
    """Owns at most one training process. `stop()` ends it."""

    def __init__(
        self, store: Store, base: BaseModel, config: TrainConfig, policy: PolicyConfig
    ) -> None:
        self.store, self.base, self.config, self.policy = store, base, config, policy
        self.stopping = threading.Event()
        self._cancelled: set[str] = set()

    def folder(self, run_id: str) -> RunFolder:
        return RunFolder(self.store.data_dir / "runs" / run_id)

    def cancel(self, run_id: str) -> None:
        self._cancelled.add(run_id)

    def resolve(self, kind: RunKind, settings: dict[str, Any]) -> None:
        """Raises Invalid when a setting does not exist or has the wrong type."""
        for part in parts_of(kind):
            self._settings(part, settings_for(part, kind, settings), pairs=100)
        strangers = set(settings) - {
            k for part in parts_of(kind) for k in settings if _belongs(k, part, kind)
        }
        if strangers:
            raise RunFailed(
                f"Unknown setting {min(strangers)!r}: write rm.NAME=VALUE or dpo.NAME=VALUE."
            )

    def freeze(self, run_id: str) -> snapshots.Snapshot:
        folder = self.folder(run_id)
        return snapshots.freeze(
            self.store, run_id, folder.data, self.config.sources, self.config.seed
        )

    def share_data(self, source: str, target: str) -> None:
        """Give a part of a round the round's frozen files: hard links, the same bytes."""
        folder = self.folder(target).data
        folder.mkdir(parents=True, exist_ok=True)
        for file in self.folder(source).data.glob("*.parquet"):
            os.link(file, folder / file.name)

    def train(
        self,
        run: Run,
        part: Part,
        snapshot: snapshots.Snapshot,
        settings: dict[str, Any],
        parent_policy: str | None,
    ) -> dict[str, Any]:
        """Run the script to its end. Returns its metrics; raises RunFailed or RunCancelled."""
        folder = self.folder(run.run_id)
        resolved = self._settings(part, settings, snapshot.rows_train)
        folder.freeze(
            {
                "run_id": run.run_id,
                "kind": part,
                "base": str(self.base.path),
                "base_name": self.base.name,
                "quantization": self.policy.quantization,
                "parent_policy": parent_policy,
                "seed": resolved.seed,
                "settings": asdict(resolved),
                "data": {
                    "sha256": snapshot.sha256,
                    "rows_train": snapshot.rows_train,
                    "rows_eval": snapshot.rows_eval,
                    "picks": snapshot.counts,
                },
                "versions": {name: version(name) for name in LIBRARIES},
            }
        )
        process = ChildProcess(self._command(part, folder), folder.log, self._environment())
        try:
            self._wait(process, run, folder)
        finally:
            process.stop()
        metrics = outcome(folder, process)
        return metrics | {
            "rows_identical": snapshot.counts.get("identical", 0),
            "picks": snapshot.counts,
        }

    def _wait(self, process: ChildProcess, run: Run, folder: RunFolder) -> None:
        waited = 0.0
        while process.wait(0.25) is None:
            if self.stopping.is_set():
                raise RunFailed("The app was stopped while it ran. Start the run again.")
            if self._cancelled & {run.run_id, run.parent_run_id}:
                folder.ask_to_stop()
                waited += 0.25
                if waited > STOP_GRACE_S:
                    raise RunCancelled("Stopped on request.")

    def _settings(self, part: Part, changes: dict[str, Any], pairs: int) -> Any:
        preset = reward_preset if part == "rm" else dpo_preset
        resolved = preset(self.base.parameters, pairs, self.policy.context)
        return override(resolved, {"seed": self.config.seed} | changes)

    def _command(self, part: Part, folder: RunFolder) -> list[str]:
        return [
            "nice",
            "-n",
            str(self.config.nice),
            sys.executable,
            "-m",
            MODULES[part],
            str(folder.path),
        ]

    def _environment(self) -> dict[str, str]:
        root = str(Path(train.__file__).parent.parent)
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        return {
            "OMP_NUM_THREADS": str(self.config.threads),
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "OMP_WAIT_POLICY": "PASSIVE",
            "PYTHONPATH": path,
            "PYTHONUNBUFFERED": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }


def outcome(folder: RunFolder, process: ChildProcess) -> dict[str, Any]:
    """The metrics of a run that is DONE; raises RunFailed or RunCancelled with the reason
    otherwise."""
    ending = folder.ending()
    if ending is None:
        code = process.poll()
        how = (
            f"was killed by signal {-code}"
            if code is not None and code < 0
            else f"ended with exit code {code}"
        )
        reason = (
            f"The training process {how} before it finished; the end of its log is in {folder.log}."
        )
        folder.end("FAILED", reason)
        raise RunFailed(reason)
    how_ended, reason = ending
    if how_ended == "CANCELLED":
        raise RunCancelled(reason)
    if how_ended == "FAILED":
        raise RunFailed(reason)
    return folder.metrics()


def parts_of(kind: RunKind) -> tuple[Part, ...]:
    if kind == "round":
        return ("rm", "dpo")
    return (kind,)


def settings_for(part: Part, kind: RunKind, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings meant for one part: `dpo.beta=0.2`, or plain `beta=0.2` outside a round."""
    return {
        key.removeprefix(f"{part}."): value
        for key, value in settings.items()
        if _belongs(key, part, kind)
    }


def _belongs(key: str, part: Part, kind: RunKind) -> bool:
    return key.startswith(f"{part}.") or (kind != "round" and "." not in key)


def reconcile(store: Store) -> list[str]:
    """After a restart: runs that say "running" have no process any more (the guardian ended it).
    Mark them failed."""
    lost = [run for run in runs.unfinished(store) if run.status == "running"]
    for run in lost:
        runs.mark(
            store, run.run_id, "failed", reason="The app ended while it ran. Start the run again."
        )
        folder = RunFolder(store.data_dir / "runs" / run.run_id)
        if folder.path.exists() and folder.ending() is None:
            folder.end("FAILED", "The app ended while it ran.")
    return [run.run_id for run in lost]
