"""What the pages and the HTTP API show: plain frozen values, made by desk.py and research.py."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from store.rows import Message, Policy, Run
from train.policy.server import State


@dataclass(frozen=True)
class PairView:
    """One blind pair. Nothing here tells which policy or seed made a side."""

    pair_id: str
    prompt: list[Message]
    left: str
    right: str
    lease_expires: datetime  # UTC


@dataclass(frozen=True)
class AnnotatorProgress:
    today: int
    total: int
    median_seconds: float | None  # of today's picks; None before the first


@dataclass(frozen=True)
class Overview:
    """Everything that the research page shows except the curves of a run."""

    server_state: State
    server_note: str  # one sentence when it is not up
    champion: Policy | None
    picks: int  # live, human and simulated
    picks_since_round: int
    annotators: int
    median_seconds: float | None
    agreement: float | None  # Krippendorff's alpha; None until it is computed
    round_every: int  # picks
    next_round_in: int  # picks still missing
    prompts: int
    runs: list[Run]  # newest first
    policies: list[Policy]  # newest first
    statistics: dict[str, Any]
