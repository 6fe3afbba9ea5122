"""What the policy writes while it learns, and how it scores held-out answers at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase, TrainerCallback

from store.rows import Message
from train.encoding import Encoded
from train.quantized import under_fsdp
from train.run_folder import RunFolder
from train.script import is_main

LONGEST = 256  # tokens of a sample: a policy whose answers grow longer is to be seen


@dataclass(frozen=True)
class Prompt:
    prompt_id: str
    messages: list[Message]
    ids: list[int]


class Samples(TrainerCallback):
    """Greedy answers to the same held-out prompts at the start, at each measurement and the end."""

    def __init__(
        self, run: RunFolder, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt]
    ) -> None:
        self.run, self.tokenizer, self.prompts = run, tokenizer, prompts
        self.last_step = -1

    def on_train_begin(self, args: Any, state: Any, control: Any, **known: Any) -> None:
        if state.global_step == 0:
            self._write(0, known["model"])

    def on_evaluate(self, args: Any, state: Any, control: Any, **known: Any) -> None:
        self._write(state.global_step, known["model"])

    def _write(self, step: int, model: Any) -> None:
        if not is_main() or not self.prompts or step == self.last_step:
            return
        if under_fsdp():  # one process alone has no whole model
            return
        self.last_step = step
        answers = greedy(model, self.tokenizer, [prompt.ids for prompt in self.prompts])
        for prompt, ids in zip(self.prompts, answers, strict=True):
            text = self.tokenizer.decode(ids, skip_special_tokens=True)
            self.run.add_sample(
                {
                    "step": step,
                    "prompt_id": prompt.prompt_id,
                    "prompt": prompt.messages,
                    "text": text,
                    "tokens": len(ids),
                    "cut": len(ids) == LONGEST,
                }
            )


@torch.no_grad()
def greedy(
    model: Any, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[list[int]]
) -> list[list[int]]:
    """The most likely answers, without their end token. Takes no random numbers from training."""
    training, model_config = model.training, model.generation_config
    ids, mask = left_padded(prompts, tokenizer.pad_token_id)
    model.eval()
    out = model.generate(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        generation_config=GenerationConfig(
            do_sample=False,
            max_new_tokens=LONGEST,
            eos_token_id=model_config.eos_token_id or tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
    )
    model.train(training)
    special = set(tokenizer.all_special_ids)
    return [[i for i in row if i not in special] for row in out[:, ids.shape[1] :].tolist()]


def left_padded(rows: Sequence[list[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask, [rows, longest]."""
    longest = max(map(len, rows))
    ids = [[pad] * (longest - len(row)) + row for row in rows]
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(ids), torch.tensor(mask)


@torch.no_grad()
def logprobs(model: Any, rows: Sequence[Encoded], pad: int, batch: int) -> list[list[float]]:
    """Log-probability of each token of the answers, by a causal model that TRL has prepared."""
    scored: list[list[float]] = []
    model.eval()
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        ids, mask, labels = right_padded(part, pad)
        out = model(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            labels=labels.to(model.device),
            use_cache=False,
            fused_lm_head=True,  # no logits of the whole vocabulary in memory
        ).log_probs.tolist()
        for row, line in zip(part, out, strict=True):
            first = len(row.prompt) - 1  # the place before a token is where it is told
            scored.append(line[first : first + len(row.answer)])
    return scored


def right_padded(rows: Sequence[Encoded], pad: int) -> tuple[torch.Tensor, ...]:
    """Token ids, attention mask and labels (answers only), [rows, longest]."""
    longest = max(len(row.ids) for row in rows)
    ids = [row.ids + [pad] * (longest - len(row.ids)) for row in rows]
    mask = [[1] * len(row.ids) + [0] * (longest - len(row.ids)) for row in rows]
    labels = [
        [-100] * len(row.prompt) + row.answer + [-100] * (longest - len(row.ids)) for row in rows
    ]
    return torch.tensor(ids), torch.tensor(mask), torch.tensor(labels)
