"""Carry out one training run: freeze its data, run the script as a child, read how it ended."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any, Literal

from store import runs, snapshots
from store.database import Store
from store.rows import Invalid, PrefloopError, Run, RunKind, Source
from train.base_model import BaseModel
from train.policy.server import PolicyConfig
from train.presets import DpoSettings, RewardSettings, dpo_preset, override, reward_preset
from train.process import ChildProcess, how_it_ended, import_path
from train.run_folder import Ending, RunFolder

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

    def check(self, run: Run) -> None:
        """Between the steps of a run: raises RunCancelled or RunFailed when it must end."""
        if self.stopping.is_set():
            raise RunFailed("The app was stopped while it ran. Start the run again.")
        if run.run_id in self._cancelled:
            raise RunCancelled("Stopped on request.")

    def resolve(self, kind: RunKind, settings: dict[str, Any]) -> None:
        """Raises Invalid when a setting does not exist or has the wrong type."""
        for part in parts_of(kind):
            self._settings(part, settings_for(part, kind, settings), pairs=100)
        for key in settings:
            if not any(_belongs(key, part, kind) for part in parts_of(kind)):
                parts = " or ".join(f"{part}.NAME=VALUE" for part in parts_of(kind))
                raise Invalid(f"Unknown setting {key!r}: write {parts}.")

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
            cut_short = self._wait(process, run, folder)
        finally:
            process.stop()
        if cut_short and folder.ending() is None:
            folder.end(*cut_short)
        metrics = outcome(folder, process)
        return metrics | {
            "rows_identical": snapshot.counts.get("identical", 0),
            "rows_cut": snapshot.counts.get("cut", 0),
            "picks": snapshot.counts,
        }

    def _wait(
        self, process: ChildProcess, run: Run, folder: RunFolder
    ) -> tuple[Ending, str] | None:
        """None when the process has ended by itself, else what to write for it."""
        asked_for_s = 0.0
        while process.wait(0.25) is None:
            if self.stopping.is_set():
                return "FAILED", "The app was stopped while it ran. Start the run again."
            if self._cancelled & {run.run_id, run.parent_run_id}:
                folder.ask_to_stop()
                asked_for_s += 0.25
                if asked_for_s > STOP_GRACE_S:
                    return "CANCELLED", "Stopped on request."
        return None

    def _settings(
        self, part: Part, changes: dict[str, Any], pairs: int
    ) -> RewardSettings | DpoSettings:
        size, context = self.base.parameters, self.policy.context
        changes = {"seed": self.config.seed} | changes
        if part == "rm":
            return override(reward_preset(size, pairs, context), changes)
        preset = dpo_preset(size, pairs, context)
        largest = self.policy.max_rank
        resolved = override(replace(preset, rank=min(preset.rank, largest)), changes)
        if resolved.rank > largest:
            raise Invalid(f"rank {resolved.rank} is above policy.max_rank ({largest}).")
        return resolved

    def _command(self, part: Part, folder: RunFolder) -> list[str]:
        nice = ["nice", "-n", str(self.config.nice)]
        return [*nice, sys.executable, "-m", MODULES[part], str(folder.path)]

    def _environment(self) -> dict[str, str]:
        return import_path() | {
            "OMP_NUM_THREADS": str(self.config.threads),
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "OMP_WAIT_POLICY": "PASSIVE",
            "PYTHONUNBUFFERED": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }


def outcome(folder: RunFolder, process: ChildProcess) -> dict[str, Any]:
    """The metrics of a run that is DONE; otherwise raises RunFailed or RunCancelled with why."""
    ending = folder.ending()
    if ending is None:
        how = how_it_ended(process.poll())
        reason = f"The training process {how} before it finished; its log is {folder.log}."
        folder.end("FAILED", reason)
        raise RunFailed(reason)
    name, reason = ending
    if name == "DONE":
        return folder.metrics()
    raise RunCancelled(reason) if name == "CANCELLED" else RunFailed(reason)


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
    """After a restart: what was running has no process any more, so it is failed.

    A part of a round counts as running from its first event on. Waiting runs go on waiting.
    """
    lost = [run for run in runs.unfinished(store) if run.status == "running" or run.parent_run_id]
    for run in lost:
        runs.mark(
            store, run.run_id, "failed", reason="The app ended while it ran. Start the run again."
        )
        folder = RunFolder(store.data_dir / "runs" / run.run_id)
        if folder.path.exists() and folder.ending() is None:
            folder.end("FAILED", "The app ended while it ran.")
    return [run.run_id for run in lost]
