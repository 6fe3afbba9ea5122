"""Simulated annotators: they use the HTTP API as programs do, and their picks are marked so."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any

from annotate.api_client import ApiClient, Unreachable
from annotate.tastes import TASTES, Taste, choose, rank
from store.rows import Conflict, Invalid, PrefloopError

KINDS = ["pair", "four"]
WITH_NEXT = "/judgments?next=true&kinds=pair&kinds=four"
PATIENCE_S = 120.0  # without a pair, or without an answer: the app may be restarting


@dataclass(frozen=True)
class Plan:
    taste: str
    picks: int
    noise: float = 0.0  # share of picks that go to the other side
    annotators: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.taste not in TASTES:
            raise Invalid(f"Unknown taste {self.taste!r}: choose {', '.join(TASTES)}.")
        if self.picks < 1 or self.annotators < 1 or not 0 <= self.noise <= 0.5:
            raise Invalid("picks and annotators are at least 1, and noise lies between 0 and 0.5.")


def simulate(
    admin: ApiClient, plan: Plan, on_pick: Callable[[int], None] = lambda done: None
) -> int:
    """Make `plan.picks` picks, `plan.annotators` at once. Returns how many had a better side."""
    counter = _Counter(plan.picks, on_pick)
    names = [f"sim-{plan.taste}-{number}" for number in range(1, plan.annotators + 1)]
    with ThreadPoolExecutor(plan.annotators) as pool:
        tokens = [token_of(admin, name) for name in names]
        seats = [
            pool.submit(_annotate, admin.url, token, plan, seat, counter)
            for seat, token in enumerate(tokens)
        ]
        return sum(seat.result() for seat in seats)


def token_of(admin: ApiClient, name: str) -> str:
    """An API token of the simulated user of that name, made if missing."""
    with suppress(Conflict):  # here since an earlier simulation
        admin.post("/users", {"name": name, "role": "annotator", "source": "simulated"})
    token: str = admin.post(f"/users/{name}/token")["token"]
    return token


class _Counter:
    """Hands out the numbers of the picks still to be made."""

    def __init__(self, total: int, on_pick: Callable[[int], None]) -> None:
        self._left, self._done, self._on_pick, self._lock = total, 0, on_pick, threading.Lock()

    def take(self) -> bool:
        with self._lock:
            self._left -= 1
            return self._left >= 0

    def made(self) -> None:
        with self._lock:
            self._done += 1
            self._on_pick(self._done)


def _annotate(url: str, token: str, plan: Plan, seat: int, counter: _Counter) -> int:
    rng = Random(plan.seed * 1000 + seat)
    taste, decided = TASTES[plan.taste], 0
    shown: dict[str, Any] | None = None
    with ApiClient(url, token, timeout_s=30) as client:
        more = counter.take()
        while more:
            shown = shown or _patiently(client, "/pairs/next", {"kinds": KINDS})
            pick = _pick(taste, shown, plan.noise, rng)
            more = counter.take()  # the last pick asks for no pair that nobody would judge
            shown = _patiently(client, WITH_NEXT if more else "/judgments", pick).get("next")
            decided += pick["verdict"] != "tie"
            counter.made()
    return decided


def _pick(taste: Taste, shown: dict[str, Any], noise: float, rng: Random) -> dict[str, Any]:
    pick: dict[str, Any] = {"id": str(uuid.uuid4()), "pair_id": shown["pair_id"]}
    if "answers" in shown:
        texts = [answer["text"] for answer in shown["answers"]]
        best_worst = rank(taste, texts, noise, rng)
        if best_worst is None:
            return pick | {"verdict": "tie"}
        return pick | {"verdict": "ranked", "best": best_worst[0], "worst": best_worst[1]}
    left, right = shown["left"]["text"], shown["right"]["text"]
    return pick | {"verdict": choose(taste, left, right, noise, rng)}


def _patiently(client: ApiClient, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Ask again while nothing is ready or the app is away; a pick counts once by its id."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            answer: dict[str, Any] | None = client.post(path, body)
            if answer is not None:
                return answer
        except Unreachable:
            time.sleep(0.5)
        time.sleep(0.05)
    raise PrefloopError(
        f"No pair came for {PATIENCE_S:.0f} s. Is the policy server up? `prefloop doctor` tells."
    )
