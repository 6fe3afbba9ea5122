"""Run folders for the training scripts: a random model of 2 layers, the starter's tokenizer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from train.process import import_path
from train.run_folder import RunFolder
from train.settings import KINDS, Part, stored

WORDS = ["sun", "moon", "sea", "sky", "so", "calm", "cold", "still", "round", "in", "and", "the"]
QUICK: dict[str, Any] = {
    "learning_rate": 1e-3,
    "batch": 4,
    "accumulate": 1,
    "epochs": 2,
    "rank": 4,
    "max_length": 256,
    "gradient_checkpointing": False,
    "samples": 0,
    "evaluations": 0,
    "checkpoints": 0,
    "report_to": "none",
}
ANSWER = pa.struct([("text", pa.string()), ("cut", pa.bool_())])
MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])
SCHEMA = pa.schema(
    [
        ("judgment_id", pa.string()),
        ("pair_id", pa.string()),
        ("prompt_id", pa.string()),
        ("user_id", pa.string()),
        ("pool", pa.string()),
        ("source", pa.string()),
        ("verdict", pa.string()),
        ("strength", pa.int64()),
        ("turn", pa.int64()),
        ("last_turn", pa.bool_()),
        ("prompt", pa.list_(MESSAGE)),
        ("answers", pa.list_(ANSWER)),
        ("better", pa.int64()),
        ("best", pa.int64()),
        ("worst", pa.int64()),
        ("edited_text", pa.string()),
        ("shown_left", pa.int64()),
    ]
)


def make_base(starter: Path, folder: Path) -> Path:
    """A random Llama of 0.2 M parameters, from a fixed seed."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(starter)
    config.hidden_size, config.intermediate_size, config.num_hidden_layers = 64, 128, 2
    config.num_attention_heads = config.num_key_value_heads = 2
    config.head_dim, config.tie_word_embeddings = 32, False
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    for name in ("chat_template.jinja", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(starter / name, folder / name)
    return folder


def pick(number: int, **changes: Any) -> dict[str, Any]:
    """A pick of the shorter of two answers, clear and with a better side."""
    words = Random(number)
    short, long = (" ".join(words.choices(WORDS, k=size)) for size in (6, 14))
    better = number % 2
    texts = [long, short] if better else [short, long]
    return {
        "judgment_id": f"j-{number}",
        "pair_id": f"pair-{number}",
        "prompt_id": f"prompt-{number}",
        "user_id": f"user-{number % 2}",
        "pool": None,
        "source": "human",
        "verdict": "right" if better else "left",
        "strength": None,
        "turn": None,
        "last_turn": True,
        "prompt": [{"role": "user", "content": " ".join(words.choices(WORDS, k=4))}],
        "answers": [{"text": text, "cut": False} for text in texts],
        "better": better,
        "best": None,
        "worst": None,
        "edited_text": None,
        "shown_left": 0,
    } | changes


def make_run(
    folder: Path,
    part: Part,
    base: Path,
    train: Sequence[dict[str, Any]] = (),
    held_out: Sequence[dict[str, Any]] = (),
    config: dict[str, Any] | None = None,
    **settings: Any,
) -> RunFolder:
    """Frozen data and config.json as the app writes them; 24 picks and 8 held out by default."""
    run = RunFolder(folder)
    run.data.mkdir(parents=True)
    for split, rows in (
        ("train", train or [pick(n) for n in range(24)]),
        ("eval", held_out or [pick(n) for n in range(100, 108)]),
    ):
        pq.write_table(pa.Table.from_pylist(list(rows), SCHEMA), run.data / f"{split}.parquet")
    resolved = stored(KINDS[part], QUICK | settings)
    run.freeze(
        {
            "run_id": folder.name,
            "kind": part,
            "base": str(base),
            "quantization": "nf4",
            "precision": "nf4",
            "start_adapter": None,
            "settings": asdict(resolved),
        }
        | (config or {})
    )
    return run


def again(run: RunFolder, folder: Path, **settings: Any) -> RunFolder:
    """A new run of the same data and settings, but for some."""
    shutil.copytree(run.data, folder / "data")
    config = run.config()
    copy = RunFolder(folder)
    copy.freeze(config | {"run_id": folder.name, "settings": config["settings"] | settings})
    return copy


def start(module: str, run: RunFolder, **environment: str) -> subprocess.Popen[bytes]:
    """The real script in a process of its own; its output goes to the run's log."""
    quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with open(run.log, "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", module, str(run.path)],
            env={**os.environ, **import_path(), **quiet, **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
