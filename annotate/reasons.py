"""Reasons of runs and policies in the reader's language.

The store keeps them as English sentences, which the command line and the API show. The sentences
that the loop writes by itself are known here; what is not known stays English.
"""

from __future__ import annotations

import re
from functools import partial

from annotate.language import FALLBACK, translate

SHARE = r"(\d+%)"
PATTERNS = {
    "base": r"The base model, to start from\.",
    "orders": rf"It orders {SHARE} of (\d+) held-out picks as people did "
    rf"\(more than {SHARE} is asked\)\.",
    "sound": r"Its answers are sound\.",
    "not_whole": r"A probe answer is empty or missing\.",
    "words": r"Its answers have (\d+) words, the champion's (\d+)\.",
    "cut": rf"{SHARE} of its answers ran into the length limit, the champion's {SHARE}\.",
    "repeated": rf"{SHARE} of its word triples repeat within an answer, the champion's {SHARE}\.",
    "distinct": rf"{SHARE} of its probe answers are distinct\.",
    "not_judged": r"Not judged:",
    "promoted": r"Promoted by hand\.",
    "rolled_back": r"Rolled back by hand\.",
    "retired": r"Retired by hand\.",
    "candidate": r"(policy-\d+) is a candidate; promote it to let it serve\.",
    "cancelled_early": r"Cancelled before it started\.",
    "stopped": r"Stopped on request\.",
    "app_ended": r"The app (?:ended|was stopped) while it ran\. Start the run again\.",
    "few_picks": r"Training needs at least (\d+) picks with a better side; there are (\d+)\. "
    r"Annotate some more\.",
    "few_prompts": r"The picks come from too few prompts to hold some out "
    r"\((\d+) rows to train on, (\d+) held out\)\. Annotate pairs of more prompts\.",
    "server_down": r"The policy server is not up, so the new policy was not judged\.",
}
VERDICTS = ("Promoted: ", "Rejected: ")


def why(reason: str | None, lang: str) -> str:
    """The reason without the verdict that a chip beside it already says."""
    told = reason or ""
    for verdict in VERDICTS:
        told = told.removeprefix(verdict)
    if lang == FALLBACK:
        return told
    for name, pattern in PATTERNS.items():
        told = re.sub(pattern, partial(_sentence, lang, name), told)
    return re.sub("(?<=[。：]) ", "", told)


def _sentence(lang: str, name: str, found: re.Match[str]) -> str:
    """Its values are named by their places: {a}, {b}, {c}."""
    values = dict(zip("abc", found.groups(), strict=False))
    return translate(lang, f"research.why.{name}", **values)
