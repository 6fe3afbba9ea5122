"""Adapters as files: check one against the base, publish it once under an immutable name.

vLLM accepts an adapter of the wrong shape or with NaN weights and then serves nonsense, to other
adapters too (vllm issue #42125 and our own measurements), so nothing reaches it unchecked.
Never imports torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from store.rows import PrefloopError
from train.run_folder import ADAPTER, ADAPTER_CONFIG, ADAPTER_WEIGHTS

MANIFEST = "manifest.json"
SHAPES = "linear_shapes.json"  # in the policies folder: {module name of the base: [rows, columns]}
DTYPES: dict[str, tuple[Any, int]] = {
    "F32": (np.float32, 4),
    "F16": (np.float16, 2),
    "BF16": (np.uint16, 2),
}


class BadAdapter(PrefloopError):
    """The adapter must not be served; the message names the first problems."""


def publish(
    source: Path, policies: Path, policy_id: str, shapes: dict[str, list[int]], max_rank: int
) -> tuple[Path, str]:
    """Check `source` and copy it to `policies/policy_id` with a manifest: durable, whole or not.

    Returns the folder and the sha256 over its files. Raises BadAdapter, or OSError when the disk
    takes no more: what is there already gives its room back.
    """
    check(source, shapes, max_rank)
    target, tmp = policies / policy_id, policies / f".{policy_id}.tmp"
    if target.exists():
        raise BadAdapter(f"{policy_id} is published already; a policy's files never change.")
    try:
        sums = _copy(source, tmp, policy_id)
    except OSError:
        shutil.rmtree(tmp, ignore_errors=True)
        raise
    os.rename(tmp, target)
    _fsync(policies)
    return target, digest(sums)


def _copy(source: Path, target: Path, policy_id: str) -> dict[str, str]:
    """The served files with a manifest, on the disk to stay. Returns the sums of the files."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in ADAPTER:
        shutil.copy2(source / name, target / name)
    sums = {name: _sha256(target / name) for name in ADAPTER}
    (target / MANIFEST).write_text(json.dumps({"policy_id": policy_id, "sha256": sums}, indent=1))
    for file in target.iterdir():
        _fsync(file)
    _fsync(target)
    return sums


def check(folder: Path, shapes: dict[str, list[int]], max_rank: int) -> None:
    """Raises BadAdapter with at most three problems."""
    if problems := list(_problems(folder, shapes, max_rank)):
        raise BadAdapter("The adapter is not valid: " + "; ".join(problems[:3]) + ".")


def verify(folder: Path, expected: str) -> None:
    """The published files are still those that were published. Raises BadAdapter."""
    sums = {name: _sha256(folder / name) for name in ADAPTER if (folder / name).is_file()}
    if digest(sums) != expected:
        raise BadAdapter(
            f"The files of {folder.name} have changed since it was published. "
            "Restore them from a backup."
        )


def digest(sums: dict[str, str]) -> str:
    return hashlib.sha256("".join(sums[name] for name in sorted(sums)).encode()).hexdigest()


def read_shapes(folder: Path) -> dict[str, list[int]]:
    shapes: dict[str, list[int]] = json.loads((folder / SHAPES).read_text())
    return shapes


def _problems(folder: Path, shapes: dict[str, list[int]], max_rank: int) -> Iterator[str]:
    if missing := [name for name in ADAPTER if not (folder / name).is_file()]:
        yield f"{missing[0]} is missing"
        return
    try:
        config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("the configuration is no object")
        tensors = read_safetensors(folder / ADAPTER_WEIGHTS)
    except (ValueError, OSError) as error:
        yield f"it cannot be read ({error})"
        return
    yield from config_problems(config, max_rank)
    if not tensors:
        yield "it holds no tensors"
    for key, tensor in tensors.items():
        yield from tensor_problems(key, tensor, shapes, config.get("r"))
        if (other := _other_half(key)) not in tensors:
            yield f"{other} is missing"


def config_problems(config: dict[str, Any], max_rank: int) -> Iterator[str]:
    """What vLLM cannot serve, or serves wrongly."""
    if config.get("peft_type") != "LORA" or config.get("task_type") != "CAUSAL_LM":
        yield "it is not a LoRA of a causal language model"
    rank = config.get("r")
    if not isinstance(rank, int) or not 0 < rank <= max_rank:
        yield f"its rank {rank} is not between 1 and {max_rank}"
    for key in ("use_dora", "lora_bias", "rank_pattern", "modules_to_save", "layer_replication"):
        if config.get(key):
            yield f"it uses {key}"
    if config.get("bias", "none") != "none":
        yield "it trains biases"


def tensor_problems(
    key: str, tensor: np.ndarray[Any, Any], shapes: dict[str, list[int]], rank: Any
) -> Iterator[str]:
    module, _, part = (
        key.removeprefix("base_model.model.").removesuffix(".weight").rpartition(".lora_")
    )
    if module not in shapes or part not in ("A", "B"):
        yield f"the base has no place for {key}"
        return
    rows, columns = shapes[module]
    want = (rank, columns) if part == "A" else (rows, rank)
    if tensor.shape != want:
        yield f"{key} has the shape {tensor.shape}, the base wants {want}"
    if not _finite(tensor):
        yield f"{key} holds values that are not finite"


def read_safetensors(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Tensors by name; bfloat16 comes as uint16 bits. Raises ValueError for a damaged file."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    if length > len(data) - 8:
        raise ValueError("truncated header")
    header = json.loads(data[8 : 8 + length])
    body = memoryview(data)[8 + length :]
    try:
        return {
            name: _tensor(name, entry, body)
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"its header does not describe tensors: {error}") from None


def _tensor(name: str, entry: dict[str, Any], body: memoryview) -> np.ndarray[Any, Any]:
    if entry["dtype"] not in DTYPES:
        raise ValueError(f"{name} is of type {entry['dtype']}")
    dtype, size = DTYPES[entry["dtype"]]
    start, end = entry["data_offsets"]
    if start < 0 or end > len(body) or end - start != size * int(np.prod(entry["shape"])):
        raise ValueError(f"truncated tensor {name}")
    return np.frombuffer(body[start:end], dtype).reshape(entry["shape"])


def _other_half(key: str) -> str:
    """vLLM cannot use one of the two matrices alone."""
    a, b = ".lora_A.", ".lora_B."
    return key.replace(a, b) if a in key else key.replace(b, a)


def _finite(tensor: np.ndarray[Any, Any]) -> bool:
    if tensor.dtype == np.uint16:  # bfloat16: all exponent bits set means infinite or NaN
        return bool(((tensor & 0x7F80) != 0x7F80).all())
    return bool(np.isfinite(tensor).all())


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
