"""How a training script is started: in one process, by accelerate in several, or on a Ray cluster.

What it needs to start is made here: its folder on the storage, its command and its environment.
train/runs.py starts it as a child process.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from store.rows import Invalid
from train.process import import_path
from train.settings import Part

MODULES: dict[Part, str] = {
    "sft": "train.sft",
    "rm": "train.reward",
    "dpo": "train.dpo",
    "kto": "train.kto",
}
Launcher = Literal["local", "accelerate", "ray"]
Sharing = Literal["separate", "share", "sleep", "stop"]
ALLOCATOR = "PYTORCH_CUDA_ALLOC_CONF"
OWN_DEFAULTS = Path(__file__).with_name("accelerate.json")
SLACK = 0.05  # of the card: two CUDA contexts, and what fragments


@dataclass(frozen=True)
class LaunchConfig:
    """The keys of [train] about processes and devices."""

    launcher: Launcher = "local"
    processes: int = 1  # of one run; a step's rows are divided between them
    threads: int = 1  # of a training process on CPU; a second one spins on shared cores
    nice: int = 10  # annotating comes first
    gpu_sharing: Sharing = "share"  # what vLLM does while a run trains: see train/sharing.py
    device: str = ""  # numbers of the GPUs to train on, as in "1" or "2,3"; "cpu"; "" is all
    accelerate_config: str = ""  # a file of `accelerate config`, for FSDP or several machines
    ray_address: str = ""  # of a cluster; "" starts Ray on this machine for the time of the run
    storage: str = ""  # a folder that all machines of the cluster see, for the folders of the runs

    def __post_init__(self) -> None:
        for key, least in (("processes", 1), ("threads", 1), ("nice", 0)):
            if getattr(self, key) < least:
                raise Invalid(f"train.{key} must be at least {least}, not {getattr(self, key)}.")
        if self.launcher == "local" and self.processes > 1:
            raise Invalid(
                f"train.processes is {self.processes}, which the local launcher cannot start. "
                "Set train.launcher to accelerate or ray."
            )
        numbers = self.device.split(",") if self.device else []
        if self.device != "cpu" and not all(number.strip().isdigit() for number in numbers):
            raise Invalid(
                f'train.device lists numbers of GPUs, as in "1" or "2,3", or is cpu; '
                f"not {self.device!r}."
            )
        if self.gpu_sharing == "separate" and not self.device:
            raise Invalid(
                "train.gpu_sharing is separate, so set train.device to the GPUs to train on: vLLM "
                "serves on the first that it sees, which CUDA_VISIBLE_DEVICES can name."
            )
        if self.storage and not Path(self.storage).is_absolute():
            raise Invalid(f"train.storage must be an absolute path, not {self.storage!r}.")


def command(part: Part, folder: Path, config: LaunchConfig) -> list[str]:
    """The command that trains `part` in this run folder.

    Raises Invalid when what it starts is not installed.
    """
    # Other machines have no data directory; what they get is the place on shared storage.
    script = [MODULES[part], str(folder.resolve())]
    return ["nice", "-n", str(config.nice), sys.executable, "-m", *_launched(script, config)]


def environment(config: LaunchConfig, gpu_memory: float | None = None) -> dict[str, str]:
    """`gpu_memory`: vLLM's share of the card when both are on it, which training must leave."""
    env = import_path() | {
        "OMP_NUM_THREADS": str(config.threads),
        "OMP_WAIT_POLICY": "PASSIVE",  # waiting threads leave the core to annotators
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    if config.device:
        env["CUDA_VISIBLE_DEVICES"] = "" if config.device == "cpu" else config.device
    if gpu_memory is not None and config.gpu_sharing == "share":
        # Without a bound, training takes what vLLM needs to start again after a fault.
        left = max(SLACK, 1 - gpu_memory - SLACK)
        own = os.environ.get(ALLOCATOR)
        bound = f"per_process_memory_fraction:{left:.2f}"
        env[ALLOCATOR] = f"{own},{bound}" if own else bound
    return env


def place(folder: Path, config: LaunchConfig) -> None:
    """Make a run's folder, on shared storage when there is one; the data directory has a link.

    Raises Invalid when the storage cannot be used.
    """
    if folder.exists():
        return
    if not config.storage:
        folder.mkdir(parents=True)
        return
    target = Path(config.storage) / folder.name
    try:
        target.mkdir(parents=True)
    except FileExistsError:
        raise Invalid(
            f"train.storage already has a run {folder.name}, of another data directory. "
            "Give each data directory a storage of its own."
        ) from None
    except OSError as error:
        raise Invalid(f"train.storage cannot be used: {target}: {error.strerror}.") from None
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.symlink_to(target, target_is_directory=True)


def _launched(script: list[str], config: LaunchConfig) -> list[str]:
    match config.launcher:
        case "local":
            return script
        case "accelerate":
            return ["accelerate.commands.launch", *_accelerate(config), "-m", *script]
        case "ray":
            need_ray()
            return ["train.on_ray", *_ray(config), *script]


def _accelerate(config: LaunchConfig) -> list[str]:
    # On CPU it is --multi_gpu as well: it is what starts several processes, and the script chooses
    # the device; --cpu would start one.
    processes = ["--num_processes", str(config.processes)]
    if config.accelerate_config:  # a further flag would win over the file
        return ["--config_file", config.accelerate_config, *processes]
    # Without a file, accelerate takes the user's default one: its gpu_ids win over train.device.
    return [
        *("--config_file", str(OWN_DEFAULTS)),
        *(["--multi_gpu"] if config.processes > 1 else []),
        *processes,
        *("--num_machines", "1"),
        *("--dynamo_backend", "no"),
        *("--mixed_precision", "no"),
        *("--main_process_port", "0"),  # any free one: two apps may train on one machine
    ]


def _ray(config: LaunchConfig) -> list[str]:
    flags = ["--processes", str(config.processes), "--threads", str(config.threads)]
    if config.ray_address:
        flags += ["--address", config.ray_address]
    if config.device == "cpu":
        flags += ["--cpu"]
    return flags


def need_ray() -> None:
    if find_spec("ray") is None:
        raise Invalid(
            "train.launcher is ray, but Ray is not installed. Run `make ray` (the extra `ray` of "
            "the package), or set train.launcher to accelerate or local."
        )
