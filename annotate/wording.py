"""Words and numbers of the research page. Pure functions; HTML only where the name says so."""

from __future__ import annotations

from datetime import datetime
from html import escape
from typing import Any

from store.rows import utc_now

KIND = {"rm": "Reward model", "dpo": "DPO policy", "round": "Round"}
TONES = {
    "running": "blue",
    "done": "good",
    "failed": "bad",
    "candidate": "blue",
    "champion": "good",
    "rejected": "bad",
    "promoted": "good",
}


def chip_html(text: str, tone: str = "") -> str:
    return f'<span class="chip {tone}">{escape(text)}</span>'


def more_html(left_out: int) -> str:
    return f'<p class="sub more">{left_out:,} older ones are not shown.</p>' if left_out > 0 else ""


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def span(seconds: float) -> str:
    seconds = max(0, round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def ago(then: datetime) -> str:
    seconds = (utc_now() - then).total_seconds()
    for size, word in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if (count := int(seconds // size)) > 0:
            return f"{count} {word}{'s' if count > 1 else ''} ago"
    return "just now"


def plural(count: int, word: str) -> str:
    return f"{count:,} {word}" + ("" if count == 1 else "s")


def accuracy(metrics: dict[str, Any]) -> str:
    """Held-out accuracy with its interval, or an empty text."""
    value, low, high = (metrics.get(k) for k in ("accuracy", "accuracy_low", "accuracy_high"))
    if not isinstance(value, (int, float)):
        return ""
    if isinstance(low, (int, float)) and isinstance(high, (int, float)):
        return f"{percent(value)} [{100 * low:.1f}, {100 * high:.1f}]"
    return percent(value)


def rows_used(metrics: dict[str, Any]) -> list[str]:
    names = (
        ("rows_train", "{} to train on"),
        ("rows_eval", "{} held out"),
        ("rows_too_long", "{} too long"),
        ("rows_identical", "{} identical"),
        ("rows_cut", "{} cut short"),
    )
    values = ((metrics.get(key), words) for key, words in names)
    facts = [w.format(f"{v:,}") for v, w in values if isinstance(v, int) and (v or "train" in w)]
    picks = metrics.get("picks")
    if isinstance(picks, dict) and isinstance(ties := picks.get("tie"), int) and ties:
        facts.append(f"{plural(ties, 'tie')} left out")
    return facts


def why(reason: str | None) -> str:
    """The reason without the verdict that a chip beside it already says."""
    return (reason or "").removeprefix("Promoted: ").removeprefix("Rejected: ")
