"""What a run will do, told before it starts: its settings, rows, rule and command. No torch."""

from __future__ import annotations

import json
import shlex
import threading
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from store import policies, snapshots
from store.database import Store
from store.rows import Invalid, RunKind, Source
from train import space
from train.base_model import BaseModel
from train.lineage import trained_prompts
from train.picks import Pick
from train.plan import Plan, plan
from train.plan import problem as too_little
from train.policy.adapters import SHAPES, BadAdapter, check, read_shapes, verify
from train.policy.registry import BASE_POLICY
from train.policy.vllm import PolicyConfig
from train.presets import preset
from train.rule_words import rule_of
from train.rules import rows_of
from train.run_folder import ADAPTER_CONFIG, RunFolder
from train.settings import AnySettings, Field, Part, form, override
from train.steps import shared_step
from train.trackers import check as check_trackers

PRECISION = {"nf4": "nf4", "none": "bf16"}  # of the base, by policy.quantization
Picks = tuple[list[Pick], list[Pick]]
FEW = 100  # rows that a preset is made for where there are none yet


@dataclass(frozen=True)
class Champion:
    """The policy that a run goes on from."""

    policy_id: str
    rank: int


@dataclass(frozen=True)
class PartPlan:
    """One part of a run. `problem`: the sentence why it cannot start."""

    part: Part
    settings: AnySettings
    preset: AnySettings
    plan: Plan
    champion: Champion | None  # that it goes on from
    known: list[str]  # held-out prompts that the champion's line was trained on: not measured on
    warnings: list[dict[str, Any]]
    problem: str | None

    @property
    def changed(self) -> dict[str, Any]:
        """What differs from the preset."""
        usual = asdict(self.preset)
        return {key: value for key, value in asdict(self.settings).items() if value != usual[key]}

    def as_dict(self) -> dict[str, Any]:
        return {
            "part": self.part,
            "settings": asdict(self.settings),
            "preset": asdict(self.preset),
            "changed": list(self.changed),
            "plan": self.plan.as_dict(),
            "rule": rule_of(self.part, self.settings),
            "warnings": self.warnings,
            "problem": self.problem,
        }


class Planner:
    """Everything about a run that depends on the model and the configuration."""

    def __init__(
        self,
        store: Store,
        base: BaseModel,
        policy: PolicyConfig,
        sources: Sequence[Source],
        seed: int,
        processes: int = 1,
    ) -> None:
        self.store, self.base, self.policy = store, base, policy
        self.sources, self.seed, self.processes = sources, seed, processes
        self._known: tuple[int, Picks] | None = None
        self._counted: dict[Part, tuple[Sequence[Pick], int]] = {}  # of the newest picks
        self._reading = threading.Lock()

    def preview(self, kind: RunKind, changes: dict[str, Any]) -> list[PartPlan]:
        """What a run started now would do. Raises Invalid."""
        self.check(kind, changes)
        train, held_out = self.picks_now()
        return [
            self.part(part, settings_for(part, kind, changes), train, held_out)
            for part in parts_of(kind)
        ]

    def form(self, part: Part) -> list[Field]:
        """Defaults are the preset for the picks that there are now."""
        return form(self.preset(part, self.rows(part, self.picks_now()[0]) or FEW))

    def picks_now(self) -> Picks:
        """To train on and held out; read again only when picks were made or taken back."""
        with self._reading:
            newest = snapshots.newest(self.store)
            if self._known is None or self._known[0] != newest:
                train, held_out = snapshots.preview(self.store, self.sources, self.seed)
                self._known = newest, (picks_of(train), picks_of(held_out))
            return self._known[1]

    def check_space(self, runs: Iterable[AnySettings], folder: Path, data: int = 0) -> None:
        """`runs`: one after the other; `data`: bytes of the picks that are still to be frozen. What
        a run that goes on has there already counts as free.

        Raises Invalid when the disk of `folder` has no room.
        """
        shapes = self.store.data_dir / "policies" / SHAPES
        layers = space.sizes(json.loads(shapes.read_text())) if shapes.exists() else []
        adapters = [(space.adapter_weights(layers, one.rank), one) for one in runs]
        held = space.held_bytes(RunFolder(folder).checkpoints)
        needed = space.needed_bytes(adapters, data)
        space.check_space(space.free_bytes(folder) + held, needed, folder)

    def preset(self, part: Part, rows: int) -> AnySettings:
        fitted = preset(part, self.base.parameters, rows, self.policy.context)
        rank = fitted.rank if part == "rm" else min(fitted.rank, self.policy.max_rank)
        return replace(fitted, rank=rank, seed=self.seed)

    def settings(self, part: Part, changes: dict[str, Any], rows: int) -> AnySettings:
        """Raises Invalid."""
        resolved = override(self.preset(part, rows), changes)
        if part != "rm" and resolved.rank > self.policy.max_rank:
            raise Invalid(
                f"rank {resolved.rank} is above policy.max_rank ({self.policy.max_rank}), which "
                "vLLM serves. Lower rank, or raise policy.max_rank."
            )
        return resolved

    def check(self, kind: RunKind, changes: dict[str, Any]) -> dict[str, Any]:
        """The changes with texts as the types of their settings.

        Raises Invalid when a setting does not exist or has the wrong type.
        """
        parts = parts_of(kind)
        found = {
            part: self.settings(part, settings_for(part, kind, changes), FEW) for part in parts
        }
        typed = {}
        for key in changes:
            part = next((part for part in parts if _belongs(key, part, kind)), None)
            if part is None:
                names = " or ".join(f"{one}.NAME=VALUE" for one in parts)
                raise Invalid(f"Unknown setting {key!r}: write {names}.")
            if (name := key.removeprefix(f"{part}.")) not in found[part].gone:
                typed[key] = getattr(found[part], name)
        return typed

    def part(
        self, part: Part, changes: dict[str, Any], train: Sequence[Pick], held_out: Sequence[Pick]
    ) -> PartPlan:
        """Raises Invalid for settings that cannot be; picks that do not suffice are a `problem`."""
        fitted_to = self.rows(part, train) or FEW
        settings = self.settings(part, changes, fitted_to)
        champion, problem = None, None
        warnings: list[dict[str, Any]] = []
        try:
            check_trackers(settings.report_to)
            shared_step(part, settings, self.processes)
        except Invalid as error:
            problem = str(error)
        if settings.goes_on:
            try:
                settings, champion, warnings = self._go_on(settings, changes)
            except (Invalid, BadAdapter) as error:
                problem = problem or str(error)
        known: frozenset[str] = frozenset()
        if champion:
            known = trained_prompts(self.store, champion.policy_id)
            known &= {pick.prompt_id for pick in held_out}
            left = [pick for pick in held_out if pick.prompt_id not in known]
            warnings = warnings + known_remark(len(held_out) - len(left), len(held_out))
            held_out = left
        rows = plan(part, train, held_out, settings)
        if found := too_little(rows):
            problem = problem or found.message
        warnings = warnings + [asdict(one) for one in rows.warnings]
        usual = self.preset(part, fitted_to)
        return PartPlan(part, settings, usual, rows, champion, sorted(known), warnings, problem)

    def rows(self, part: Part, train: Sequence[Pick]) -> int:
        """That the picks give by the rules of the preset, which fits that many: so a form's
        defaults stay where they are while somebody changes a rule."""
        known = self._counted.get(part)
        if known is None or known[0] is not train:
            rules = self.preset(part, FEW)
            known = train, sum(len(rows_of(pick, rules)) for pick in train)
            self._counted[part] = known
        return known[1]

    def command(self, kind: RunKind, parts: Sequence[PartPlan]) -> str:
        """What starts this run from a shell; only what differs from the preset is named."""
        words = ["prefloop", "train", kind]
        for one in parts:
            dotted = f"{one.part}." if kind == "round" else ""
            for key, value in one.changed.items():
                words += ["--set", f"{dotted}{key}={_as_typed(value)}"]
        return shlex.join(words)

    def _go_on(
        self, settings: AnySettings, changes: dict[str, Any]
    ) -> tuple[AnySettings, Champion | None, list[dict[str, Any]]]:
        """Settings that fit the champion. Raises Invalid or BadAdapter."""
        champion = self.champion()
        if champion is None:
            message = "The base itself serves, so the run starts from the base."
            return settings, None, [{"key": "champion_is_base", "values": {}, "message": message}]
        if "rank" in changes and settings.rank != champion.rank:
            raise Invalid(
                f"{champion.policy_id} has rank {champion.rank}, and a run that goes on from it "
                f"keeps that. Leave rank out, or start from the base."
            )
        return replace(settings, rank=champion.rank), champion, []

    def champion(self) -> Champion | None:
        """None when the base serves. Raises BadAdapter when its files are not what they were, or
        belong to another base."""
        serving = policies.champion(self.store)
        if serving is None or serving.policy_id == BASE_POLICY:
            return None
        folder = (self.store.data_dir / serving.adapter_path).resolve()
        verify(folder, serving.adapter_sha256)
        check(folder, read_shapes(folder.parent), self.policy.max_rank)
        rank = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))["r"]
        return Champion(serving.policy_id, rank)


def picks_of(rows: Iterable[dict[str, Any]]) -> list[Pick]:
    return [Pick.of(row) for row in rows]


def known_remark(known: int, held_out: int) -> list[dict[str, Any]]:
    if not known:
        return []
    message = (
        f"{known} of {held_out} held-out picks are left out: the champion, or one before it in its "
        "line, was trained on them."
    )
    values = {"known": known, "held_out": held_out}
    return [{"key": "known_held_out", "values": values, "message": message}]


def precision_of(settings: AnySettings, policy: PolicyConfig) -> str:
    """nf4 or bf16: that in which the base is loaded for training."""
    return PRECISION[policy.quantization] if settings.precision == "served" else settings.precision


def parts_of(kind: RunKind) -> tuple[Part, ...]:
    return ("rm", "dpo") if kind == "round" else (kind,)


def settings_for(part: Part, kind: RunKind, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings meant for one part: `dpo.beta=0.2`, or plain `beta=0.2` outside a round."""
    return {
        key.removeprefix(f"{part}."): value
        for key, value in settings.items()
        if _belongs(key, part, kind)
    }


def _belongs(key: str, part: Part, kind: RunKind) -> bool:
    return key.startswith(f"{part}.") or (kind != "round" and "." not in key)


def _as_typed(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
