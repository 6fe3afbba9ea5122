"""When a round starts by itself, and what is still missing. Pure: values in, a decision out.

Five triggers: enough new picks, an interval, a cron expression, drift (the reward model orders
fresh picks worse than it should), and a person. Each waits for its cool-down since the start of the
last round; that of an interval is the interval itself, and a person never has to wait.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Literal

from cronsim import CronSim, CronSimError

from store.rows import Invalid

Trigger = Literal["picks", "interval", "cron", "drift"]
COUNTED = ("picks", "minutes", "at")  # keys that say how long it still takes
LEAST = {
    "every_picks": 0,
    "every_minutes": 0,
    "drift_picks": 1,
    "picks_cooldown_minutes": 0,
    "cron_cooldown_minutes": 0,
    "drift_cooldown_minutes": 0,
    "probes": 1,
}


@dataclass(frozen=True)
class LoopConfig:
    every_picks: int = 100  # new picks that start a round; 0 turns this off
    every_minutes: int = 0  # a round after this long when there is any new pick; 0 turns this off
    cron: str = ""  # local time, such as "0 3 * * *"; a round then when there is any new pick
    drift_below: float = 0.0  # share of fresh picks that the reward model orders rightly; 0 is off
    drift_picks: int = 50  # fresh picks for one measurement; half of them must name a better answer
    picks_cooldown_minutes: int = 0  # since the last round began
    cron_cooldown_minutes: int = 0
    drift_cooldown_minutes: int = 60
    probes: int = 16  # prompts that the gate samples from the candidate and the champion

    def __post_init__(self) -> None:
        for key, least in LEAST.items():
            if getattr(self, key) < least:
                raise Invalid(f"loop.{key} must be at least {least}, not {getattr(self, key)}.")
        if not 0 <= self.drift_below < 1:
            raise Invalid(f"loop.drift_below is a share from 0 to 1, not {self.drift_below}.")
        if self.cron:
            next_time(self.cron, datetime(2000, 1, 1, tzinfo=UTC))  # only the form is checked

    def by_hand(self) -> LoopConfig:
        """Rounds start when a person asks for them and not otherwise."""
        return replace(self, every_picks=0, every_minutes=0, cron="", drift_below=0.0)


@dataclass(frozen=True)
class Drift:
    """How the newest reward model ordered picks that came after it."""

    accuracy: float
    picks: int | None  # that were scored, so without ties; None: it failed
    at: int  # new picks since the last round when it was measured


@dataclass(frozen=True)
class State:
    """What the triggers look at. Times are in UTC: within a local zone Python adds and compares
    what clocks show, which is an hour off when they change."""

    picks: int  # new since the last round began
    last_round: datetime  # when it began; the start of the app when there was none yet
    checked: datetime  # the look before this one: a cron time is met between two looks
    zone: tzinfo = UTC  # that cron expressions mean
    drift: Drift | None = None  # measured since the last round
    has_reward_model: bool = False
    held: str | None = None  # a paused round: who paused it wants the device for something else


@dataclass(frozen=True)
class TriggerState:
    """One trigger as people read it; pages know `key`, `message` is the same in English."""

    name: Trigger | Literal["person"]
    on: bool
    key: str
    message: str
    values: dict[str, Any] = field(default_factory=dict)
    due_in: float | None = None  # seconds; None: nobody knows
    cooldown: float = 0.0  # seconds that it still waits after the last round


def due(now: datetime, state: State, config: LoopConfig) -> Trigger | None:
    """The trigger that starts a round now; the caller knows that none waits or runs."""
    if not state.picks or state.held:
        return None
    if _enough_picks(state, config) and not cooldown(now, state, config.picks_cooldown_minutes):
        return "picks"
    if config.every_minutes and not cooldown(now, state, config.every_minutes):
        return "interval"
    if _cron_met(now, state, config) and not cooldown(now, state, config.cron_cooldown_minutes):
        return "cron"
    if _drifted(state, config) and not cooldown(now, state, config.drift_cooldown_minutes):
        return "drift"
    return None


def wants_measurement(state: State, config: LoopConfig) -> bool:
    """Whether fresh picks are to be scored: at most once in `drift_picks` new ones, and never while
    a round is paused, since the device may be wanted for something else."""
    if state.held:
        return False
    measured = state.drift.at if state.drift else 0
    enough = state.picks - measured >= config.drift_picks
    return bool(config.drift_below) and state.has_reward_model and enough


def cooldown(now: datetime, state: State, minutes: float) -> float:
    """Seconds until a round may follow the last one."""
    return max(0.0, (state.last_round + timedelta(minutes=minutes) - now).total_seconds())


def next_time(expression: str, after: datetime) -> datetime:
    """The first time of a cron expression after a moment, in its zone. Raises Invalid."""
    try:
        # In the hour that clocks repeat CronSim begins with its first half: a time that is over.
        return next(at for at in CronSim(expression, after) if at.timestamp() > after.timestamp())
    except (CronSimError, StopIteration):
        raise Invalid(
            f"loop.cron {expression!r} is no cron expression: write minute, hour, day, month and "
            'weekday, such as "0 3 * * *" for every night at three.'
        ) from None


def outlook(now: datetime, state: State, config: LoopConfig) -> list[TriggerState]:
    """All triggers in the order in which they are asked, each with what it waits for."""
    every = _each(now, state, config)
    if not state.held:
        return every
    told = f"Waits: {state.held} is paused."
    return [
        TriggerState(one.name, True, "held", told, {"run": state.held})
        if one.on and one.name != "person"
        else one
        for one in every
    ]


def next_up(told: Sequence[TriggerState]) -> list[TriggerState]:
    """Of an outlook what starts the next round, whichever comes first; empty: only a person."""
    on = [one for one in told if one.on and one.name != "person"]
    if due_now := [one for one in on if one.key == "now"]:
        return due_now[:1]
    return [one for one in on if one.key in COUNTED] or on[:1]


def _each(now: datetime, state: State, config: LoopConfig) -> list[TriggerState]:
    return [
        _picks_outlook(now, state, config),
        _interval_outlook(now, state, config),
        _cron_outlook(now, state, config),
        _drift_outlook(now, state, config),
        TriggerState("person", True, "person", "A person can start a round at any time.", {}, 0.0),
    ]


def _enough_picks(state: State, config: LoopConfig) -> bool:
    return bool(config.every_picks) and state.picks >= config.every_picks


def _cron_met(now: datetime, state: State, config: LoopConfig) -> bool:
    """Times that passed while the app was off, or during a cool-down, are left out."""
    if not config.cron:
        return False
    return next_time(config.cron, state.checked.astimezone(state.zone)) <= now


def _drifted(state: State, config: LoopConfig) -> bool:
    measured = state.drift
    if measured is None or (measured.picks or 0) < _least_scored(config):
        return False
    return measured.accuracy < config.drift_below


def _least_scored(config: LoopConfig) -> int:
    """Picks below which a measurement says nothing: a single wrong one would start a round."""
    return math.ceil(config.drift_picks / 2)


def _off(name: Trigger) -> TriggerState:
    return TriggerState(name, False, "off", "Off.")


def _picks_outlook(now: datetime, state: State, config: LoopConfig) -> TriggerState:
    if not config.every_picks:
        return _off("picks")
    wait = cooldown(now, state, config.picks_cooldown_minutes)
    missing = max(0, config.every_picks - state.picks)
    if missing:
        values = {"n": missing, "every": config.every_picks}
        return TriggerState("picks", True, "picks", _more(missing), values, None, wait)
    return _ready("picks", wait)


def _interval_outlook(now: datetime, state: State, config: LoopConfig) -> TriggerState:
    if not config.every_minutes:
        return _off("interval")
    wait = cooldown(now, state, config.every_minutes)
    return _ready("interval", wait) if state.picks else _no_picks("interval", wait)


def _cron_outlook(now: datetime, state: State, config: LoopConfig) -> TriggerState:
    if not config.cron:
        return _off("cron")
    wait = cooldown(now, state, config.cron_cooldown_minutes)
    if not state.picks:
        return _no_picks("cron", wait)
    at = next_time(config.cron, (now + timedelta(seconds=wait)).astimezone(state.zone))
    values = {"time": f"{at:%Y-%m-%d %H:%M}", "cron": config.cron}
    message = f"At {values['time']}."
    return TriggerState("cron", True, "at", message, values, (at - now).total_seconds(), wait)


def _drift_outlook(now: datetime, state: State, config: LoopConfig) -> TriggerState:
    if not config.drift_below:
        return _off("drift")
    wait = cooldown(now, state, config.drift_cooldown_minutes)
    if not state.has_reward_model:
        message = "Needs a reward model first."
        return TriggerState("drift", True, "no_reward_model", message, {}, None, wait)
    if state.drift is None:
        missing = max(0, config.drift_picks - state.picks)
        message = f"{_more(missing)[:-1]} until the reward model is measured on them."
        return TriggerState("drift", True, "measure_in", message, {"n": missing}, None, wait)
    if _drifted(state, config):
        return _ready("drift", wait)
    return _measured(state.drift, config, wait)


def _measured(drift: Drift, config: LoopConfig, wait: float) -> TriggerState:
    """Why this measurement starts no round."""
    if drift.picks is None:
        message = "The fresh picks could not be scored; the app's log says why."
        return TriggerState("drift", True, "not_measured", message, {}, None, wait)
    if drift.picks < _least_scored(config):
        values = {"n": drift.picks, "least": _least_scored(config)}
        message = "Too few fresh picks name a better answer: {n}, and it takes {least}."
        return TriggerState("drift", True, "too_few", message.format(**values), values, None, wait)
    values = {
        "percent": round(100 * drift.accuracy),
        "n": drift.picks,
        "bound": round(100 * config.drift_below),
    }
    message = (
        f"The reward model orders {values['percent']} % of {values['n']} fresh picks rightly; "
        f"a round starts below {values['bound']} %."
    )
    return TriggerState("drift", True, "accuracy", message, values, None, wait)


def _ready(name: Trigger, wait: float) -> TriggerState:
    if not wait:
        return TriggerState(name, True, "now", "Now.", {}, 0.0)
    minutes = math.ceil(wait / 60)
    told = f"In {minutes} minute{'s' if minutes != 1 else ''}."
    return TriggerState(name, True, "minutes", told, {"n": minutes}, wait, wait)


def _no_picks(name: Trigger, wait: float) -> TriggerState:
    return TriggerState(name, True, "no_picks", "Waits for a new pick.", {}, None, wait)


def _more(missing: int) -> str:
    return f"{missing} more pick{'s' if missing != 1 else ''}."
