"""An annotator's own numbers, the team's, and what the picks have trained.

Hundreds of pages ask with every pick, so the numbers that go over everybody's picks are kept for a
short while; own picks are counted each time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from store import statistics
from store.database import Store
from store.rows import User
from store.statistics import OwnStatistics, TeamStatistics, TrainedWith

T = TypeVar("T")
TEAM_S = 2.0  # seconds that the team's numbers are kept
TRAINED_S = 30.0
EAST_MIN, WEST_MIN = 14 * 60, -12 * 60  # clocks of the world against UTC


@dataclass(frozen=True)
class Progress:
    today: int
    goal: int
    total: int
    median_seconds: float | None  # of today's picks; None before the first
    streak_days: int
    team: TeamView
    trained: TrainedWith | None  # the one policy that an annotator may know by name


@dataclass(frozen=True)
class TeamView:
    today: int
    total: int
    annotators: int
    board: list[dict[str, Any]] | None  # {name, today}; None unless configured


class ProgressBook:
    """Thread-safe. A day is one of the annotator's own, by the clock that their page named."""

    def __init__(self, store: Store, goal: int, leaderboard: bool) -> None:
        self.store, self.goal, self.leaderboard = store, goal, leaderboard
        self._offsets: dict[str, int] = {}  # user id: minutes ahead of UTC
        self._team: Kept[TeamStatistics] = Kept(TEAM_S)
        self._trained: Kept[TrainedWith | None] = Kept(TRAINED_S)

    def set_clock(self, user_id: str, utc_offset_min: int) -> None:
        self._offsets[user_id] = max(WEST_MIN, min(EAST_MIN, utc_offset_min))

    def own(self, user_id: str) -> OwnStatistics:
        return statistics.own(self.store, user_id, self._offsets.get(user_id, 0))

    def of(self, user: User) -> Progress:
        user_id = user.user_id
        own, offset = self.own(user_id), self._offsets.get(user_id, 0)
        team = self._team.get(offset, lambda: statistics.team(self.store, offset))
        return Progress(
            today=own.today,
            goal=user.goal or self.goal,
            total=own.total,
            median_seconds=own.median_seconds,
            streak_days=own.streak_days,
            team=self._team_view(team),
            trained=self._trained.get(
                user_id, lambda: statistics.trained_with(self.store, user_id)
            ),
        )

    def _team_view(self, team: TeamStatistics) -> TeamView:
        board = [{"name": name, "today": today} for name, today in team.board]
        return TeamView(
            team.today, team.total, team.annotators, board if self.leaderboard else None
        )


class Kept(Generic[T]):
    """Values by key, each worked out again when it is older than `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._values: dict[Hashable, tuple[float, T]] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        with self._lock:  # held while it is made: the others wait for it rather than make it too
            known = self._values.get(key)
            if known is None or time.monotonic() - known[0] > self.seconds:
                known = self._values[key] = (time.monotonic(), make())
            return known[1]
