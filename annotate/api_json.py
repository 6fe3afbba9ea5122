"""What goes in and out of the HTTP API as JSON. A field that is not named here is refused."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from annotate.accounts import WrongPassword
from annotate.conversations import TurnFailed, TurnRefused
from store import pairs
from store.ids import is_uuid
from store.judgments import NewJudgment
from store.pairs import Lease
from store.rows import (
    Conflict,
    Invalid,
    NotFound,
    Policy,
    PrefloopError,
    Run,
    RunKind,
    Verdict,
)
from train.triggers import next_up

if TYPE_CHECKING:  # it makes JSON too
    from annotate.research import Research

CODES: dict[type[PrefloopError], str] = {
    NotFound: "not_found",
    Conflict: "conflict",
    Invalid: "invalid",
    WrongPassword: "wrong_password",
    TurnRefused: "turn_refused",
    TurnFailed: "turn_failed",
}


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class JudgmentIn(Body):
    id: str
    pair_id: str = Field(max_length=64)
    verdict: Verdict
    strength: int | None = None
    reasons: list[str] = []
    comment: str | None = None
    edited_text: str | None = None
    best: int | None = None  # with the verdict ranked: places on the screen, 0 to 3
    worst: int | None = None
    ms_spent: Annotated[int, Field(ge=0, le=86_400_000)] | None = None
    guidelines_version: Annotated[int, Field(ge=1, lt=2**31)] | None = None


PairKind = Literal["pair", "four"]  # for programs; conversations belong to the page


class NextIn(Body):
    kinds: list[PairKind] = Field(default=["pair"], min_length=1)


class PlanIn(Body):
    kind: RunKind
    set: dict[str, str | int | float | bool] = {}


class RunIn(Body):
    kind: RunKind | None = None  # None: that of the run which is repeated
    set: dict[str, str | int | float | bool] = {}
    repeat_of: Annotated[str | None, Field(max_length=64)] = None


class SampleIn(Body):
    messages: list[dict[str, Any]]
    n: Annotated[int, Field(ge=1, le=16)] = 1
    max_tokens: Annotated[int, Field(ge=1, le=32_768)] = 256
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


class BackupIn(Body):
    out: str = Field(min_length=1, max_length=4096)


def overview_json(research: Research) -> dict[str, Any]:
    seen = research.overview()
    return {
        "server": seen.server_state,
        "server_note": seen.server_note,
        "picks": seen.picks,
        "policy": seen.champion.policy_id if seen.champion else None,
        "prompts": seen.prompts,
        "picks_since_last_run": seen.picks_since_round,
        "next_round": seen.next_round_in,
        "annotators": seen.annotators,
        "imported": seen.imported,
        "agreement": seen.agreement,
        "ready_pairs": pairs.ready(research.store),
        "queue": [run.run_id for run in research.loop.waiting()],
        "triggers": [asdict(trigger) for trigger in seen.triggers],
        "next_by": [trigger.name for trigger in next_up(seen.triggers)],
    }


def judgment_of(body: JudgmentIn) -> NewJudgment:
    """Raises Invalid."""
    if not is_uuid(body.id):
        raise Invalid("id must be a uuid that the client made.")
    values = body.model_dump(exclude={"id"})
    return NewJudgment(judgment_id=body.id, **values)


def pair_json(lease: Lease) -> dict[str, Any]:
    """A pair has `left` and `right`, a set of four has `answers` in the order on the screen."""
    texts = [{"text": text} for text in lease.texts]
    sides = {"answers": texts} if lease.kind == "four" else {"left": texts[0], "right": texts[1]}
    return {
        "pair_id": lease.pair_id,
        "prompt": lease.messages,
        **sides,
        "lease_expires": iso(lease.expires),
    }


def error_json(error: PrefloopError) -> dict[str, Any]:
    """The answer of a request that failed, see PrefloopError for `key` and `values`."""
    code = next((code for kind, code in CODES.items() if isinstance(error, kind)), "unavailable")
    told: dict[str, Any] = {"code": code, "message": str(error)}
    if error.key is not None:
        told |= {"key": error.key, "values": error.values}
    return {"error": told}


def policy_json(policy: Policy) -> dict[str, Any]:
    return asdict(policy) | {"created": iso(policy.created)}


def run_json(run: Run) -> dict[str, Any]:
    """Not by asdict(), which copies all metrics: a list of runs is asked for every other second."""
    return vars(run) | {"created": iso(run.created), "changed": iso(run.changed)}


def iso(moment: datetime) -> str:
    return moment.isoformat() + "Z"


def naive_utc(moment: datetime | None) -> datetime | None:
    """As the store holds times; a moment without a zone is taken as UTC."""
    if moment is None or moment.tzinfo is None:
        return moment
    return moment.astimezone(UTC).replace(tzinfo=None)
