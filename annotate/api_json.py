"""What goes in and out of the HTTP API as JSON. A field that is not named here is refused."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from annotate.research import Research
from annotate.views import PairView
from store import pairs
from store.rows import Policy, Role, Run, Verdict


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
    ms_spent: Annotated[int, Field(ge=0, le=86_400_000)] | None = None


class RunIn(Body):
    kind: Literal["rm", "dpo", "round"]
    set: dict[str, str | int | float | bool] = {}


class SampleIn(Body):
    messages: list[dict[str, Any]]
    n: Annotated[int, Field(ge=1, le=16)] = 1
    max_tokens: Annotated[int, Field(ge=1, le=32_768)] = 256
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


class UserIn(Body):
    name: str
    role: Role = "annotator"
    source: Literal["human", "simulated"] = "human"


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
        "imported": seen.statistics["imported"],
        "agreement": seen.agreement,
        "ready_pairs": pairs.ready(research.store),
    }


def pair_json(pair: PairView) -> dict[str, Any]:
    return {
        "pair_id": pair.pair_id,
        "prompt": pair.prompt,
        "left": {"text": pair.left},
        "right": {"text": pair.right},
        "lease_expires": iso(pair.lease_expires),
    }


def policy_json(policy: Policy) -> dict[str, Any]:
    return asdict(policy) | {"created": iso(policy.created)}


def run_json(run: Run) -> dict[str, Any]:
    return asdict(run) | {"created": iso(run.created), "changed": iso(run.changed)}


def iso(moment: datetime) -> str:
    return moment.isoformat() + "Z"


def naive_utc(moment: datetime | None) -> datetime | None:
    """As the store holds times; a moment without a zone is taken as UTC."""
    if moment is None or moment.tzinfo is None:
        return moment
    return moment.astimezone(UTC).replace(tzinfo=None)
