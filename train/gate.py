"""Whether a candidate may serve. Pure: values in, a verdict with its reasons out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any

from store.rows import Completion
from train.interval import wilson
from train.words import words


@dataclass(frozen=True)
class GateConfig:
    least_accuracy: float = 0.5  # share of held-out picks that its implicit reward orders rightly
    longest_ratio: float = 3.0  # mean length against the champion's
    shortest_words: float = 3.0  # mean words of an answer
    most_cut: float = 0.25  # share of answers that ran into max_tokens
    most_repeated: float = 0.35  # share of word triples that stand twice in one answer
    least_distinct: float = 0.5  # distinct answers among the probes


@dataclass(frozen=True)
class Check:
    name: str
    passed: bool
    sentence: str


@dataclass(frozen=True)
class Verdict:
    promoted: bool
    reason: str
    checks: list[Check]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def judge(
    accuracy: float,
    rows_eval: int,
    candidate: Sequence[Completion],
    champion: Sequence[Completion],
    config: GateConfig,
    picked: Sequence[float] | None = None,
) -> Verdict:
    """`candidate` and `champion` are answers to the same probe prompts. Every check must pass.

    `picked`: from where to where the lengths of the answers go that people picked, in words.
    """
    checks = [_accuracy(accuracy, rows_eval, config), _finite(candidate)]
    if candidate:
        checks += _lengths(candidate, champion, config, picked)
        checks += [_repetition(candidate, champion, config), _distinct(candidate, config)]
    failed = [check.sentence for check in checks if not check.passed]
    reason = (
        "Rejected: " + " ".join(failed)
        if failed
        else "Promoted: " + checks[0].sentence + " Its answers are sound."
    )
    return Verdict(not failed, reason, checks)


def repeated_share(text: str) -> float:
    """Share of word triples that stood in the text before."""
    said = words(text.lower())
    triples = list(zip(said, said[1:], said[2:], strict=False))
    return 1 - len(set(triples)) / len(triples) if triples else 0.0


def _accuracy(accuracy: float, rows: int, config: GateConfig) -> Check:
    low, high = wilson(accuracy, rows)
    sentence = (
        f"It orders {accuracy:.0%} of {rows} held-out picks as people did (95% interval {low:.0%} "
        f"to {high:.0%}; more than {config.least_accuracy:.0%} is asked)."
    )
    return Check("held-out accuracy", accuracy > config.least_accuracy, sentence)


def _finite(candidate: Sequence[Completion]) -> Check:
    """The client refuses answers without finite log-probabilities: none means sampling failed."""
    whole = bool(candidate) and all(c.text.strip() for c in candidate)
    sentence = "All probe answers are whole." if whole else "A probe answer is empty or missing."
    return Check("whole answers", whole, sentence)


def _lengths(
    candidate: Sequence[Completion],
    champion: Sequence[Completion],
    config: GateConfig,
    picked: Sequence[float] | None,
) -> list[Check]:
    """A policy that learns "shorter" or "longer" may go on where no answer was that people picked;
    one that comes back from there may serve. A few probes tell its mean within an error, and with
    that it must be inside, at most a quarter of the range from an end."""
    mine, theirs = _words(candidate), _words(champion)
    ratio = mine / max(theirs, 1.0)
    sentence = f"Its answers have {mine:.0f} words, the champion's {theirs:.0f}"
    inside = True
    if picked:
        low, high = picked
        error = _error(candidate)
        spare = min(error, (high - low) / 4)
        inside = min(low + spare, theirs) <= mine <= max(high - spare, theirs)
        sentence = (
            f"Its answers have {mine:.0f} ± {error:.0f} words, the champion's {theirs:.0f}, "
            f"those that people picked {low:.0f} to {high:.0f}"
        )
    cut, theirs_cut = _cut(candidate), _cut(champion)
    return [
        Check(
            "length",
            mine >= config.shortest_words and ratio <= config.longest_ratio and inside,
            f"{sentence}.",
        ),
        Check(
            "endings",
            cut <= max(config.most_cut, theirs_cut),
            f"{cut:.0%} of its answers ran into the length limit, the champion's {theirs_cut:.0%}.",
        ),
    ]


def _repetition(
    candidate: Sequence[Completion], champion: Sequence[Completion], config: GateConfig
) -> Check:
    mine, theirs = (
        fmean([repeated_share(c.text) for c in side] or [0.0]) for side in (candidate, champion)
    )
    sentence = (
        f"{mine:.0%} of its word triples repeat within an answer, the champion's {theirs:.0%}."
    )
    return Check("repetition", mine <= max(config.most_repeated, theirs), sentence)


def _distinct(candidate: Sequence[Completion], config: GateConfig) -> Check:
    share = len({c.text for c in candidate}) / len(candidate)
    return Check(
        "variety", share >= config.least_distinct, f"{share:.0%} of its probe answers are distinct."
    )


def _cut(answers: Sequence[Completion]) -> float:
    return fmean([c.finish_reason == "length" for c in answers] or [0.0])


def _words(answers: Sequence[Completion]) -> float:
    return fmean([len(words(c.text)) for c in answers] or [0.0])


def _error(answers: Sequence[Completion]) -> float:
    """Standard error of the mean number of words."""
    lengths = [len(words(c.text)) for c in answers]
    return stdev(lengths) / math.sqrt(len(lengths)) if len(lengths) > 1 else 0.0
