"""Carry out a run from its first step to its last, whatever its kind; also one that goes on.

A round: freeze the picks -> reward model -> DPO policy -> publish -> load into vLLM -> probe ->
gate -> champion or rejected, each with its reason. A part that is done is not done again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from store import policies, runs
from store.database import Store
from store.rows import PrefloopError, Run, RunStatus
from train import gate
from train.planning import settings_for
from train.policy.adapters import publish, read_shapes
from train.policy.client import GenerationFailed
from train.policy.registry import PolicyRegistry
from train.policy.server import ServerDown
from train.precision import measure
from train.runs import RunCancelled, RunPaused, Trainer
from train.script import disk_is_full
from train.settings import Part
from train.trial import Trial

log = logging.getLogger(__name__)
SETTLE_S = 5.0  # until the supervisor has noticed that vLLM is gone
DISK_FULL = "The disk is full. Make room, then resume the run, or start it again."
CANDIDATE = "{} is a candidate; promote it to let it serve."
CHANGED = "The champion changed while it was judged against {}."
Judged = tuple[gate.Verdict, str]  # and the champion that it was held against
Configs = dict[Part, dict[str, Any]]


class Rounds:
    """Runs at most one run at a time, in the thread of the loop."""

    def __init__(
        self,
        store: Store,
        registry: PolicyRegistry,
        trainer: Trainer,
        trial: Trial,
        on_champion: Callable[[], None],
    ) -> None:
        self.store, self.registry, self.trainer, self.trial = store, registry, trainer, trial
        self.on_champion = on_champion

    def carry_out(self, run: Run) -> None:
        """Run it to its end, whatever that is. It is marked as running already."""
        try:
            self._carry_out(run)
        except Exception as error:  # noqa: BLE001 - a bug must not stop the loop, and is logged
            self.end(run, *how_it_ends(error))

    def end(self, run: Run, status: RunStatus, reason: str) -> None:
        """Also of a part whose own end could not be stored, as on a full disk."""
        log.warning("%s %s: %s", run.run_id, status, reason)
        for part in runs.children(self.store, run.run_id):
            if part.status == "running":
                runs.mark(self.store, part.run_id, status, reason=reason)
        runs.mark(self.store, run.run_id, status, reason=reason)

    def _carry_out(self, run: Run) -> None:
        self.trainer.check(run)
        configs = self.trainer.prepare(run)
        if run.kind == "round":
            self._round(run, configs)
            return
        metrics = self.trainer.train(run, configs[run.kind])
        self.trainer.check(run, pausable=False)  # a cancel may have come after the last step
        if run.kind == "rm":
            runs.mark(self.store, run.run_id, "done", metrics=metrics)
            return
        self._await_return(run)
        policy_id = self._publish(run, run.run_id)
        with self._rejected_when_cut_short(policy_id):
            metrics |= self._gap(policy_id, run.run_id)
            self.trainer.check(run, pausable=False)
        self.registry.set_aside(policy_id)
        reason = CANDIDATE.format(policy_id)
        runs.mark(
            self.store, run.run_id, "done", policy_id=policy_id, metrics=metrics, reason=reason
        )

    def _round(self, run: Run, configs: Configs) -> None:
        results, trained_in = {}, run.run_id
        with self.trainer.device_free(run=run):  # once for both parts
            for part, config in configs.items():
                self.trainer.check(run)
                child = self._child(run, part)
                results[part] = self._train_child(child, config)
                trained_in = child.run_id
        self.trainer.check(run, pausable=False)  # what is left takes a minute
        policy_id = self._publish(run, trained_in)
        with self._rejected_when_cut_short(policy_id):
            self._await_server(run)
            gap = self._gap(policy_id, trained_in)
            verdict, against = self._judge(run, policy_id, results["dpo"])
            self._await_server(run)  # promoting needs it, and it may have gone in the last second
            self.trainer.check(run, pausable=False)
        serves = self.registry.settle(policy_id, verdict.promoted, verdict.reason, against)
        if serves:
            self.on_champion()
        told: str | None = "promoted" if verdict.promoted else "rejected"
        reason = verdict.reason
        if verdict.promoted and not serves:
            reason, told = f"{CHANGED.format(against)} {CANDIDATE.format(policy_id)}", None
        metrics = results["dpo"] | gap
        metrics |= {"reward_model": results["rm"], "gate": verdict.as_dict()}
        runs.mark(
            self.store,
            run.run_id,
            "done",
            reason=reason,
            policy_id=policy_id,
            metrics=metrics,
            verdict=told,
        )
        log.info("%s: %s %s", run.run_id, policy_id, reason)

    def _child(self, run: Run, part: Part) -> Run:
        """The part of a round: the one that was begun, or a new one."""
        for child in runs.children(self.store, run.run_id):
            if child.kind == part:
                return child
        settings = settings_for(part, "round", run.config["settings"])
        child_id = runs.add(self.store, part, {"settings": settings}, None, parent=run.run_id)
        return runs.get(self.store, child_id)

    def _train_child(self, child: Run, config: dict[str, Any]) -> dict[str, Any]:
        if child.status == "done":
            return child.metrics
        runs.mark(self.store, child.run_id, "running")
        try:
            metrics = self.trainer.train(child, config)
        except Exception as error:
            self.end(child, *how_it_ends(error))
            raise
        runs.mark(self.store, child.run_id, "done", metrics=metrics)
        return metrics

    def _publish(self, run: Run, trained_in: str) -> str:
        """The new adapter as a candidate: checked, copied whole, recorded. Raises BadAdapter."""
        for known in policies.everyone(self.store):
            if known.run_id == run.run_id and known.status == "candidate":
                return known.policy_id  # the app ended while it was judged
        policy_id = policies.next_id(self.store)
        folder = self.store.data_dir / "policies"
        trained = self.trainer.folder(trained_in)
        rank = self.registry.server.config.max_rank
        path, sha256 = publish(trained.adapter, folder, policy_id, read_shapes(folder), rank)
        policies.add(
            self.store,
            policy_id,
            parent=trained.config()["parent_policy"],  # another one may be champion by now
            run_id=run.run_id,
            base_model=self.registry.server.base.name,
            adapter_path=f"policies/{path.name}",
            adapter_sha256=sha256,
        )
        return policy_id

    @contextmanager
    def _rejected_when_cut_short(self, policy_id: str) -> Iterator[None]:
        """Cancelled, or vLLM failed twice: the new policy must not stay half in."""
        try:
            yield
        except PrefloopError as error:
            self.registry.settle(policy_id, False, f"Not judged: {error}")
            raise

    def _gap(self, policy_id: str, trained_in: str) -> dict[str, Any]:
        """How far what vLLM serves is from what was trained, or why nobody knows."""
        server = self.registry.server
        missing = "No held-out answer was scored."
        try:
            if server.state != "up":
                raise ServerDown("The policy server is not up.")
            self.registry.load(policy_id)
            folder, largest = self.trainer.folder(trained_in), self.trainer.config.largest_gap
            if found := measure(server.client, policy_id, folder, largest):
                return {"precision_gap": found.as_dict()}
        except PrefloopError as error:
            log.warning("the gap of %s was not measured: %s", policy_id, error)
            missing = str(error)
        return {"precision_gap": {"missing": missing}}

    def _judge(self, run: Run, policy_id: str, metrics: dict[str, Any]) -> Judged:
        """A second try when vLLM fails during the first: it restarts in half a minute."""

        def still_wanted() -> None:
            self.trainer.check(run, pausable=False)

        self._await_server(run)
        try:
            return self.trial.judge(policy_id, metrics, still_wanted)
        except GenerationFailed as error:
            log.warning("the trial of %s is repeated: %s", policy_id, error)
            self.trainer.stopping.wait(SETTLE_S)  # the supervisor needs a moment to see it
            self._await_server(run)
            return self.trial.judge(policy_id, metrics, still_wanted)

    def _await_return(self, run: Run) -> None:
        """vLLM may have stood aside for this run. Without it the gap is not known, and no more."""
        server = self.registry.server
        self._wait_while(run, lambda: server.started and server.state in ("resting", "starting"))

    def _await_server(self, run: Run) -> None:
        if not self._wait_while(run, lambda: self.registry.server.state != "up"):
            raise ServerDown("The policy server is not up, so the new policy was not judged.")

    def _wait_while(self, run: Run, holds: Callable[[], bool]) -> bool:
        """False when vLLM takes longer than it may. Raises what `Trainer.check` raises."""
        deadline = time.monotonic() + self.registry.server.config.start_timeout_s
        while holds():
            self.trainer.check(run, pausable=False)
            if time.monotonic() > deadline:
                return False
            self.trainer.stopping.wait(0.5)
        return True


def how_it_ends(error: Exception) -> tuple[RunStatus, str]:
    """Status and reason of a run that this ended."""
    match error:
        case RunCancelled():
            return "cancelled", str(error)
        case RunPaused():
            return "paused", str(error)
        case PrefloopError():
            return "failed", str(error)
    log.error("a run failed", exc_info=error)
    if disk_is_full(error):
        return "failed", DISK_FULL
    name = type(error).__name__
    return "failed", f"Unexpected {name}: {error}. The app's log has the details."
