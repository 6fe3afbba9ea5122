"""The languages of the pages: one flat JSON catalogue per language in static/locales.

A new language is a new file. A key that a catalogue lacks is shown in English. Plurals are two
keys, `key.one` and `key.other`; `{name}` marks a value to fill in.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

from fastapi import Request

LOCALES = Path(__file__).parent / "static" / "locales"
COOKIE = "prefloop_lang"
FALLBACK = "en"


@cache
def languages() -> tuple[str, ...]:
    """Codes of all catalogues, English first."""
    codes = sorted(path.stem for path in LOCALES.glob("*.json"))
    return tuple(sorted(codes, key=lambda code: code != FALLBACK))


@cache
def catalogue(lang: str) -> dict[str, str]:
    """Every English key, in `lang` where that language has it."""
    known = json.loads((LOCALES / f"{FALLBACK}.json").read_text("utf-8"))
    if lang not in languages() or lang == FALLBACK:
        return known
    return known | json.loads((LOCALES / f"{lang}.json").read_text("utf-8"))


def translate(lang: str, key: str, **values: object) -> str:
    """The sentence behind `key`; the key itself where no catalogue has it. An integer `n` chooses
    between `key.one` and `key.other`, and integers get separators."""
    sentences = catalogue(lang)
    form = "one" if values.get("n") == 1 else "other"
    sentence = sentences.get(f"{key}.{form}") if "n" in values else None
    sentence = sentence or sentences.get(key) or sentences.get(f"{key}.other") or key
    shown = {name: f"{v:,}" if isinstance(v, int) else str(v) for name, v in values.items()}
    return re.sub(r"\{(\w+)\}", lambda hole: shown.get(hole[1], hole[0]), sentence)


def language_of(request: Request) -> str:
    """What the reader chose, else the browser's first language that has a catalogue."""
    accepted = request.headers.get("accept-language", "")[:200]
    for wanted in (request.cookies.get(COOKIE, ""), *re.split(r"[,;]", accepted)):
        match = _matching(wanted.strip())
        if match is not None:
            return match
    return FALLBACK


def _matching(wanted: str) -> str | None:
    """'zh-TW' is served by 'zh-CN': another script reads better than another language."""
    if wanted in languages():
        return wanted
    base = wanted.partition("-")[0].lower()
    return next((code for code in languages() if base and code.partition("-")[0] == base), None)
