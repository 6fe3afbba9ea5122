"""Rows as token ids: the chat template of the base decides what a model reads and what it writes.

Prompt and answer are rendered as TRL does it: the answer begins where the rendering of the prompt
alone and that of the whole conversation part, so a template that closes a turn trains the end
token. Nothing is cut: a cut answer would lose its end token and a cut prompt its question.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from store.rows import Invalid, Message


class Encoded(NamedTuple):
    prompt: list[int]
    answer: list[int]

    @property
    def ids(self) -> list[int]:
        return self.prompt + self.answer


class Encoder:
    """Renders each prompt once, however many answers it has."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if not tokenizer.chat_template:
            raise Invalid("The base model has no chat template. Choose an instruct or chat model.")
        self.tokenizer = tokenizer
        self._prompts: dict[str, list[int]] = {}

    def prompt(self, messages: list[Message]) -> list[int]:
        """As vLLM renders it before it samples an answer."""
        key = repr(messages)
        if key not in self._prompts:
            self._prompts[key] = self._ids(messages, add_generation_prompt=True)
        return self._prompts[key]

    def answers(self, messages: list[Message], texts: list[str]) -> list[Encoded]:
        """All answers part from the prompt at the same token, so that they can be compared."""
        prompt = self.prompt(messages)
        whole = [self._ids([*messages, {"role": "assistant", "content": t}]) for t in texts]
        shared = min(common_prefix(prompt, ids) for ids in whole)
        return [Encoded(ids[:shared], ids[shared:]) for ids in whole]

    def _ids(self, messages: list[Message], **options: Any) -> list[int]:
        ids: list[int] = self.tokenizer.apply_chat_template(
            messages, tokenize=True, return_dict=False, **options
        )
        return ids


def common_prefix(first: list[int], second: list[int]) -> int:
    for place, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return place
    return min(len(first), len(second))
