"""The policy server: vLLM as a supervised child, or an external one by URL.

One thread owns the child. It starts it, waits for health, loads every registered adapter again,
probes one token with log-probabilities, and only then calls the server up. It starts over, with
growing pauses, whenever the process ends or stops answering. Asked to stand down, it frees the
device for a run and keeps it free until it is told to stand up.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal

from store.rows import PrefloopError
from train.base_model import BaseModel
from train.policy.client import AdapterRefused, GenerationFailed, PolicyClient
from train.policy.sleep import fall_asleep, get_up, sleeps, wake
from train.policy.vllm import PolicyConfig, vllm_command
from train.process import ChildProcess, how_it_ended, tail

log = logging.getLogger(__name__)
State = Literal["starting", "up", "down", "resting"]
Rest = Literal["sleep", "stop"]  # weights in the memory of the host, or no process at all


class ServerDown(PrefloopError):
    """The policy server did not come up; the message ends with its log."""


HEALTH_EVERY_S = 1.0
MISSED_CHECKS = 3  # in a row; one alone may be a machine that is busy for some seconds
PROBE_EVERY_S = 30.0
STABLE_S = 60.0  # a server that ran this long restarts without a pause
LONGEST_PAUSE_S = 60.0
UNDER_WAY_S = 30.0  # for answers that are being written when the server stands down
START_S = 30.0  # until a start was measured
RESTS = "The policy server makes room for a run."


class PolicyServer:
    """`start()`, `wait_up()`; `load()` holds across restarts; `stop()` leaves nothing behind."""

    def __init__(
        self, config: PolicyConfig, base: BaseModel, log_path: Path, can_sleep: bool = False
    ) -> None:
        """`can_sleep`: vLLM gives its memory back for runs; ours is started so that it can."""
        self.config, self.base, self.log_path = config, base, log_path
        self._can_sleep = can_sleep
        self._registered: dict[str, Path] = {}
        self._registry = threading.Lock()
        self._changed = threading.Condition()
        self._state: State = "starting"
        self._note = "The policy server is starting."
        self._failure: str | None = None  # of the very first start: configuration, not bad luck
        self._stopping = threading.Event()
        self._rest: Rest | None = None  # what was asked for
        self._left_s: Callable[[], float | None] = lambda: None  # of the run that it rests for
        self._took_s = START_S  # the last start
        self._thread = threading.Thread(target=self._supervise, name="policy-server", daemon=True)
        # mode 0700: the socket has no password
        self._folder = Path(tempfile.mkdtemp(prefix="prefloop-"))
        self._socket = self._folder / "policy.sock"  # short: a socket path may have 107 bytes
        if config.url:
            self.client = PolicyClient.over_url(config.url, config.api_key or None)
        else:
            self.client = PolicyClient.over_socket(self._socket)

    @property
    def state(self) -> State:
        return self._state

    @property
    def note(self) -> str:
        """One sentence about a state other than up."""
        return self._note

    @property
    def started(self) -> bool:
        """False in a command that needs no vLLM."""
        return self._thread.ident is not None

    def start(self) -> None:
        self._thread.start()

    def wait_up(self, timeout_s: float) -> None:
        """Raises ServerDown when the first start failed or the time is over; it begins anew when
        the server comes back from a rest."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not (self._state == "up" or self._failure or time.monotonic() > deadline):
                self._changed.wait(min(HEALTH_EVERY_S, timeout_s))
                if self._rest:
                    deadline = time.monotonic() + timeout_s
        if self._state != "up":
            raise ServerDown(
                self._failure or f"The policy server is not up after {timeout_s:.0f} s."
            )

    def stand_down(self, how: Rest, left_s: Callable[[], float | None] = lambda: None) -> None:
        """Free the device and return once it is free. `left_s`: seconds that the run still takes.

        Raises ServerDown when it cannot be freed.
        """
        with self._changed:
            self._left_s, self._rest = left_s, how
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: self._state == "resting" or not self._rest or self._stopping.is_set(),
                3 * UNDER_WAY_S,
            )
            if self._state == "resting":
                return
            self._rest = None
            self._changed.notify_all()
        raise ServerDown("The policy server did not make room for the run. Start it again.")

    def stand_up(self) -> None:
        """The device is free again. Returns at once: `state` is up when it serves."""
        with self._changed:
            self._rest = None
            self._changed.notify_all()

    @property
    def rests(self) -> bool:
        """It was asked to, and not asked to come back yet."""
        return self._rest is not None

    def expect(self, left_s: Callable[[], float | None]) -> None:
        """The next run of the same rest."""
        self._left_s = left_s

    def back_in_s(self) -> float | None:
        """Seconds until it serves again; None when it does not rest, or nobody can say."""
        left = self._left_s() if self._state == "resting" else None
        return None if left is None else left + self._took_s

    def load(self, policy_id: str, path: Path) -> None:
        """Make a published adapter requestable, now and after restarts.

        Raises AdapterRefused, or GenerationFailed when vLLM does not answer.
        """
        with self._registry:
            if self._registered.get(policy_id) == path:
                return
            if self._state == "up":
                self.client.load(policy_id, path)
            self._registered[policy_id] = path

    def unload(self, policy_id: str) -> None:
        """Requests that run finish; the files must stay where they are."""
        with self._registry:
            if self._registered.pop(policy_id, None) and self._state == "up":
                try:
                    self.client.unload(policy_id)
                except AdapterRefused as error:  # nobody asks for it any more; a restart drops it
                    log.warning("%s", error)

    def stop(self) -> None:
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        self.client.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _supervise(self) -> None:
        pause = 1.0
        while not self._stopping.is_set():
            if self._rest and not self._must_be_asked():
                self._hold_rest()
                continue
            began = time.monotonic()
            reason = self._one_life()
            if self._stopping.is_set():
                continue
            if self._rest:
                if reason:
                    log.warning("policy server, asked to make room: %s", reason)
                    self._wait(HEALTH_EVERY_S)
                continue
            self.client.traffic.end_rest()
            if not reason:  # it was to rest, and is not any more
                continue
            stable = time.monotonic() - began > STABLE_S
            pause = 1.0 if stable else min(LONGEST_PAUSE_S, pause * 2)
            self._set("down", f"{reason} It starts again in {pause:.0f} s.")
            log.warning("policy server: %s", reason)
            self._wait(pause)
        self._leave_awake()

    def _one_life(self) -> str:
        """From its start to its end. Returns why it ended: "" when it was asked to."""
        child = None
        self.client.traffic.end_rest()  # of a rest that was refused
        try:
            child = None if self.config.url else self._spawn()
            return self._run(child)
        except Exception as error:  # the edge of the thread: a bug must be seen, and we go on
            log.exception("the policy server's supervisor failed")
            return f"The policy server cannot be started ({type(error).__name__}: {error})."
        finally:
            if self._rest:
                self.client.traffic.rest(UNDER_WAY_S)
            if child:
                child.stop()

    def _run(self, child: ChildProcess | None) -> str:
        """Bring the server up and watch it. Returns why it is not up any more."""
        began = time.monotonic()
        self._set("starting", "The policy server is starting.")
        if not self._await_health(child):
            if self._stopping.is_set() or self._rest:
                return ""
            return self._did_not_come_up()
        try:
            self._wake_external()
            with self._registry:  # whoever loads next must find it up, or be replayed
                self._replay()
                self._set("up", "")
        except GenerationFailed as error:
            return f"The policy server failed its first probe: {error}"
        self._took_s = time.monotonic() - began
        return self._watch(child)

    def _must_be_asked(self) -> bool:
        """To sleep: an awake server at policy.url holds the device, whatever state it had."""
        external = self._rest == "sleep" and bool(self.config.url)
        return external and self.client.healthy() and not sleeps(self.client)

    def _hold_rest(self) -> None:
        self.client.traffic.rest(0)
        self._set("resting", RESTS)
        while not self._rest_is_over():
            self._wait(HEALTH_EVERY_S)
        self.client.traffic.end_rest()

    def _sleep(self, child: ChildProcess | None) -> str | None:
        """None when it is up again; else why it is not, "" when it is to be stopped instead."""
        self.client.traffic.rest(UNDER_WAY_S)
        try:
            with self._registry:
                asleep = fall_asleep(self.client, list(self._registered))
                self._set("resting", RESTS)
        except GenerationFailed as error:
            if child is None:  # not ours to stop, and its memory stays taken: there is no room
                log.warning("the external policy server cannot sleep: %s", error)
                self.stand_up()
                self.client.traffic.end_rest()
                return None
            log.warning("vLLM is stopped instead: %s", error)
            return ""
        while not self._rest_is_over():
            self._wait(HEALTH_EVERY_S)
            if child and child.poll() is not None and self._rest:
                return ""
        if self._stopping.is_set():
            return ""
        began = time.monotonic()
        try:
            with self._registry:
                wake(self.client, asleep)
                self._replay()
                self._set("up", "")
        except GenerationFailed as error:
            if child is None:  # nobody starts it again, so it must read every adapter again
                self._forget_adapters()
            return f"The policy server did not wake up: {error}"
        self.client.traffic.end_rest()
        self._took_s = time.monotonic() - began
        return None

    def _wake_external(self) -> None:
        """A server at policy.url outlives the app, which may have left it asleep.

        Raises GenerationFailed when it does not wake up.
        """
        if self.config.url and sleeps(self.client):
            log.warning("the policy server at %s sleeps; it is woken up", self.config.url)
            get_up(self.client)
            self._forget_adapters()  # a sleep may have lost them, and no answers are at hand

    def _leave_awake(self) -> None:
        """At the end of the app, which waits for it: a server that is silent is left as it is."""
        if not self.config.url or not self.client.healthy():
            return
        try:
            self._wake_external()
        except GenerationFailed as error:
            log.error("%s is left asleep; ask it to /wake_up: %s", self.config.url, error)

    def _rest_is_over(self) -> bool:
        """In one step with the state, so that nobody is told of a rest that ends."""
        with self._changed:
            if self._rest and not self._stopping.is_set():
                return False
            self._state, self._note = "starting", "The policy server comes back."
            return True

    def _forget_adapters(self) -> None:
        for name in list(self._registered):
            with suppress(AdapterRefused):  # the replay says it
                self.client.unload(name)

    def _wait(self, seconds: float) -> None:
        """So long, or until the server is asked for something."""
        with self._changed:
            before = self._rest
            self._changed.wait_for(lambda: self._stopping.is_set() or self._rest != before, seconds)

    def _did_not_come_up(self) -> str:
        if self.config.url:
            reason = f"No policy server answers at {self.config.url}."
            details = " Start it, or set policy.url."
        else:
            reason = "The policy server did not come up."
            details = f" The end of its log ({self.log_path}):\n{tail(self.log_path)}"
        if self._failure is None:
            self._set_failure(reason + details)
        return reason

    def _await_health(self, child: ChildProcess | None) -> bool:
        deadline = time.monotonic() + self.config.start_timeout_s
        while time.monotonic() < deadline and not self._stopping.wait(0.2):
            if self._rest and not self._must_be_asked():
                return False
            if child and child.poll() is not None:
                return False
            if self.client.healthy():
                return True
        return False

    def _replay(self) -> None:
        """vLLM forgets its adapters when it ends. One that it refuses now is dropped."""
        present = self.client.adapters()
        for name, path in list(self._registered.items()):
            if present.get(name) == str(path.resolve()):
                continue
            try:
                if name in present:  # an external server that holds another directory's version
                    self.client.unload(name)
                self.client.load(name, path)
            except AdapterRefused as error:
                log.error("%s; it is not served any more", error)
                del self._registered[name]
        for name in list(self._registered)[:1]:
            self.client.probe(name)

    def _watch(self, child: ChildProcess | None) -> str:
        probed, missed = time.monotonic(), 0
        while not self._stopping.is_set():
            self._wait(HEALTH_EVERY_S)
            if self._rest == "stop":
                return ""
            if self._rest == "sleep":
                if (reason := self._sleep(child)) is not None:
                    return reason
                probed = time.monotonic()
                continue
            if child and child.poll() is not None:
                return f"The policy server {how_it_ended(child.poll())}."
            missed = 0 if self.client.healthy() else missed + 1
            if missed >= MISSED_CHECKS:
                return "The policy server stopped answering."
            if time.monotonic() - probed > PROBE_EVERY_S:
                probed = time.monotonic()
                if name := next(iter(self._registered), None):
                    try:
                        self.client.probe(name)
                    except GenerationFailed as error:
                        return f"The policy server does not generate: {error}"
        return ""

    def _spawn(self) -> ChildProcess:
        self._socket.unlink(missing_ok=True)  # vLLM leaves it behind, and cannot bind to it again
        command, env = vllm_command(self.config, self.base, self._socket, self._can_sleep)
        return ChildProcess(command, self.log_path, env)

    def _set(self, state: State, note: str) -> None:
        with self._changed:
            self._state, self._note = state, note
            if state == "up":  # from now on a failure is an incident, not a wrong configuration
                self._failure = ""
            self._changed.notify_all()

    def _set_failure(self, reason: str) -> None:
        with self._changed:
            self._failure = reason
            self._changed.notify_all()
