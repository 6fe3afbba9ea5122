"""Carry out one training run: freeze its data, run the script as a child, read how it ended."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, Literal

from store import runs
from store.database import Store
from store.rows import PrefloopError, Run
from train.launch import command, environment, place
from train.outlook import time_left_s
from train.planning import Planner, parts_of
from train.policy.server import PolicyServer
from train.process import ChildProcess, how_it_ended
from train.run_config import RunConfigs, TrainConfig
from train.run_folder import Ending, RunFolder
from train.settings import KINDS, Part, stored
from train.sharing import gpu_memory, yielded

STOP_GRACE_S = 60.0  # a clean stop waits for the end of a step
APP_STOPPED = "The app was stopped while it ran. Resume it, or start it again."
APP_ENDED = "The app ended while it ran. Resume it, or start it again."
STOPPED = "Stopped on request."
PAUSED = "Paused on request."
OF_MEMORY = (
    ", perhaps for lack of memory. Resume it, or start again with a smaller batch and a larger "
    "accumulate"
)
End = Literal["cancel", "pause"]


class RunFailed(PrefloopError):
    """The run ended without a result; the message is the reason shown to people."""


class RunCancelled(PrefloopError):
    """Somebody asked for the end of the run."""


class RunPaused(PrefloopError):
    """Somebody asked for a pause: its checkpoint waits for a resume."""


class Trainer:
    """Owns at most one training process. `stopping` ends it."""

    def __init__(
        self,
        store: Store,
        server: PolicyServer,
        config: TrainConfig,
        stock_up: Callable[[float], bool] = lambda seconds: True,
    ) -> None:
        """`stock_up` fills the buffer of annotators within so many seconds."""
        self.store, self.server, self.config, self.stock_up = store, server, config, stock_up
        self.planner = Planner(
            store, server.base, server.config, config.sources, config.seed, config.processes
        )
        self.configs = RunConfigs(self.planner, config)
        self.stopping = threading.Event()
        self._asked: dict[str, End] = {}

    def folder(self, run_id: str) -> RunFolder:
        return self.configs.folder(run_id)

    @property
    def runs_folder(self) -> Path:
        """Where the folders of runs really are; with train.storage the data directory has links."""
        return Path(self.config.storage or self.store.data_dir / "runs")

    def ask_to_end(self, run_id: str, how: End) -> None:
        """A request to cancel is not taken back by one to pause."""
        if self._asked.get(run_id) != "cancel":
            self._asked[run_id] = how

    def forget(self, run_id: str) -> End | None:
        """What was asked of the run before it waits again."""
        return self._asked.pop(run_id, None)

    def check(self, run: Run, pausable: bool = True) -> None:
        """Between the steps of a run: raises how it must end now."""
        if self.stopping.is_set():
            raise RunFailed(APP_STOPPED)
        asked = self._wanted(run)
        if asked == "cancel":
            raise RunCancelled(STOPPED)
        if asked == "pause" and pausable:
            raise RunPaused(PAUSED)

    def prepare(self, run: Run) -> dict[Part, dict[str, Any]]:
        """The configuration of each part, frozen with its data; a run that goes on has it already.

        Raises Invalid, BadAdapter and others with the reason why it cannot start.
        """
        folder = self.folder(run.run_id)
        folder.reopen()
        if not configured(folder):
            place(folder.path, self.config)
            folder.freeze(self.configs.of(run))
        config = folder.config()
        parts: dict[Part, dict[str, Any]] = config.get("parts") or {config["kind"]: config}
        for part in parts.values():  # all of them before the first begins
            self.configs.check(part)
        return parts

    def train(self, run: Run, config: dict[str, Any]) -> dict[str, Any]:
        """Run the script to its end, from the newest checkpoint where there is one.

        Returns its metrics; raises RunFailed, RunCancelled or RunPaused.
        """
        folder = self.folder(run.run_id)
        if not configured(folder):  # a part of a round
            place(folder.path, self.config)
            self.configs.share_data(run.parent_run_id or "", run.run_id)
            folder.freeze(config | {"run_id": run.run_id})
        ended = folder.ending()
        if ended is None or ended[0] != "DONE":  # else the app ended before it had noticed
            folder.reopen()
            part: Part = config["kind"]
            settings = stored(KINDS[part], config["settings"])
            self.planner.check_space([settings], folder.path)
            with self.device_free(folder, run):
                self._run(run, part, folder)
        dropped = config["plan"].get("dropped", {})
        return outcome(folder) | {
            "rows_identical": dropped.get("identical", 0),
            "rows_cut": dropped.get("cut", 0),
            "ties_dropped": dropped.get("tie", 0),
            "picks": config["data"]["picks"],
        }

    def environment(self) -> dict[str, str]:
        """Of everything that loads a model for training or scoring."""
        shared = gpu_memory(self.config, self.server.config)
        tracked = {"TRACKIO_DIR": str((self.store.data_dir / "trackio").resolve())}
        return environment(self.config, shared) | tracked

    def device_free(
        self, folder: RunFolder | None = None, run: Run | None = None
    ) -> AbstractContextManager[None]:
        """Around what needs the device that vLLM may be on; `folder` tells how long it takes, and
        the buffer is not filled for a `run` that is to end."""

        def left_s() -> float | None:
            if folder is None or (run and more_follows(run)):
                return None
            return time_left_s(folder.progress())

        def give_up() -> bool:
            return self.stopping.is_set() or bool(run and self._wanted(run))

        return yielded(
            self.server,
            self.config,
            stock_up=self.stock_up,
            left_s=left_s,
            give_up=give_up,
        )

    def _run(self, run: Run, part: Part, folder: RunFolder) -> None:
        """Start the process and wait; afterwards the folder says how it ended."""
        if void := self._void(run):  # making room may have taken a minute
            folder.end(*void)
            return
        started = command(part, folder.path, self.config)
        process = ChildProcess(started, folder.log, self.environment())
        try:
            cut_short = self._wait(process, run, folder)
        finally:
            process.stop()
        if folder.ending() is None:
            ending, reason = cut_short or ("FAILED", lost(process.poll(), folder.log))
            if ending == "CANCELLED":
                folder.keep_newest_adapter()
            folder.end(ending, reason)

    def _wait(
        self, process: ChildProcess, run: Run, folder: RunFolder
    ) -> tuple[Ending, str] | None:
        """None when the process has ended by itself, else what to write for it."""
        cancelled_for_s, told = 0.0, None
        while process.wait(0.25) is None:
            if self.stopping.is_set():
                return "FAILED", APP_STOPPED
            asked = self._wanted(run)
            if asked and asked != told:
                with suppress(OSError):  # a full disk: asked again, and a cancel ends it anyway
                    folder.ask_to_stop(asked)
                    told = asked
            if asked == "cancel":  # a pause has time: without its checkpoint it is worth nothing
                cancelled_for_s += 0.25
            if cancelled_for_s > STOP_GRACE_S:
                return "CANCELLED", STOPPED
        return None

    def _void(self, run: Run) -> tuple[Ending, str] | None:
        """How a run ends for which no process is started any more."""
        if self.stopping.is_set():
            return "FAILED", APP_STOPPED
        match self._wanted(run):
            case "cancel":
                return "CANCELLED", STOPPED
            case "pause":
                return "PAUSED", PAUSED
        return None

    def _wanted(self, run: Run) -> End | None:
        return self._asked.get(run.run_id) or self._asked.get(run.parent_run_id or "")


def lost(code: int | None, log: Path) -> str:
    """Why a process has left no word of its end. The kernel, short of memory, sends SIGKILL."""
    how = how_it_ended(code)
    advice = OF_MEMORY if signal.SIGKILL.name in how else ""
    return f"The training process {how} before it finished{advice}; its log is {log}."


def more_follows(run: Run) -> bool:
    """A part of a round that another one comes after: nobody knows yet how long that takes."""
    return run.parent_run_id is not None and run.kind != parts_of("round")[-1]


def configured(folder: RunFolder) -> bool:
    """Whether its settings and data are frozen: from then on it can be resumed or repeated."""
    return (folder.path / "config.json").exists()


def outcome(folder: RunFolder) -> dict[str, Any]:
    """The metrics of a run that is DONE; otherwise raises how it ended, with why."""
    ended = folder.ending()
    assert ended is not None  # _run writes one where the process did not
    name, reason = ended
    if name == "DONE":
        return folder.metrics()
    if name == "PAUSED":
        raise RunPaused(reason or PAUSED)
    raise RunCancelled(reason) if name == "CANCELLED" else RunFailed(reason)


def reconcile(store: Store) -> list[str]:
    """After a restart: what was running has no process any more, so it is failed.

    A part of a round counts as running from its first event on. Waiting runs go on waiting.
    """
    lost = [run for run in runs.unfinished(store) if run.status == "running" or run.parent_run_id]
    for run in lost:
        runs.mark(store, run.run_id, "failed", reason=APP_ENDED)
        folder = RunFolder(store.data_dir / "runs" / run.run_id)
        if folder.path.exists() and folder.ending() is None:
            folder.end("FAILED", "The app ended while it ran.")
    return [run.run_id for run in lost]
