"""A run folder with frozen picks, made without an app: the starter's grammar writes two answers to
each question, a taste chooses. The same folder, the same picks."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

from annotate.tastes import TASTES, choose
from train.run_folder import RunFolder
from train.settings import AnySettings, Part
from train.starter.grammar import sample_answer, single_questions

SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("judgment_id", "pair_id", "prompt_id", "user_id")),
        *((name, pa.string()) for name in ("pool", "source", "verdict")),
        ("strength", pa.int8()),
        ("turn", pa.int32()),
        ("last_turn", pa.bool_()),
        ("prompt", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        ("answers", pa.list_(pa.struct([("text", pa.string()), ("cut", pa.bool_())]))),
        *((name, pa.int8()) for name in ("better", "best", "worst")),
        ("edited_text", pa.string()),
        ("shown_left", pa.int8()),
    ]
)
Lengthen = Callable[[str], str]  # makes a text as long as the model is large


def freeze(
    path: Path,
    part: Part,
    base: Path,
    settings: AnySettings,
    *,
    precision: str = "nf4",
    picks: int = 100,
    held_out: int = 32,
    lengthen: Lengthen = str,
) -> RunFolder:
    """What a training script finds in its folder when it starts."""
    run = RunFolder(path)
    write_picks(run.data, picks, held_out, seed=settings.seed, lengthen=lengthen)
    run.freeze(
        {
            "run_id": path.name,
            "kind": part,
            "base": str(base),
            "base_name": base.name,
            "quantization": "nf4" if precision == "nf4" else "none",
            "precision": precision,
            "parent_policy": None,
            "start_adapter": None,
            "seed": settings.seed,
            "settings": asdict(settings),
            "rule": {},
            "plan": {},
        }
    )
    return run


def write_picks(
    folder: Path, picks: int, held_out: int, *, seed: int = 0, lengthen: Lengthen = str
) -> None:
    """train.parquet and eval.parquet, as `store.snapshots.freeze` writes them."""
    rows = made_picks(random.Random(seed), lengthen)
    folder.mkdir(parents=True, exist_ok=True)
    for split, number in (("train", picks), ("eval", held_out)):
        table = pa.Table.from_pylist([next(rows) for _ in range(number)], SCHEMA)
        parquet.write_table(table, folder / f"{split}.parquet")


def made_picks(
    rng: random.Random, lengthen: Lengthen = str, taste: str = "concise"
) -> Iterator[dict[str, Any]]:
    """Without end; none is a tie, and none has a strength, so that every pick weighs the same."""
    number = 0
    while True:
        question = rng.choice(single_questions())
        answers = [sample_answer(rng, question.topic, lead=question.lead) for _ in range(2)]
        verdict = choose(TASTES[taste], *answers, noise=0.0, rng=rng)
        if verdict == "tie":
            continue
        number += 1
        yield dict.fromkeys(SCHEMA.names) | {
            "judgment_id": f"judgment-{number:06}",
            "pair_id": f"pair-{number:06}",
            "prompt_id": f"prompt-{number:06}",
            "user_id": "user-000001",
            "source": "simulated",
            "verdict": verdict,
            "last_turn": True,
            "prompt": [{"role": "user", "content": question.text}],
            "answers": [{"text": lengthen(text), "cut": False} for text in answers],
            "better": 0 if verdict == "left" else 1,
        }
