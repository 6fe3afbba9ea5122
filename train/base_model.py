"""Which base model: the starter, a folder, or a Hugging Face id. Never imports torch."""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path

from store.rows import PrefloopError
from train.starter.cache import ensure_starter

STARTER = "starter"


@dataclass(frozen=True)
class BaseModel:
    name: str  # as configured: what policies record
    path: Path
    parameters: int
    fingerprint: str = ""  # adapters fit the weights that they were trained on and no others


def cache_dir() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "prefloop"


def resolve(model: str) -> BaseModel:
    """Find the model, build the starter or fetch from the hub. Raises PrefloopError."""
    path = ensure_starter(cache_dir()) if model == STARTER else _local(model)
    if not (path / "config.json").is_file():
        raise PrefloopError(f"{path} is no model folder: it has no config.json.")
    if not has_chat_template(path):
        raise PrefloopError(
            f"The model {model} has no chat template. Choose an instruct or chat model."
        )
    return BaseModel(model, path, count_parameters(path), fingerprint(path))


def fingerprint(path: Path) -> str:
    """sha256 over the configuration and the size and first megabyte of each weight file."""
    digest = hashlib.sha256((path / "config.json").read_bytes())
    for file in sorted(path.glob("*.safetensors")):
        with open(file, "rb") as data:
            digest.update(f"{file.name} {file.stat().st_size}".encode() + data.read(1 << 20))
    return digest.hexdigest()


def has_chat_template(path: Path) -> bool:
    if (path / "chat_template.jinja").is_file():
        return True
    tokenizer = path / "tokenizer_config.json"
    return tokenizer.is_file() and bool(
        json.loads(tokenizer.read_text(encoding="utf-8")).get("chat_template")
    )


def count_parameters(path: Path) -> int:
    """Sum of the tensor sizes in the safetensors headers; tied weights are stored once."""
    total = 0
    for file in _weights(path):
        try:
            with open(file, "rb") as data:
                (length,) = struct.unpack("<Q", data.read(8))
                header = json.loads(data.read(length))
        except (OSError, ValueError, OverflowError, struct.error) as error:
            raise PrefloopError(
                f"{file} cannot be read ({error}). Fetch the model again."
            ) from None
        total += sum(
            math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__"
        )
    if not total:
        raise PrefloopError(f"{path} holds no safetensors weights; prefloop reads no other format.")
    return total


def _weights(path: Path) -> list[Path]:
    """Those that transformers loads: some repositories hold the same weights once more."""
    index = path / "model.safetensors.index.json"
    if not index.is_file():
        return sorted(path.glob("*.safetensors"))
    named = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
    return [path / name for name in sorted(set(named))]


def _local(model: str) -> Path:
    path = Path(model).expanduser()
    if path.is_dir():
        return path.resolve()
    if model.count("/") != 1 or path.is_absolute() or model.startswith("."):
        raise PrefloopError(
            f"There is no model folder {model}. "
            "Give a folder, a hub id such as org/name, or starter."
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
    )

    expected = (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        OSError,
    )
    files = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]
    try:
        # The same weights once more, as some repositories have them for other programs.
        doubled = ["consolidated*"]
        return Path(snapshot_download(model, allow_patterns=files, ignore_patterns=doubled))
    except expected as error:
        reason = str(error).partition("\n")[0]
        raise PrefloopError(
            f"The model {model} is neither a folder nor to be had from the hub ({reason}). "
            "Check the name and the network, or give a folder."
        ) from None
