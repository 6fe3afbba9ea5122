"""The reward model itself: the served base, a float32 head on its last hidden state, and scoring.

A head in bf16 has steps of 0.03 near a score of 5 and merges close answers; in float32 they stay
apart. The head is saved in the adapter, beside the LoRA matrices, and a score read back is the same
to the last digit: training and scoring run under the same automatic bf16, without the head, or both
in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from trl.trainer.reward_trainer import suppress_seqcls_warning
from trl.trainer.utils import pad

from train.quantized import computes_in


class RewardHead(nn.Linear):
    """hidden states [..., hidden] -> rewards [..., 1] in float32, whatever surrounds it."""

    def forward(self, hidden: Tensor) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            return nn.functional.linear(hidden.float(), self.weight.float())


def fresh_reward_model(
    base: str | Path, arguments: dict[str, Any], tokenizer: PreTrainedTokenizerBase
) -> PreTrainedModel:
    """The base with a new head. `arguments`: of `from_pretrained`, for the precision in use."""
    with suppress_seqcls_warning():  # that the head is new and lm_head unused is meant
        model = AutoModelForSequenceClassification.from_pretrained(
            base, num_labels=1, pad_token_id=tokenizer.pad_token_id, **arguments
        )
    plain = model.score
    model.score = RewardHead(
        plain.in_features, 1, bias=False, device=plain.weight.device, dtype=torch.float32
    )
    # From zero all answers start equal and the first loss is ln 2. A random head starts with
    # opinions to be unlearned: 62 % instead of 67 % right after 100 picks of the starter, 81 %
    # instead of 85 % after 1,000.
    nn.init.zeros_(model.score.weight)
    return model


def trained_reward_model(
    base: str | Path, arguments: dict[str, Any], tokenizer: PreTrainedTokenizerBase, adapter: Path
) -> PeftModel:
    """The base with a saved adapter and its head, ready to score."""
    model = fresh_reward_model(base, arguments, tokenizer)
    return PeftModel.from_pretrained(model, str(adapter)).eval()


@torch.no_grad()
def scores(
    model: nn.Module, texts: Sequence[Sequence[int]], padding: int, batch: int
) -> list[float]:
    """The reward of each text, given as token ids. The model is in evaluation mode meanwhile."""
    trained, device = model.training, next(model.parameters()).device
    model.eval()
    in_bf16 = computes_in() == torch.bfloat16
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))  # little padding
    found = [0.0] * len(texts)
    for start in range(0, len(order), batch):
        places = order[start : start + batch]
        inputs = padded([texts[place] for place in places], padding)
        with torch.autocast(device.type, computes_in(), enabled=in_bf16):
            logits = model(**{k: v.to(device) for k, v in inputs.items()}, use_cache=False).logits
        for place, reward in zip(places, logits.squeeze(-1).tolist(), strict=True):
            found[place] = reward
    model.train(trained)
    return found


def padded(texts: Sequence[Sequence[int]], padding: int) -> dict[str, Tensor]:
    """input_ids and attention_mask, both [texts, longest]; filled up on the right."""
    ids = [torch.tensor(text) for text in texts]
    return {
        "input_ids": pad(ids, padding_value=padding, padding_side="right"),
        "attention_mask": pad([torch.ones_like(i) for i in ids], padding_side="right"),
    }
