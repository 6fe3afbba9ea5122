"""Score picks with a trained reward model: does it still order answers as people do?

    python -m train.score FOLDER

Reads FOLDER/config.json {base, precision, adapter, settings, temperature, data} and
FOLDER/picks.parquet (rows as in a run's eval.parquet); writes FOLDER/scores.json, the metrics of
train/calibration.py and n, the number of picks with a better side. `settings` and `data.frozen_at`
are those of the reward model's run, so that a pick means the same; without a `temperature` the
rewards are taken as they are.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet
from torch import nn

from train import calibration
from train.calibration import ScoredPick
from train.encoding import Encoder, Unfit, day_of, open_tokenizer
from train.picks import Pick, RankingRow
from train.quantized import base_arguments
from train.reward_head import scores, trained_reward_model
from train.reward_trainer import encode_ranking, told_apart
from train.rules import ranking_rows
from train.run_folder import write_whole
from train.settings import RewardSettings, stored


def main(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    tokenizer = open_tokenizer(config["base"])
    model = trained_reward_model(
        config["base"], base_arguments(config["precision"]), tokenizer, Path(config["adapter"])
    )
    settings = stored(RewardSettings, config.get("settings", {}))
    table = pyarrow.parquet.read_table(folder / "picks.parquet")
    picks = [Pick.of(row) for row in table.to_pylist()]
    encoder = Encoder(tokenizer, day_of(config))
    scored = scored_picks(model, encoder, picks, settings)
    found = calibration.report(scored, config.get("temperature", 1.0))
    write_whole(folder / "scores.json", json.dumps(agreement(found), indent=1))


def agreement(found: dict[str, Any]) -> dict[str, Any]:
    """The same with the names that the drift trigger reads."""
    if not found:
        return {"n": 0}
    low, high = found["accuracy_low"], found["accuracy_high"]
    told = {"n": found["picks_scored"], "low": low, "high": high}
    return found | told | {"ece": found["ece_calibrated"]}


def scored_picks(
    model: nn.Module, encoder: Encoder, picks: Sequence[Pick], settings: RewardSettings
) -> list[ScoredPick]:
    """The picks whose answers all fit; those of the model that is given, whatever its mode."""
    rows, texts = [], []
    for pick in picks:
        for row in ranking_rows(pick, settings):
            try:
                columns, length = encode_ranking(encoder, row)
            except Unfit:
                continue
            if length <= settings.max_length:
                rows.append((pick, told_apart(row, columns["answers"])))
                texts += columns["answers"]
    rewards = iter(scores(model, texts, encoder.tokenizer.pad_token_id, settings.batch))
    return [scored_pick(pick, row, [next(rewards) for _ in row.answers]) for pick, row in rows]


def scored_pick(pick: Pick, row: RankingRow, rewards: Sequence[float]) -> ScoredPick:
    """What people compared. A tie has no better side, and an edit is better by its nature."""
    said = [one for one in row.comparisons if one.origin not in ("tie", "edit")]
    return ScoredPick(
        tuple(rewards[one.better] - rewards[one.worse] for one in said),
        tuple(len(row.answers[one.better]) - len(row.answers[one.worse]) for one in said),
        pick.pool,
        pick.user_id,
        pick.strength,
        pick.prompt_id,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
