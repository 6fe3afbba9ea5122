"""What a run is made of, frozen before it starts: settings, picks, versions, command."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from store import policies, runs, snapshots
from store.rows import Invalid, Run, Source
from train.launch import LaunchConfig
from train.planning import (
    PartPlan,
    Planner,
    parts_of,
    picks_of,
    precision_of,
    settings_for,
)
from train.policy.adapters import BadAdapter, verify
from train.precision import LARGEST_GAP
from train.rule_words import rule_of
from train.run_folder import RunFolder

LIBRARIES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "datasets", "accelerate")
MACHINE = ("launcher", "processes", "threads", "device")  # they change the order of sums


@dataclass(frozen=True)
class TrainConfig(LaunchConfig):
    sources: Sequence[Source] = ("human", "simulated", "import")  # whose picks are trained on
    seed: int = 0
    largest_gap: float = LARGEST_GAP  # trained against served: share of the mean surprise per token


class RunConfigs:
    """Of runs planned by `planner` and launched as `launch` says."""

    def __init__(self, planner: Planner, launch: LaunchConfig) -> None:
        self.planner, self.launch, self.store = planner, launch, planner.store

    def folder(self, run_id: str) -> RunFolder:
        return RunFolder(self.store.data_dir / "runs" / run_id)

    def of(self, run: Run) -> dict[str, Any]:
        """Freezes its picks too. Raises Invalid when they do not suffice, or are not any more what
        the repeated run learned from."""
        source = run.config.get("repeat_of")
        return self._repeated(run, source) if source else self._fresh(run)

    def check(self, config: dict[str, Any]) -> None:
        """What may have changed since the configuration of a run or a part was frozen.

        Raises Invalid, or BadAdapter about the adapter that it starts from.
        """
        rank, most = config["settings"]["rank"], self.planner.policy.max_rank
        if config["kind"] != "rm" and rank > most:
            raise Invalid(
                f"The run has rank {rank}, which is above policy.max_rank ({most}) now. "
                "Raise that, or start a new run."
            )
        if start := config.get("start_adapter"):
            policy = policies.get(self.store, config["parent_policy"])
            if not Path(start).is_dir():
                raise BadAdapter(
                    f"{policy.policy_id}, from which the run goes on, is not at {start} any more. "
                    "Repeat the run: that looks for it anew."
                )
            verify(Path(start), policy.adapter_sha256)

    def share_data(self, source: str, target: str) -> None:
        """The same frozen files for another run: hard links where they share a disk."""
        folder = self.folder(target).data
        folder.mkdir(parents=True, exist_ok=True)
        for file in self.folder(source).data.glob("*.parquet"):
            (folder / file.name).unlink(missing_ok=True)  # of a start that was cut short
            try:
                os.link(file, folder / file.name)
            except OSError:
                shutil.copy2(file, folder / file.name)

    def _fresh(self, run: Run) -> dict[str, Any]:
        """With the picks that there are now."""
        folder, changes = self.folder(run.run_id), run.config["settings"]
        frozen = snapshots.freeze(
            self.store, run.run_id, folder.data, self.planner.sources, self.planner.seed
        )
        data = {
            "sha256": frozen.sha256,
            "rows_train": frozen.rows_train,
            "rows_eval": frozen.rows_eval,
            "picks": frozen.counts,
            "frozen_at": datetime.now(UTC).astimezone().isoformat(timespec="seconds"),
        }
        train, held_out = (picks_of(rows) for rows in snapshots.frozen(self.store, folder.data))
        parts = [
            self.planner.part(part, settings_for(part, run.kind, changes), train, held_out)
            for part in parts_of(run.kind)
        ]
        for one in parts:
            if one.problem:
                raise Invalid(one.problem)
        size = sum(file.stat().st_size for file in folder.data.iterdir())
        self.planner.check_space([one.settings for one in parts], folder.path, size)
        configs = {one.part: self._config(run, one) | {"data": data} for one in parts}
        if run.kind != "round":
            return configs[run.kind]
        shown = self.planner.command("round", parts)
        return self._facts(run) | {"data": data, "command": shown, "parts": configs}

    def _config(self, run: Run, one: PartPlan) -> dict[str, Any]:
        base, policy = self.planner.base, self.planner.policy
        parent = one.champion or policies.champion(self.store)
        start = one.champion and self._start(run, one.champion.policy_id)
        return self._facts(run) | {
            "kind": one.part,
            "base": str(base.path),
            "base_name": base.name,
            "quantization": policy.quantization,
            "precision": precision_of(one.settings, policy),
            "parent_policy": parent.policy_id if parent else None,
            "start_adapter": start,
            "known_held_out": one.known,
            "seed": one.settings.seed,
            "settings": asdict(one.settings),
            "changed": list(one.changed),
            "rule": rule_of(one.part, one.settings),
            "plan": one.plan.as_dict(),
            "warnings": one.warnings,
            "command": self.planner.command(one.part, [one]),
        }

    def _start(self, run: Run, policy_id: str) -> str:
        """The folder of its adapter; other machines of a cluster see only what is on storage."""
        folder = self.store.data_dir / policies.get(self.store, policy_id).adapter_path
        if not folder.is_dir():
            raise BadAdapter(
                f"The adapter of {policy_id} is not at {folder} any more. "
                "Restore it from a backup, or start from the base."
            )
        if not self.launch.storage:
            return str(folder.resolve())
        copied = self.folder(run.run_id).path.resolve() / "start" / folder.name
        shutil.copytree(folder, copied, dirs_exist_ok=True)
        return str(copied)

    def _facts(self, run: Run) -> dict[str, Any]:
        """What holds for the machine and not for the part."""
        return {
            "run_id": run.run_id,
            "kind": run.kind,
            "repeat_of": run.config.get("repeat_of"),
            "launcher": self.launch.launcher,
            "processes": self.launch.processes,
            "threads": self.launch.threads,
            "device": self.launch.device or self.planner.policy.device,
            "versions": versions(),
        }

    def _repeated(self, run: Run, source: str) -> dict[str, Any]:
        """The configuration and the frozen data of another run, with what is different now."""
        before = self.folder(source).config()
        self.share_data(source, run.run_id)
        if snapshots.digest(self.folder(run.run_id).data) != before["data"]["sha256"]:
            raise Invalid(f"The frozen picks of {source} have changed, so it cannot be repeated.")
        owner = runs.get(self.store, source).parent_run_id or source  # a part has its round's data
        runs.share_snapshot(self.store, owner, run.run_id)
        facts = self._facts(run)
        facts["versions_differ"] = differing(before["versions"], facts["versions"])
        then, now = ({key: known.get(key) for key in MACHINE} for known in (before, facts))
        facts["machine_differs"] = differing(then, now)
        parts = {
            part: self._again(run, config, facts) | {"kind": part}
            for part, config in before.get("parts", {}).items()
        }
        return self._again(run, before, facts) | ({"parts": parts} if parts else {})

    def _again(self, run: Run, config: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
        """The data directory may be elsewhere now, and with it the adapter that it starts from."""
        if not config.get("start_adapter"):
            return config | facts
        return config | facts | {"start_adapter": self._start(run, config["parent_policy"])}


def versions() -> dict[str, str]:
    """Of the libraries that decide what comes out; one that is not installed is left out."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def differing(then: dict[str, Any], now: dict[str, Any]) -> dict[str, list[Any]]:
    """{name: [then, now]} of what is not the same."""
    names = sorted({*then, *now})
    return {n: [then.get(n), now.get(n)] for n in names if then.get(n) != now.get(n)}
