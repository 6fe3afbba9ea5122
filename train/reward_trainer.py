"""TRL's RewardTrainer for picks that say more than "this one": labels, weights, margins, K answers.

A row is one pick: K answers and comparisons (better, worse) among them; a plain pair is K = 2. Its
answers go through the model once, together, for shuffled pairs of one prompt are learned by heart
within a pass (Ouyang et al. 2022, arXiv 2203.02155). The loss of a row, with d = reward of better -
reward of worse:

    weight * mean over comparisons of  p * softplus(margin - d) + (1 - p) * softplus(d)
    + center * (2 * mean of the K rewards)^2

For K = 2 and p = weight = 1 this is TRL's own loss (Bradley-Terry; centring by Eisenstein et al.
2023, arXiv 2312.09244). The loss of a batch is the mean over its rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from torch.nn.functional import softplus
from trl import RewardTrainer

from train.batching import OrderedRows
from train.encoding import ALIKE, Encoder, Unfit
from train.picks import RankingRow
from train.reward_head import padded

COLUMNS = ["answers", "better", "worse", "p", "margin", "weight", "length"]


def told_apart(row: RankingRow, texts: Sequence[list[int]]) -> RankingRow:
    """Without comparisons of answers that are the same tokens, as the template renders them."""
    apart = [one for one in row.comparisons if texts[one.better] != texts[one.worse]]
    return replace(row, comparisons=apart)


def encode_ranking(encoder: Encoder, row: RankingRow) -> tuple[dict[str, Any], int]:
    """COLUMNS of a row, and the length of its longest answer with its prompt, in tokens.

    Raises Unfit.
    """
    texts = [one.ids for one in encoder.answers(row.prompt, row.answers)]
    row = told_apart(row, texts)
    if not row.comparisons:
        raise Unfit("alike", ALIKE)
    length = max(map(len, texts))
    columns = {
        "answers": texts,
        "better": [one.better for one in row.comparisons],
        "worse": [one.worse for one in row.comparisons],
        "p": [one.p for one in row.comparisons],
        "margin": [one.margin for one in row.comparisons],
        "weight": row.weight,
        "length": length,
    }
    return columns, length


@dataclass(frozen=True)
class Comparisons:
    """The comparisons of a batch of rows; answers are numbered through over the batch."""

    better: Tensor  # [comparisons] answer number
    worse: Tensor  # [comparisons] answer number
    p: Tensor  # [comparisons] probability that better is better
    margin: Tensor  # [comparisons]
    row: Tensor  # [comparisons] row number
    answer_row: Tensor  # [answers] row number
    weight: Tensor  # [rows]


def ranking_loss(rewards: Tensor, them: Comparisons, center: float) -> Tensor:
    """Loss of each row, [rows]. `rewards`: of all answers of the batch, [answers], float32."""
    d = rewards[them.better] - rewards[them.worse]
    wrong = them.p * softplus(them.margin - d) + (1 - them.p) * softplus(d)
    loss = them.weight * row_means(wrong, them.row, len(them.weight))
    if center:
        loss = loss + center * (2 * row_means(rewards, them.answer_row, len(them.weight))) ** 2
    return loss


def row_means(values: Tensor, row: Tensor, rows: int) -> Tensor:
    """Mean of the values of each row, [rows]; 0 for a row without any."""
    total = values.new_zeros(rows).index_add(0, row, values)
    return total / torch.bincount(row, minlength=rows).clamp(min=1)


@dataclass
class RankingCollator:
    """Rows of COLUMNS, the answers as token ids -> one batch for the model and its Comparisons."""

    padding: int

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        first, firsts = 0, []  # number of each row's first answer
        for row in rows:
            firsts.append(first)
            first += len(row["answers"])
        # The weight comes first: by it the trainer counts a batch in rows, not in answers.
        return {
            "weight": torch.tensor([row["weight"] for row in rows], dtype=torch.float32),
            "better": _numbers(rows, "better", firsts),
            "worse": _numbers(rows, "worse", firsts),
            "p": torch.tensor([p for row in rows for p in row["p"]], dtype=torch.float32),
            "margin": torch.tensor([m for row in rows for m in row["margin"]], dtype=torch.float32),
            "row": torch.tensor([n for n, row in enumerate(rows) for _ in row["p"]]),
            "answer_row": torch.tensor([n for n, row in enumerate(rows) for _ in row["answers"]]),
            **padded([answer for row in rows for answer in row["answers"]], self.padding),
        }


def _numbers(rows: list[dict[str, Any]], side: str, firsts: list[int]) -> Tensor:
    return torch.tensor(
        [first + place for row, first in zip(rows, firsts, strict=True) for place in row[side]]
    )


class RankingTrainer(OrderedRows, RewardTrainer):
    """Takes rows of COLUMNS that are tokenised already, with a RankingCollator."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = COLUMNS

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        them = Comparisons(**{name: inputs.pop(name) for name in Comparisons.__annotations__})
        outputs = model(**inputs, use_cache=False)
        rewards = outputs.logits.squeeze(-1)
        loss = ranking_loss(rewards, them, self.args.center_rewards_coefficient or 0.0).mean()
        self._count(rewards.detach(), them, inputs["attention_mask"])
        return (loss, outputs) if return_outputs else loss

    def _count(self, rewards: Tensor, them: Comparisons, attention_mask: Tensor) -> None:
        """What TRL's log() shows: the average of what is listed here, so each row is listed."""
        mode = "train" if self.model.training else "eval"
        if mode == "train":
            tokens = self.accelerator.gather_for_metrics(attention_mask.sum()).sum().item()
            self._total_train_tokens += tokens
        self._metrics[mode]["num_tokens"] = [self._total_train_tokens]
        for name, values in row_metrics(rewards, them).items():
            known = [v for v in self.accelerator.gather_for_metrics(values).tolist() if v == v]
            if known:
                self._metrics[mode][name] += known


def row_metrics(rewards: Tensor, them: Comparisons) -> dict[str, Tensor]:
    """Of each row, [rows]; NaN for one that is all ties. Equal rewards are half right.

    The rows of all processes are gathered, so their number must not depend on what is in them.
    """
    decided, rows = them.p > 0.5, len(them.weight)  # a tie has no better side
    row = them.row[decided]
    better, worse = rewards[them.better[decided]], rewards[them.worse[decided]]
    each = {
        "accuracy": 0.5 + 0.5 * torch.sign(better - worse),
        "margin": better - worse,
        "rewards/chosen": better,
        "rewards/rejected": worse,
    }
    empty = torch.bincount(row, minlength=rows) == 0
    return {
        name: row_means(values, row, rows).masked_fill(empty, torch.nan)
        for name, values in each.items()
    }
