"""One prompt or one preference from one JSON value, in the layouts that others write.

Preferences: TRL's layouts (explicit and implicit, text or messages) and HH-RLHF.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import Any

from store.exporting import as_text
from store.prompts import NewPrompt, checked_messages
from store.rows import Invalid, Message

PROMPT_KEYS = ("prompt", "question", "text", "instruction")
ASSISTANT = "\n\nAssistant:"
TURN = re.compile(r"\n\n(Human|Assistant|System):")
ROLE_OF = {"Human": "user", "Assistant": "assistant", "System": "system"}


class Unusable(Invalid):
    """A row that is well written but holds no preference: left out and counted."""


@dataclass(frozen=True)
class NewPreference:
    messages: list[Message]
    chosen: str
    rejected: str


def prompt_of(record: Any, tags: tuple[str, ...] = ()) -> NewPrompt:
    """A text, or an object with a prompt in it. Raises Invalid."""
    if isinstance(record, str):
        return NewPrompt(user_message(record), tags)
    _object(record)
    tags = tuple(dict.fromkeys((*tags, *_own_tags(record))))
    if "messages" in record:
        return NewPrompt(checked_messages(record["messages"]), tags)
    turns = record.get("turns")  # MT-bench; its second turn needs an answer to the first
    if isinstance(turns, list) and turns and isinstance(turns[0], str):
        return NewPrompt(user_message(turns[0]), tags)
    for key in PROMPT_KEYS:
        if isinstance(record.get(key), list):
            return NewPrompt(checked_messages(record[key]), tags)
        if record.get(key) is not None:
            return NewPrompt(user_message(record[key]), tags)
    raise Invalid(f"has none of the fields messages, turns, {', '.join(PROMPT_KEYS)}")


def preference_of(record: Any, format_: str | None = None) -> NewPreference:
    """One preference row in any of the known layouts. Raises Invalid, or Unusable."""
    _object(record)
    chosen, rejected, prompt = record.get("chosen"), record.get("rejected"), record.get("prompt")
    if isinstance(chosen, str) and isinstance(rejected, str):
        if format_ == "hh-rlhf" or (prompt is None and ASSISTANT in chosen):
            return _hh(chosen, rejected)
        if prompt is None:
            return _common_start(chosen, rejected)
        if isinstance(prompt, str):
            return _preference(_dialogue(prompt), chosen, rejected)
        raise Invalid("prompt is a list of messages but chosen and rejected are texts")
    if isinstance(chosen, list) and isinstance(rejected, list):
        if prompt is None:
            if chosen[:-1] != rejected[:-1]:
                raise Unusable("chosen and rejected do not share the prompt")
            prompt, chosen, rejected = chosen[:-1], chosen[-1:], rejected[-1:]
        messages = _dialogue(prompt) if isinstance(prompt, str) else checked_messages(prompt)
        return _preference(messages, _answer(chosen), _answer(rejected))
    raise Invalid("needs chosen and rejected, both texts or both lists of messages")


def user_message(text: str) -> list[Message]:
    """Raises Invalid when the text is empty or too long."""
    return checked_messages([{"role": "user", "content": text}])


def _object(value: Any) -> None:
    if not isinstance(value, dict):
        raise Invalid("is not a JSON object")


def _own_tags(record: dict[str, Any]) -> list[str]:
    own = record.get("tags") or []
    if not isinstance(own, list) or not all(isinstance(tag, str) for tag in own):
        raise Invalid("tags must be a list of texts")
    category = record.get("category")  # MT-bench
    return [*own, category] if isinstance(category, str) else own


def _answer(messages: list[Any]) -> str:
    if (
        len(messages) != 1
        or not isinstance(messages[0], dict)
        or messages[0].get("role") != "assistant"
    ):
        raise Invalid("chosen and rejected must hold one assistant message each")
    content = messages[0].get("content")
    if not isinstance(content, str):
        raise Invalid("the content of chosen and rejected must be text")
    return content


def _preference(messages: list[Message], chosen: str, rejected: str) -> NewPreference:
    if not chosen.strip() or not rejected.strip():
        raise Unusable("an answer is empty")
    return NewPreference(messages, chosen, rejected)


def _common_start(chosen: str, rejected: str) -> NewPreference:
    """TRL's implicit prompt: what both texts begin with, up to the last word in common."""
    both = zip(chosen, rejected, strict=False)
    differ = next((at for at, (x, y) in enumerate(both) if x != y), min(len(chosen), len(rejected)))
    cut = max(chosen.rfind(" ", 0, differ), chosen.rfind("\n", 0, differ)) + 1
    if not chosen[:cut].strip():
        raise Unusable("chosen and rejected do not share the prompt")
    return _preference(user_message(chosen[:cut].strip()), chosen[cut:], rejected[cut:])


def _dialogue(prompt: str) -> list[Message]:
    """A prompt text as messages: our own export writes several turns as HH-RLHF does."""
    if TURN.match(prompt) and prompt.endswith(ASSISTANT):
        parts = TURN.split(prompt.removesuffix(ASSISTANT))[1:]
        turns = [
            {"role": ROLE_OF[name], "content": text.removeprefix(" ")}
            for name, text in zip(parts[::2], parts[1::2], strict=True)
        ]
        with contextlib.suppress(Invalid):
            messages = checked_messages(turns)
            if as_text(messages) == prompt:
                return messages
    return user_message(prompt)


def _hh(chosen: str, rejected: str) -> NewPreference:
    """HH-RLHF: whole dialogues; the prompt ends with the last "Assistant:" of the common part."""
    cut = chosen.rfind(ASSISTANT) + len(ASSISTANT)
    if cut < len(ASSISTANT):
        raise Invalid("the text has no Assistant turn")
    if rejected.rfind(ASSISTANT) + len(ASSISTANT) != cut or chosen[:cut] != rejected[:cut]:
        raise Unusable("chosen and rejected differ before their last answer")
    messages = _hh_messages(chosen[: cut - len(ASSISTANT)])
    return _preference(messages, chosen[cut:].strip(), rejected[cut:].strip())


def _hh_messages(dialogue: str) -> list[Message]:
    start, *parts = TURN.split(dialogue)
    if start.strip():
        raise Invalid("the text does not begin with a turn")
    turns = [
        {"role": ROLE_OF[name], "content": text.strip()}
        for name, text in zip(parts[::2], parts[1::2], strict=True)
    ]
    try:
        return checked_messages([turn for turn in turns if turn["content"]])
    except Invalid as error:
        raise Unusable(str(error)) from None
