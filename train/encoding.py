"""Rows as token ids: the chat template of the base decides what a model reads and what it writes.

Prompt and answer are rendered as TRL does it: the answer begins where the rendering of the prompt
alone and that of the whole conversation part, so a template that closes a turn trains the end
token. Nothing is cut: a cut answer would lose its end token and a cut prompt its question. An
answer that vLLM cut is read without an end, for it had none.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from jinja2 import TemplateError
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from store.rows import Invalid, Message


class Encoded(NamedTuple):
    prompt: list[int]
    answer: list[int]

    @property
    def ids(self) -> list[int]:
        return self.prompt + self.answer


class Unfit(Exception):
    """A row that is not to be trained on with this template, which refuses its messages (a system
    message, roles that do not alternate) or makes what is compared alike (it strips thoughts)."""

    def __init__(self, why: Literal["refused", "alike"], message: str) -> None:
        super().__init__(message)
        self.why = why


ALIKE = "The chat template makes the answers alike."


class Encoder:
    """Renders each prompt once, however many answers it has. `at`: the day that a template may
    write into the prompt, so that a run that goes on or is repeated reads the same rows."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, at: datetime | None = None) -> None:
        self.at = at or datetime.now(UTC).astimezone()
        if not tokenizer.chat_template:
            raise Invalid("The base model has no chat template. Choose an instruct or chat model.")
        self.tokenizer = tokenizer
        self.parted_early = 0  # rows so far whose conversation has not the whole prompt in it
        self._prompts: dict[str, list[int]] = {}
        self._end: int | None = None  # tokens with which the template closes an answer

    def prompt(self, messages: list[Message]) -> list[int]:
        """As vLLM renders it before it samples an answer. Raises Unfit."""
        key = repr(messages)
        if key not in self._prompts:
            self._prompts[key] = self._ids(messages, add_generation_prompt=True)
        return self._prompts[key]

    def answers(self, messages: list[Message], texts: list[str]) -> list[Encoded]:
        """All answers part from the prompt at the same token, so that they can be compared. Where
        that is before its end, as in a template that opens thoughts for the model alone, the model
        learns to answer another prompt than vLLM asks it. Raises Unfit.
        """
        prompt = self.prompt(messages)
        whole = [self._ids([*messages, {"role": "assistant", "content": t}]) for t in texts]
        shared = min(common_prefix(prompt, ids) for ids in whole)
        self.parted_early += shared < len(prompt)
        return [Encoded(ids[:shared], ids[shared:]) for ids in whole]

    def without_end(self, one: Encoded) -> Encoded:
        """As a text that was cut stands there, before the template closes it. Raises Unfit where
        the template leaves nothing of it, as of a thought that was cut."""
        if self._end is None:
            asked: Message = {"role": "user", "content": "?"}
            yes, no = (self._ids([asked, {"role": "assistant", "content": text}]) for text in "10")
            self._end = common_prefix(yes[::-1], no[::-1])
        if len(one.answer) <= self._end:
            raise Unfit("alike", "The chat template leaves nothing of an answer that was cut.")
        return Encoded(one.prompt, one.answer[: len(one.answer) - self._end])

    def _ids(self, messages: list[Message], **options: Any) -> list[int]:
        options["strftime_now"] = self.at.strftime
        try:
            ids: list[int] = self.tokenizer.apply_chat_template(
                messages, tokenize=True, return_dict=False, **options
            )
        except TemplateError as error:
            raise Unfit("refused", str(error)) from error
        return ids


def open_tokenizer(base: str) -> PreTrainedTokenizerBase:
    """With a token to pad with. That of the end is the last choice: transformers reads a reward
    before the padding, which it tells by its id, and so would not see the end of an answer."""
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(base)
    if tokenizer.pad_token_id is None:
        reserved = (name for name in tokenizer.get_added_vocab() if "pad" in name.lower())
        tokenizer.pad_token = next(reserved, tokenizer.eos_token)
    return tokenizer


def day_of(config: dict[str, Any]) -> datetime | None:
    """On which the picks of a run were frozen; older runs did not write it down."""
    frozen_at = config.get("data", {}).get("frozen_at")
    return datetime.fromisoformat(frozen_at) if frozen_at else None


def common_prefix(first: list[int], second: list[int]) -> int:
    for place, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return place
    return min(len(first), len(second))
