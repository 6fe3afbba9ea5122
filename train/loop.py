"""Decide when to train, carry runs out one at a time, gate the new policy and put it in charge.

A round: freeze the picks -> reward model -> DPO policy -> publish -> load into vLLM -> probe ->
gate -> champion or rejected, each with its reason. One thread owns all of it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from store import policies, runs, statistics
from store.database import Store
from store.rows import RUN_KINDS, Conflict, Invalid, PrefloopError, Run, RunKind
from store.snapshots import Snapshot
from train import gate
from train.policy.adapters import publish, read_shapes
from train.policy.client import GenerationFailed
from train.policy.registry import PolicyRegistry
from train.policy.server import ServerDown
from train.run_folder import RunFolder
from train.runs import Part, RunCancelled, Trainer, reconcile, settings_for
from train.trial import Trial

log = logging.getLogger(__name__)
PAUSE_S = 10.0  # after a fault outside of any run
SETTLE_S = 5.0  # until the supervisor has noticed that vLLM is gone


@dataclass(frozen=True)
class LoopConfig:
    every_picks: int = 100  # new picks that start a round; 0 turns this off
    every_minutes: int = 0  # a round after this long when there is any new pick; 0 turns this off
    probes: int = 16  # prompts that the gate samples from the candidate and the champion

    def __post_init__(self) -> None:
        for key, least in (("every_picks", 0), ("every_minutes", 0), ("probes", 1)):
            if getattr(self, key) < least:
                raise Invalid(f"loop.{key} must be at least {least}, not {getattr(self, key)}.")


def is_due(picks: int, minutes_since: float, config: LoopConfig) -> bool:
    """Whether an automatic round starts now; minutes since the last round or the app's start."""
    if config.every_picks and picks >= config.every_picks:
        return True
    return bool(config.every_minutes) and picks > 0 and minutes_since >= config.every_minutes


class TrainLoop:
    def __init__(
        self,
        store: Store,
        registry: PolicyRegistry,
        trainer: Trainer,
        trial: Trial,
        config: LoopConfig,
        on_champion: Callable[[], None],
    ) -> None:
        self.store, self.registry, self.trainer, self.trial = store, registry, trainer, trial
        self.config, self.on_champion = config, on_champion
        self._wake = threading.Event()
        self._asking = threading.Lock()
        self._last_round = time.monotonic()
        self._left_alone: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="train-loop", daemon=True)

    def start(self, resume: bool = True) -> None:
        """`resume`: carry out what was still queued when the app ended; a command leaves it."""
        if not resume:
            self._left_alone = {run.run_id for run in runs.unfinished(self.store)}
        for run_id in reconcile(self.store):
            log.warning("%s was running when the app ended; it is marked failed", run_id)
        self._thread.start()

    def stop(self) -> None:
        self.trainer.stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def request(
        self, kind: RunKind, user_id: str | None, settings: dict[str, Any] | None = None
    ) -> str:
        """Queue a run.

        Raises Invalid for an unknown kind or setting, Conflict when one of the kind is unfinished.
        """
        if kind not in RUN_KINDS:
            raise Invalid(f"Unknown kind of run {kind!r}: choose {', '.join(RUN_KINDS)}.")
        self.trainer.resolve(kind, settings or {})
        with self._asking:
            if any(run.kind == kind for run in self._waiting()):
                raise Conflict(
                    f"A {kind} run is waiting or running already. Wait for it, or cancel it.",
                    "run_waiting",
                )
            run_id = runs.add(self.store, kind, {"settings": settings or {}}, user_id)
        self._wake.set()
        return run_id

    def cancel(self, run_id: str) -> None:
        """A waiting run is cancelled at once, a running one after its current step.

        Raises NotFound, or Conflict when the run has ended.
        """
        run = runs.get(self.store, run_id)
        if run.status in runs.FINAL:
            raise Conflict(f"{run_id} is over already.", "run_over", run=run_id)
        self.trainer.cancel(run_id)
        if run.status == "queued":
            runs.mark(self.store, run_id, "cancelled", reason="Cancelled before it started.")

    def _waiting(self) -> list[Run]:
        """Unfinished runs that people asked for; the parts of a round belong to the round."""
        return [
            run
            for run in runs.unfinished(self.store)
            if run.parent_run_id is None and run.run_id not in self._left_alone
        ]

    def _run(self) -> None:
        while not self.trainer.stopping.is_set():
            try:
                busy = self._step()
            except Conflict:
                busy = True  # somebody asked for a round in the same moment
            except Exception:  # the edge of the thread: a full disk, or a bug; it must be seen
                log.exception("the training loop failed; it goes on in %.0f s", PAUSE_S)
                self.trainer.stopping.wait(PAUSE_S)
                continue
            if not busy:
                self._wake.wait(1.0)
                self._wake.clear()

    def _step(self) -> bool:
        """Carry out the oldest waiting run, or ask for a round that is due. False: neither."""
        if waiting := self._waiting():
            if waiting[0].status == "running":  # its end could not be written: the disk was full
                self._end(waiting[0], "failed", "Its end could not be stored. Start it again.")
            else:
                self.carry_out(waiting[0])
            return True
        new = statistics.picks(self.store).picks_since_round
        if not is_due(new, (time.monotonic() - self._last_round) / 60, self.config):
            return False
        log.info("%d new picks: a round starts", new)
        self.request("round", None)
        return True

    def carry_out(self, run: Run) -> None:
        """Run it to its end, whatever that is; the loop goes on."""
        runs.mark(self.store, run.run_id, "running")
        steps = {"rm": self._reward_run, "dpo": self._dpo_run, "round": self._round}
        try:
            steps[run.kind](run)
        except RunCancelled as reason:
            self._end(run, "cancelled", str(reason))
        except PrefloopError as reason:
            self._end(run, "failed", str(reason))
        except Exception as error:  # a bug must not stop the loop, and must be seen
            log.exception("%s failed", run.run_id)
            self._end(
                run,
                "failed",
                f"Unexpected {type(error).__name__}: {error}. The app's log has the details.",
            )
        finally:
            if run.kind == "round":
                self._last_round = time.monotonic()

    def _end(self, run: Run, status: Any, reason: str) -> None:
        log.warning("%s %s: %s", run.run_id, status, reason)
        runs.mark(self.store, run.run_id, status, reason=reason)

    def _reward_run(self, run: Run) -> None:
        self._train(run, "rm", self.trainer.freeze(run.run_id))

    def _dpo_run(self, run: Run) -> None:
        metrics = self._train(run, "dpo", self.trainer.freeze(run.run_id), finish=False)
        policy_id = self._publish(run, run.run_id)
        runs.mark(
            self.store,
            run.run_id,
            "done",
            policy_id=policy_id,
            metrics=metrics,
            reason=f"{policy_id} is a candidate; promote it to let it serve.",
        )

    def _round(self, run: Run) -> None:
        snapshot = self.trainer.freeze(run.run_id)
        results, dpo_run = {}, run.run_id
        for part in ("rm", "dpo"):
            child = self._child(run, part)
            self.trainer.share_data(run.run_id, child.run_id)
            results[part] = self._train_child(child, part, snapshot)
            dpo_run = child.run_id
            self.trainer.check(run)
        policy_id = self._publish(run, dpo_run)
        try:
            verdict = self._judge(run, policy_id, results["dpo"])
            self._await_server(run)  # promoting needs it, and it may have gone in the last second
            self.trainer.check(run)
        except PrefloopError as error:  # cancelled, or vLLM failed twice: it must not stay half in
            self.registry.settle(policy_id, False, f"Not judged: {error}")
            raise
        if self.registry.settle(policy_id, verdict.promoted, verdict.reason):
            self.on_champion()
        metrics = results["dpo"] | {"reward_model": results["rm"], "gate": verdict.as_dict()}
        runs.mark(
            self.store,
            run.run_id,
            "done",
            reason=verdict.reason,
            policy_id=policy_id,
            metrics=metrics,
            verdict="promoted" if verdict.promoted else "rejected",
        )
        log.info("%s: %s %s", run.run_id, policy_id, verdict.reason)

    def _child(self, run: Run, part: Part) -> Run:
        settings = settings_for(part, "round", run.config["settings"])
        child = runs.add(self.store, part, {"settings": settings}, None, parent=run.run_id)
        runs.mark(self.store, child, "running")
        return runs.get(self.store, child)

    def _train_child(self, child: Run, part: Part, snapshot: Snapshot) -> dict[str, Any]:
        try:
            return self._train(child, part, snapshot)
        except RunCancelled as reason:
            self._end(child, "cancelled", str(reason))
            raise
        except Exception as reason:
            self._end(child, "failed", str(reason))
            raise

    def _train(
        self, run: Run, part: Part, snapshot: Snapshot, finish: bool = True
    ) -> dict[str, Any]:
        champion = policies.champion(self.store)
        settings = settings_for(part, run.kind, run.config["settings"])
        metrics = self.trainer.train(
            run, part, snapshot, settings, champion.policy_id if champion else None
        )
        if finish:
            runs.mark(self.store, run.run_id, "done", metrics=metrics)
        return metrics

    def _publish(self, run: Run, trained_in: str) -> str:
        """The new adapter as a candidate: checked, copied whole, recorded. Raises BadAdapter."""
        policy_id = policies.next_id(self.store)
        folder = self.store.data_dir / "policies"
        adapter = RunFolder(self.store.data_dir / "runs" / trained_in).adapter
        rank = self.registry.server.config.max_rank
        path, sha256 = publish(adapter, folder, policy_id, read_shapes(folder), rank)
        champion = policies.champion(self.store)
        policies.add(
            self.store,
            policy_id,
            parent=champion.policy_id if champion else None,
            run_id=run.run_id,
            base_model=self.registry.server.base.name,
            adapter_path=f"policies/{path.name}",
            adapter_sha256=sha256,
        )
        return policy_id

    def _judge(self, run: Run, policy_id: str, metrics: dict[str, Any]) -> gate.Verdict:
        """A second try when vLLM fails during the first: it restarts in half a minute."""
        self._await_server(run)
        try:
            return self.trial.judge(policy_id, metrics, lambda: self.trainer.check(run))
        except GenerationFailed as error:
            log.warning("the trial of %s is repeated: %s", policy_id, error)
            self.trainer.stopping.wait(SETTLE_S)  # the supervisor needs a moment to see it
            self._await_server(run)
            return self.trial.judge(policy_id, metrics, lambda: self.trainer.check(run))

    def _await_server(self, run: Run) -> None:
        server = self.registry.server
        deadline = time.monotonic() + server.config.start_timeout_s
        while server.state != "up":
            self.trainer.check(run)
            if time.monotonic() > deadline:
                raise ServerDown("The policy server is not up, so the new policy was not judged.")
            self.trainer.stopping.wait(0.5)
