"""Text that models and strangers wrote, made ready for gr.Markdown. Pure functions.

Answers stay Markdown, which Gradio sanitises in the browser. All else is shown letter by letter.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from store.rows import Message

SHOWN_CHARS = 20_000  # of one answer; more than 50 kB of Markdown freezes a browser for seconds
SHOWN_TURNS = 40
ROLE_LABELS = {"user": "User", "assistant": "Assistant", "system": "System"}


def clean(text: str) -> str:
    """Valid Unicode without NUL: a lone surrogate cannot be sent as JSON at all."""
    return (
        text.encode("utf-8", "replace").decode("utf-8").replace("\x00", "\N{REPLACEMENT CHARACTER}")
    )


def exact(text: str) -> str:
    """Text for one line of a <div> inside Markdown: shown letter by letter, never as markup."""
    return re.sub(r"\r\n|\r|\n", "&#10;", escape(clean(text)))


def answer_text(text: str) -> tuple[str, str]:
    """The Markdown of a pane and a note for its heading."""
    text = clean(text)
    if len(text) <= SHOWN_CHARS:
        return text, ""
    return text[:SHOWN_CHARS], f"first {SHOWN_CHARS:,} of {len(text):,} characters"


def prompt_html(messages: Sequence[Message]) -> str:
    """All turns as exact text; role labels only where there is more than one turn."""
    shown = messages[-SHOWN_TURNS:]
    if len(shown) == 1 and shown[0]["role"] == "user":
        return f'<div class="said" dir="auto">{_cut(shown[0]["content"])}</div>'
    return "".join(
        f'<div class="turn {_role_class(m["role"])}"><span class="label">'
        f"{exact(ROLE_LABELS.get(m['role'], m['role']))}</span>"
        f'<div class="said" dir="auto">{_cut(m["content"])}</div></div>'
        for m in shown
    )


def _cut(text: str) -> str:
    body, note = answer_text(text)
    return exact(body) + (f'<span class="cut"> … {note}</span>' if note else "")


def _role_class(role: str) -> str:
    return role if role in ROLE_LABELS else "other"
