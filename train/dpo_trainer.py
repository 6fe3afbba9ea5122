"""TRL's DPOTrainer with soft labels and weights: rows are tokenised and carry p and weight.

What TRL does stays: the model, the adapters and their reference, the fused head, the logs. Only the
loss is ours (train/losses.py), and with it the metrics, which are gathered in one go: rewards are
what the loss compares, so for ipo and sigmoid_norm means per token, unlike TRL's. What the
reference says of a row never changes, so it is asked once and not in every pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from trl import DPOTrainer
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.dpo_trainer import DataCollatorForPreference
from trl.trainer.utils import use_adapter

from train.batching import OrderedRows
from train.encoding import ALIKE, Encoder, Unfit
from train.losses import PairLoss, Side, answer_logps, imitation
from train.picks import PairRow
from train.quantized import under_fsdp

COLUMNS = ["prompt_ids", "chosen_ids", "rejected_ids", "p", "weight", "row", "length"]
EVAL_ROWS = 1 << 32  # from here on the held-out rows are numbered
SHOWN = (
    "rewards/chosen",
    "rewards/rejected",
    "rewards/margins",
    "rewards/accuracies",
    "logps/chosen",
    "logps/rejected",
)


def encode_pair(encoder: Encoder, row: PairRow) -> tuple[dict[str, Any], int]:
    """COLUMNS of a row but its number, and its length in tokens. Raises Unfit."""
    chosen, rejected = encoder.answers(row.prompt, [row.chosen, row.rejected])
    if chosen.ids == rejected.ids:
        raise Unfit("alike", ALIKE)
    if row.rejected_cut:
        rejected = encoder.without_end(rejected)
    length = max(len(chosen.ids), len(rejected.ids))
    columns = {
        "prompt_ids": chosen.prompt,
        "chosen_ids": chosen.answer,
        "rejected_ids": rejected.answer,
        "p": row.p,
        "weight": row.weight,
        "length": length,
    }
    return columns, length


@dataclass
class WeightedCollator(DataCollatorForPreference):
    """Adds p, weight and the number of the row, [rows]."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        # p comes first: by it the trainer counts a batch in rows, not in answers.
        extra = {
            name: torch.tensor([one[name] for one in examples], dtype=kind)
            for name, kind in (("p", torch.float32), ("weight", torch.float32), ("row", torch.long))
        }
        return extra | super().torch_call(examples)


class WeightedDPOTrainer(OrderedRows, DPOTrainer):
    """Takes rows of COLUMNS. `imitation_weight`: share of likelihood on the chosen side."""

    def __init__(
        self,
        *args: Any,
        pair_loss: PairLoss,
        imitation_weight: float,
        length_alpha: float,
        **kw: Any,
    ) -> None:
        self.pair_loss = pair_loss
        self.imitation_weight, self.length_alpha = imitation_weight, length_alpha
        # What the reference says of (chosen, rejected) of a row.
        self.known: dict[int, tuple[float, float]] = {}
        self.right: dict[int, float] = {}  # held-out rows, from 0: whether chosen scores higher
        self.against_base = False  # though the run started from an adapter
        super().__init__(*args, **kw)

    def _prepare_dataset(self, dataset: Dataset, _: Any, __: Any, name: str) -> Dataset:
        first = 0 if name == "train" else EVAL_ROWS
        return dataset.add_column("row", list(range(first, first + len(dataset))))

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = COLUMNS

    def _compute_loss(self, model: Any, inputs: dict[str, Tensor], return_outputs: bool) -> Any:
        batch = dict(inputs)
        p, weight, rows = batch.pop("p"), batch.pop("weight"), batch.pop("row").tolist()
        completion = batch.pop("completion_mask")
        mask = completion[:, 1:]
        batch["labels"] = batch["input_ids"].masked_fill(completion == 0, -100)
        extra = {"output_router_logits": True} if self.aux_loss_enabled else {}
        outputs = model(**batch, **extra, use_cache=False, fused_lm_head=True)
        logps = self._answers(outputs.log_probs, mask)
        ratios = logps - self._reference(batch, mask, rows)
        tokens = completion.sum(1)
        chosen, rejected = (
            Side(*side) for side in zip(ratios.chunk(2), tokens.chunk(2), strict=True)
        )
        loss = (weight * self.pair_loss(chosen, rejected, p)).mean()
        if self.imitation_weight:
            chosen_logps, chosen_mask = outputs.log_probs.chunk(2)[0], mask.chunk(2)[0]
            loss = loss + self.imitation_weight * imitation(chosen_logps, chosen_mask, p, weight)
        if self.aux_loss_enabled:
            loss = loss + self.router_aux_loss_coef * outputs.aux_loss
        rewards = [self.pair_loss.reward(side).detach() for side in (chosen, rejected)]
        self._count(rewards, logps.detach(), p, rows, inputs["attention_mask"])
        return (loss, outputs) if return_outputs else loss

    def _answers(self, logps: Tensor, mask: Tensor) -> Tensor:
        """[2 rows]: the chosen answers, then the rejected ones."""
        shared = torch.minimum(*mask.sum(1).chunk(2)).repeat(2)
        return answer_logps(logps, mask, shared, self.length_alpha)

    def _reference(self, batch: dict[str, Tensor], mask: Tensor, rows: list[int]) -> Tensor:
        """Log-probabilities of the answers under the base, or under the adapter at the start."""
        # Under FSDP all processes compute together, and each knows other rows.
        if under_fsdp() or not self.known.keys() >= set(rows):
            answers = self._answers(self._ask_reference(batch), mask)
            self.known |= zip(rows, zip(*answers.view(2, -1).tolist(), strict=True), strict=True)
        return mask.new_tensor([self.known[row] for row in rows], dtype=torch.float32).T.flatten()

    def _ask_reference(self, batch: dict[str, Tensor]) -> Tensor:
        """Log-probabilities of the tokens."""
        inner = self.accelerator.unwrap_model(self.model)
        # Re-entrant checkpointing warns under no_grad.
        quiet = disable_gradient_checkpointing(self.model, self.args.gradient_checkpointing_kwargs)
        start = "ref" if "ref" in inner.peft_config and not self.against_base else None
        with torch.no_grad(), quiet, use_adapter(inner, adapter_name=start):
            logps: Tensor = self.model(**batch, use_cache=False, fused_lm_head=True).log_probs
        return logps

    def right_against_base(self) -> dict[int, float]:
        """As `right`, of rewards against the base itself. All processes compute together.

        Against the champion that a run started from they tell what was added to it, which is near
        chance on picks that the champion orders rightly already.
        """
        self.known, self.right, self.against_base = {}, {}, True
        self.model.eval()
        for inputs in self.get_eval_dataloader():
            self.prediction_step(self.model, inputs, prediction_loss_only=True)
        return self.right

    def _count(
        self,
        rewards: Sequence[Tensor],
        logps: Tensor,
        p: Tensor,
        rows: list[int],
        attention_mask: Tensor,
    ) -> None:
        """What log() shows: the mean of what is listed here, so each row is listed.

        `rewards`: of the chosen and of the rejected answers, [rows] each.
        """
        mode = "train" if self.model.training else "eval"
        chosen, rejected = rewards
        right = (chosen > rejected).float()
        decided = right.masked_fill(p <= 0.5, torch.nan)  # a tie has no better side
        shown = torch.stack([chosen, rejected, chosen - rejected, decided, *logps.chunk(2)])
        listed = self.accelerator.gather_for_metrics(shown.T.contiguous()).T.tolist()
        for name, values in zip(SHOWN, listed, strict=True):
            if known := [value for value in values if value == value]:
                self._metrics[mode][name] += known
        if mode == "eval":
            numbers = p.new_tensor([row - EVAL_ROWS for row in rows])
            pairs = self.accelerator.gather_for_metrics(torch.stack([numbers, right], dim=1))
            self.right |= {int(number): value for number, value in pairs.tolist()}
        if mode == "train":
            tokens = self.accelerator.gather_for_metrics(attention_mask.sum()).sum().item()
            self._total_train_tokens += tokens
        self._metrics[mode]["num_tokens"] = [self._total_train_tokens]
