"""How long a text is, in words. Pure; no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable
from statistics import quantiles

# Chinese and Japanese stand without spaces: each character counts as a word.
_CHARACTERS = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_CHARACTERS}]|[^\s{_CHARACTERS}]+")
FEWEST = 20  # texts, below which their 5th percentile would be that of one text


def words(text: str) -> list[str]:
    return _WORD.findall(text)


def usual_words(texts: Iterable[str]) -> tuple[float, float] | None:
    """From the 5th to the 95th percentile of the words of a text; None for a few texts."""
    lengths = [len(words(text)) for text in texts]
    if len(lengths) < FEWEST:
        return None
    cuts = quantiles(lengths, n=20)
    return cuts[0], cuts[-1]
