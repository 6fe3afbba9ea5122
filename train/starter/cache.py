"""Finds the starter policy in a cache folder, or has it built there by a child process.

Standard library only: the app process imports this and must not import torch.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from store.rows import PrefloopError
from train.processor import multiplies_bf16

PACKAGE = Path(__file__).parent
RECIPE_FILES = ("topics.toml", "grammar.py", "build.py")
BUILT_FILES = ("config.json", "model.safetensors", "tokenizer.json")


def recipe_hash(folder: Path = PACKAGE) -> str:
    """Twelve hex digits that change whenever the text or the training recipe changes."""
    digest = hashlib.sha256()
    for name in RECIPE_FILES:
        digest.update(name.encode() + b"\0" + (folder / name).read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def starter_path(cache_dir: Path) -> Path:
    """Where the starter policy of this recipe lives inside `cache_dir`."""
    return Path(cache_dir) / f"starter-{recipe_hash()}"


def is_built(path: Path) -> bool:
    """The folder appears by one rename, so a folder with its files is complete."""
    return all((path / name).is_file() for name in BUILT_FILES)


def ensure_starter(cache_dir: Path) -> Path:
    """The folder of the starter policy; trains it first (a minute or two) if it is not there."""
    path = starter_path(cache_dir)
    if is_built(path):
        return path
    command = [sys.executable, "-m", "train.starter", str(Path(cache_dir).resolve())]
    child = subprocess.run(command, cwd=PACKAGE.parent.parent, env=_child_env(), check=False)
    if child.returncode != 0 or not is_built(path):
        raise PrefloopError(
            f"The starter policy could not be built in {cache_dir} (exit code {child.returncode}); "
            "the lines above say why."
        )
    return path


def _child_env() -> dict[str, str]:
    """With bf16 the matrices are too small for a second thread to make it faster; in float32 two
    need two thirds of the time of one (measured)."""
    threads = 1 if multiplies_bf16() else min(2, os.cpu_count() or 1)
    return os.environ | {"OMP_NUM_THREADS": str(threads)}
