"""A pick as it was frozen, and the rows that trainers learn from. Pure; no torch.

A pick is what one person said about two answers, or about four; `train/rules.py` makes rows of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from store.rows import Message, Source, Verdict

# Why a pick gives no row. Where several reasons hold, the first of them is counted.
Reason = Literal[
    "skip",
    "flag",
    "not_last_turn",
    "tie",
    "both_bad",
    "no_edit",
    "empty",
    "identical",
    "cut",
]
REASONS: tuple[Reason, ...] = get_args(Reason)
Origin = Literal["pick", "tie", "edit", "ranked", "both_bad"]
ORIGINS: tuple[Origin, ...] = get_args(Origin)
PEOPLES: tuple[Origin, ...] = ("pick", "ranked")  # which of the model's answers is better


@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    cut: bool  # ended by max_tokens: there is no end to learn


@dataclass(frozen=True, slots=True)
class Pick:
    """One row of train.parquet or eval.parquet. Answers are counted from 0."""

    judgment_id: str
    pair_id: str
    prompt_id: str
    user_id: str
    pool: str | None  # name
    source: Source
    verdict: Verdict
    strength: int | None
    turn: int | None  # of a conversation
    last_turn: bool  # of the conversation's picks; true outside of conversations
    prompt: list[Message]
    answers: tuple[Answer, ...]  # two, or four
    better: int | None  # with left and right
    best: int | None  # with ranked
    worst: int | None
    edited_text: str | None  # the better or best answer as it should have been
    shown_left: int | None  # None: four answers, or never on a screen

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Pick:
        """From a row of the files, as DuckDB, pyarrow or datasets read it."""
        answers = tuple(Answer(one["text"], bool(one["cut"])) for one in row["answers"])
        return cls(**{**row, "answers": answers})


@dataclass(frozen=True, slots=True)
class PairRow:
    prompt: list[Message]
    chosen: str
    rejected: str
    p: float  # probability that `chosen` is the better one
    weight: float
    origin: Origin
    rejected_cut: bool = False


@dataclass(frozen=True, slots=True)
class Comparison:
    """Of two answers of one row, by their places in it."""

    better: int
    worse: int
    p: float
    margin: float
    origin: Origin = "pick"


@dataclass(frozen=True, slots=True)
class RankingRow:
    """All answers of one pick: K forwards and one loss, so that a pick of four counts as one."""

    prompt: list[Message]
    answers: list[str]
    comparisons: list[Comparison]
    weight: float
    origin: Origin


@dataclass(frozen=True, slots=True)
class AnswerRow:
    prompt: list[Message]
    answer: str
    good: bool
    origin: Origin
    cut: bool = False  # of bad ones only


@dataclass(frozen=True, slots=True)
class ExampleRow:
    prompt: list[Message]
    answer: str
    origin: Origin


Row: TypeAlias = PairRow | RankingRow | AnswerRow | ExampleRow
