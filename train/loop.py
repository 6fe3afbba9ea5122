"""The queue of runs: who waits, who starts when, what is asked of the one at work.

One thread carries them out one after the other, and asks for a round when a trigger is due.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from store import runs, statistics
from store.database import Store
from store.rows import RUN_KINDS, Conflict, Invalid, Run, RunKind
from train.drift import DriftMeter
from train.machine_zone import MachineZone
from train.policy.registry import PolicyRegistry
from train.rounds import Rounds
from train.runs import PAUSED, Trainer, configured, reconcile
from train.trial import Trial
from train.triggers import (
    LoopConfig,
    State,
    TriggerState,
    due,
    outlook,
    wants_measurement,
)

log = logging.getLogger(__name__)
PAUSE_S = 10.0  # after a fault outside of any run
MOST_WAITING = 20  # runs; more are a loop in somebody's script


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
        self.store, self.trainer, self.config = store, trainer, config
        self.on_champion = on_champion
        self.rounds = Rounds(store, registry, trainer, trial, on_champion)
        self.drift = DriftMeter(store, trainer)
        self._wake = threading.Event()
        self._deciding = threading.Lock()  # held from a look at a run's status to its next event
        self._started = self._checked = datetime.now(UTC)
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

    # --- what people ask for ----------------------------------------------------------------------

    def request(
        self, kind: RunKind, user_id: str | None, settings: dict[str, Any] | None = None
    ) -> str:
        """Queue a run. Raises Invalid for an unknown kind or setting, Conflict for a full queue."""
        if kind not in RUN_KINDS:
            raise Invalid(f"Unknown kind of run {kind!r}: choose {', '.join(RUN_KINDS)}.")
        typed = self.trainer.planner.check(kind, settings or {})
        return self._add(kind, {"settings": typed}, user_id)

    def repeat(self, run_id: str, user_id: str | None) -> str:
        """Queue a new run on the same data with the same settings. Returns its id.

        Raises NotFound, or Conflict when its data was never frozen.
        """
        run = runs.get(self.store, run_id)
        if not self.can_repeat(run):
            raise Conflict(
                f"{run_id} never began, so there is nothing to repeat. Start a new run.",
                "run_never_began",
                run=run_id,
            )
        config = {"settings": run.config["settings"], "repeat_of": run_id}
        return self._add(run.kind, config, user_id)

    def cancel(self, run_id: str) -> None:
        """A waiting or paused run ends at once, a running one after its current step.

        Raises NotFound, or Conflict when the run has ended.
        """
        with self._deciding:
            run = self._whole(run_id)
            if run.status in runs.FINAL:
                raise Conflict(f"{run.run_id} is over already.", "run_over", run=run.run_id)
            if run.status == "running":
                self.trainer.ask_to_end(run.run_id, "cancel")
                return
            self._end_waiting(run)

    def pause(self, run_id: str) -> None:
        """A running run keeps a checkpoint after its current step and ends its process; a waiting
        one leaves the queue. Raises NotFound, or Conflict when it does neither."""
        with self._deciding:
            run = self._whole(run_id)
            if run.status not in ("queued", "running"):
                raise Conflict(
                    f"{run.run_id} is {run.status}, so it cannot be paused.",
                    "run_not_pausable",
                    run=run.run_id,
                )
            if run.status == "running":
                self.trainer.ask_to_end(run.run_id, "pause")
            else:
                runs.mark(self.store, run.run_id, "paused", reason=PAUSED)

    def resume(self, run_id: str) -> None:
        """Let a paused, failed or cancelled run wait again; it goes on from its newest checkpoint.

        Raises NotFound, or Conflict when there is nothing to go on from.
        """
        with self._deciding:
            run = self._whole(run_id)
            if not self.can_resume(run):
                raise Conflict(
                    f"{run.run_id} is {run.status} and has nothing to go on from. "
                    "Start it again, or repeat it.",
                    "run_not_resumable",
                    run=run.run_id,
                )
            self._check_room()
            self.trainer.forget(run.run_id)
            self._left_alone.discard(run.run_id)
            runs.mark(self.store, run.run_id, "queued")
        self._wake.set()

    def can_resume(self, run: Run) -> bool:
        """A pause always; a fault once its data was frozen; a cancel once there is a checkpoint."""
        if run.parent_run_id is not None:
            return False
        if run.status == "cancelled":
            parts = runs.children(self.store, run.run_id) if run.kind == "round" else [run]
            folders = [self.trainer.folder(one.run_id) for one in parts]
            return any(folder.newest_checkpoint() for folder in folders)
        return run.status == "paused" or (
            run.status == "failed" and configured(self.trainer.folder(run.run_id))
        )

    def can_repeat(self, run: Run) -> bool:
        return run.status in runs.FINAL and configured(self.trainer.folder(run.run_id))

    def waiting(self) -> list[Run]:
        """Queued runs in the order in which they will start."""
        return [
            run
            for run in runs.open_now(self.store)
            if run.status == "queued" and run.run_id not in self._left_alone
        ]

    def new_picks(self) -> int:
        """Since the last round began, of those that the next one would learn from."""
        return statistics.picks_since_round(self.store, self.trainer.config.sources)

    def outlook(self) -> list[TriggerState]:
        return outlook(datetime.now(UTC), self._state(), self.config)

    def _add(self, kind: RunKind, config: dict[str, Any], user_id: str | None) -> str:
        with self._deciding:
            self._check_room()
            run_id = runs.add(self.store, kind, config, user_id)
        self._wake.set()
        return run_id

    def _check_room(self) -> None:
        if len(self.waiting()) >= MOST_WAITING:
            raise Conflict(
                f"{MOST_WAITING} runs are waiting already. Cancel one, or wait.",
                "queue_full",
                n=MOST_WAITING,
            )

    def _whole(self, run_id: str) -> Run:
        """The run, or the round that it is a part of: a round is steered as a whole."""
        run = runs.get(self.store, run_id)
        return runs.get(self.store, run.parent_run_id) if run.parent_run_id else run

    def _end_waiting(self, run: Run) -> None:
        """Of what was trained before a pause the adapter is kept."""
        reason = "Cancelled before it started."
        if run.status == "paused":
            reason = "Cancelled while it was paused."
            for one in (run, *runs.children(self.store, run.run_id)):
                if one.status == "paused":
                    self.trainer.folder(one.run_id).keep_newest_adapter()
        self._mark_all(run, "cancelled", reason)

    def _mark_all(self, run: Run, status: Any, reason: str) -> None:
        for child in runs.children(self.store, run.run_id):
            if child.status == "paused":
                runs.mark(self.store, child.run_id, status, reason=reason)
        runs.mark(self.store, run.run_id, status, reason=reason)

    # --- the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self.trainer.stopping.is_set():
            try:
                busy = self._step()
            except Exception:  # the edge of the thread: a full disk, or a bug; it must be seen
                log.exception("the training loop failed; it goes on in %.0f s", PAUSE_S)
                self.trainer.stopping.wait(PAUSE_S)
                continue
            if not busy:
                self._wake.wait(1.0)
                self._wake.clear()

    def _step(self) -> bool:
        """Carry out the oldest waiting run, or ask for a round that is due. False: neither."""
        if run := self._next():
            self.rounds.carry_out(run)
            self._forget(run.run_id)
            return True
        return self._triggered()

    def _forget(self, run_id: str) -> None:
        """A cancel that came while a pause was carried out still counts."""
        with self._deciding:
            asked = self.trainer.forget(run_id)
            run = runs.get(self.store, run_id)
            if asked == "cancel" and run.status == "paused":
                self._end_waiting(run)

    def _next(self) -> Run | None:
        """The run to carry out now, marked as running."""
        with self._deciding:
            for run in runs.open_now(self.store):
                if run.status == "running" and run.run_id not in self._left_alone:
                    # Its end could not be written: the disk was full.
                    reason = "Its end could not be stored. Resume it, or start it again."
                    self.rounds.end(run, "failed", reason)
            waiting = self.waiting()
            if not waiting:
                return None
            self.trainer.forget(waiting[0].run_id)
            runs.mark(self.store, waiting[0].run_id, "running")
            return runs.get(self.store, waiting[0].run_id)

    def _triggered(self) -> bool:
        now, state = datetime.now(UTC), self._state()
        trigger = None if state.held else due(now, state, self.config)
        self._checked = now
        if trigger:
            with self._deciding:
                if not self.waiting():  # else somebody asked for a run in the same moment
                    log.info("%d new picks: a round starts (%s)", state.picks, trigger)
                    runs.add(self.store, "round", {"settings": {}, "trigger": trigger}, None)
            return True
        if wants_measurement(state, self.config):
            self.drift.measure(state.picks)
        return False

    def _state(self) -> State:
        last = runs.last_round(self.store)
        held = [r for r in runs.open_now(self.store) if r.kind == "round" and r.status == "paused"]
        return State(
            picks=self.new_picks(),
            last_round=last.replace(tzinfo=UTC) if last else self._started,
            checked=self._checked,
            zone=MachineZone(),
            drift=self.drift.measured(),
            has_reward_model=runs.newest_reward_model(self.store) is not None,
            held=held[0].run_id if held else None,
        )
