"""Words and numbers of the research page in the reader's language. Pure functions; HTML only where
the name says so."""

from __future__ import annotations

from datetime import datetime
from html import escape
from typing import Any

from annotate.language import translate
from store.rows import utc_now

TONES = {
    "running": "blue",
    "paused": "warn",
    "failed": "bad",
    "candidate": "blue",
    "champion": "good",
    "rejected": "bad",
    "promoted": "good",
}
HOUR, DAY = 3600, 86400  # seconds
ROWS = (
    *("rows_train", "rows_eval", "rows_too_long", "rows_identical", "rows_cut"),
    *("rows_refused", "rows_alike"),
)


def chip_html(text: str, tone: str = "") -> str:
    return f'<span class="chip {tone}">{escape(text)}</span>'


def state_html(state: str, lang: str) -> str:
    return chip_html(state_of(state, lang), TONES.get(state, ""))


def state_of(state: str, lang: str) -> str:
    """Of a run or a policy."""
    return translate(lang, f"research.state.{state}")


def kind_of(kind: str, lang: str) -> str:
    """Of a run."""
    return translate(lang, f"research.kind.{kind}")


def more_html(left_out: int, lang: str) -> str:
    if left_out <= 0:
        return ""
    return f'<p class="sub more">{escape(translate(lang, "research.older", n=left_out))}</p>'


def percent(value: float) -> str:
    return f"{100 * value:.1f}".removesuffix(".0") + "%"


def span(seconds: float, lang: str) -> str:
    seconds = max(0, round(seconds))
    if seconds < 60:
        return translate(lang, "research.span.s", s=seconds)
    if seconds < 3600:
        return translate(lang, "research.span.min", min=seconds // 60, s=seconds % 60)
    return translate(lang, "research.span.h", h=seconds // 3600, min=seconds % 3600 // 60)


def ago(then: datetime, lang: str) -> str:
    seconds = (utc_now() - then).total_seconds()
    for least, size, unit in ((2 * DAY, DAY, "day"), (HOUR, HOUR, "hour"), (60, 60, "minute")):
        if seconds >= least:
            return translate(lang, f"research.ago.{unit}", n=int(seconds // size))
    return translate(lang, "research.ago.now")


def accuracy(metrics: dict[str, Any]) -> str:
    """Held-out accuracy with its interval, or an empty text."""
    value, low, high = (metrics.get(k) for k in ("accuracy", "accuracy_low", "accuracy_high"))
    if not isinstance(value, (int, float)):
        return ""
    if isinstance(low, (int, float)) and isinstance(high, (int, float)):
        return f"{percent(value)} [{percent(low)}, {percent(high)}]"
    return percent(value)


def rows_used(metrics: dict[str, Any], lang: str) -> list[str]:
    values = ((key, metrics.get(key)) for key in ROWS)
    facts = [
        translate(lang, f"research.{key}", n=value)
        for key, value in values
        if isinstance(value, int) and (value or key == "rows_train")
    ]
    if isinstance(ties := metrics.get("ties_dropped"), int) and ties:
        facts.append(translate(lang, "research.ties_left_out", n=ties))
    return facts
