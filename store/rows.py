"""Rows and errors that every layer shares. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypedDict

Role = Literal["annotator", "researcher", "admin"]
Source = Literal["human", "simulated", "import"]
Verdict = Literal["left", "right", "tie", "both_bad", "skip", "flag", "ranked"]
Kind = Literal["pair", "four", "conversation"]  # of what is on one screen
Mode = Literal["pair", "best_worst", "conversation"]  # of a pool
RunKind = Literal["sft", "rm", "dpo", "kto", "round"]
RunStatus = Literal["queued", "running", "paused", "done", "failed", "cancelled"]
PolicyStatus = Literal["candidate", "champion", "retired", "rejected"]

# Each role may do what those before it may.
ROLES: tuple[Role, ...] = ("annotator", "researcher", "admin")
VERDICTS: tuple[Verdict, ...] = ("left", "right", "tie", "both_bad", "skip", "flag", "ranked")
MODES: tuple[Mode, ...] = ("pair", "best_worst", "conversation")
# Sources of prompts that came with something else: sampled only once they are imported as prompts.
NOT_SAMPLED = ("preferences", "conversation")
RUN_KINDS: tuple[RunKind, ...] = ("sft", "rm", "dpo", "kto", "round")


class PrefloopError(Exception):
    """Something the user can act on. The command line shows str(error) as it is; pages show the
    sentence `error.KEY` of their catalogues, with the values in it, where there is a key."""

    def __init__(self, message: str = "", key: str | None = None, **values: str | int) -> None:
        super().__init__(message)
        self.key, self.values = key, values


class NotFound(PrefloopError):
    """The named thing does not exist (HTTP 404)."""


class Conflict(PrefloopError):
    """The request is fine but comes too late or twice (HTTP 409)."""


class Invalid(PrefloopError):
    """The values of a request or of a file cannot be used (HTTP 422)."""


class StoreBusy(PrefloopError):
    """Another process holds the data directory."""


class StoreDown(PrefloopError):
    """The store cannot write; nothing was acknowledged."""


class Message(TypedDict):
    role: str
    content: str


@dataclass(frozen=True)
class User:
    user_id: str
    name: str
    role: Role
    source: Source
    active: bool
    languages: tuple[str, ...] = ()  # that this person can judge; none named: every one
    goal: int | None = None  # picks a day; None: the configured one

    def may(self, role: Role) -> bool:
        return self.active and ROLES.index(self.role) >= ROLES.index(role)


@dataclass(frozen=True)
class Completion:
    """One sampled answer with everything needed to score or repeat it."""

    text: str
    token_ids: list[int] = field(default_factory=list)
    logprob_sum: float | None = None  # natural log, before temperature and top-p
    logprob_count: int | None = None  # tokens in logprob_sum
    finish_reason: str | None = None
    policy_id: str | None = None  # None: imported, no policy of ours wrote it
    seed: int | None = None
    sampling: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Policy:
    policy_id: str
    status: PolicyStatus
    parent: str | None
    run_id: str | None
    base_model: str
    adapter_path: str
    adapter_sha256: str
    created: datetime
    reason: str | None  # of the last promotion, rejection or rollback
    retired_for_good: bool  # by a person; a past champion, which is retired too, can serve again


@dataclass(frozen=True)
class Run:
    run_id: str
    kind: RunKind
    status: RunStatus
    parent_run_id: str | None  # the round that this run is a part of
    config: dict[str, Any]
    created: datetime
    changed: datetime  # of the last event
    reason: str | None
    policy_id: str | None
    verdict: str | None  # promoted | rejected
    metrics: dict[str, Any]


def utc_now() -> datetime:
    """Naive UTC: DuckDB TIMESTAMP has no zone, and the store holds UTC only."""
    return datetime.now(UTC).replace(tzinfo=None)


def is_text(value: str) -> bool:
    """False for lone surrogates, which JSON can carry and UTF-8 cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
