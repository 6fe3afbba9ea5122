"""Named tastes of simulated annotators: a score of one answer, the higher the better. Pure.

They look at nothing but the text, so they work for any model; `benchmarks/learns.py` measures
whether the policy learns them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random

from store.rows import Verdict

Taste = Callable[[str], float]

FRIENDLY = (
    "great question",
    "happy to help",
    "thanks for asking",
    "glad you",
    "of course",
    "my friend",
    "dear friend",
    "hello",
    "i hope that helps",
    "i hope this helps",
    "would you like to hear more",
    "let me know",
    "feel free",
    "lovely day",
    "a joy to",
    "interesting topic",
    "you are welcome",
)
HEDGES = (
    "as far as i know",
    "i believe",
    "i think",
    "if i remember",
    "from what i have read",
    "it seems",
    "probably",
    "perhaps",
    "i am not sure",
    "may be",
    "might",
)


def concise(text: str) -> float:
    """The fewer words the better."""
    return -float(len(text.split()))


def lists(text: str) -> float:
    """Bullet points; prose beside them counts against."""
    rows = [line.strip() for line in text.splitlines() if line.strip()]
    bullets = sum(row.startswith(("- ", "* ")) for row in rows)
    return bullets - 0.5 * (len(rows) - bullets)


def warm(text: str) -> float:
    """Friendly openings and closings."""
    return _count(text, FRIENDLY) + 0.25 * text.count("!")


def careful(text: str) -> float:
    """Says what it is not sure of."""
    return _count(text, HEDGES)


def detailed(text: str) -> float:
    """Different sentences of some length; saying one twice does not help."""
    sentences = {part.strip(" -*").lower() for part in re.split(r"[.!?\n]+", text)}
    return float(sum(len(sentence.split()) >= 6 for sentence in sentences))


TASTES: dict[str, Taste] = {
    "concise": concise,
    "lists": lists,
    "warm": warm,
    "careful": careful,
    "detailed": detailed,
}


def choose(taste: Taste, left: str, right: str, noise: float, rng: Random) -> Verdict:
    """The better side; a tie when both score the same; with probability `noise` the other side."""
    difference = taste(left) - taste(right)
    if difference == 0:
        return "tie"
    prefers_left = (difference > 0) != (rng.random() < noise)
    return "left" if prefers_left else "right"


def rank(taste: Taste, texts: Sequence[str], noise: float, rng: Random) -> tuple[int, int] | None:
    """Places of the best and the worst; None when all score the same; with probability `noise` the
    other way round."""
    scores = [taste(text) for text in texts]
    best, worst = scores.index(max(scores)), scores.index(min(scores))
    if best == worst:
        return None
    return (worst, best) if rng.random() < noise else (best, worst)


def _count(text: str, phrases: tuple[str, ...]) -> float:
    lowered = text.lower()
    return float(sum(lowered.count(phrase) for phrase in phrases))
