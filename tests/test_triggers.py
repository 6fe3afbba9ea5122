"""When a round starts by itself: tables of picks, clocks, cron expressions and drift."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from store.rows import Invalid
from train.machine_zone import MachineZone
from train.triggers import (
    Drift,
    LoopConfig,
    State,
    due,
    next_time,
    next_up,
    outlook,
    wants_measurement,
)

ZONE = timezone(timedelta(hours=8))  # a fixed one: it has no daylight saving time
NOON = datetime(2026, 3, 4, 12, 0, tzinfo=ZONE)  # a Wednesday
LONG_AGO = NOON - timedelta(days=30)


def state(picks: int = 5, **changes: Any) -> State:
    known = {"picks": picks, "last_round": LONG_AGO, "checked": NOON, "zone": ZONE}
    return State(**known | changes)


def minutes_ago(minutes: float) -> datetime:
    return NOON - timedelta(minutes=minutes)


def only(**keys: Any) -> LoopConfig:
    """A configuration with nothing on but these keys."""
    return LoopConfig(**{"every_picks": 0} | keys)


@pytest.mark.parametrize(
    ("picks", "last_round", "config", "trigger"),
    [
        (99, LONG_AGO, only(every_picks=100), None),
        (100, LONG_AGO, only(every_picks=100), "picks"),
        (5000, LONG_AGO, only(), None),
        (100, minutes_ago(9.9), only(every_picks=100, picks_cooldown_minutes=10), None),
        (100, minutes_ago(10), only(every_picks=100, picks_cooldown_minutes=10), "picks"),
        (1, minutes_ago(29.9), only(every_minutes=30), None),
        (1, minutes_ago(30), only(every_minutes=30), "interval"),
        (0, minutes_ago(30), only(every_minutes=30), None),
        (1, minutes_ago(30), only(every_picks=100, every_minutes=30), "interval"),
        (100, minutes_ago(30), only(every_picks=100, every_minutes=30), "picks"),
    ],
)
def test_picks_and_interval(
    picks: int, last_round: datetime, config: LoopConfig, trigger: str | None
) -> None:
    assert due(NOON, state(picks, last_round=last_round), config) == trigger


@pytest.mark.parametrize(
    ("expression", "checked", "met"),
    [
        ("0 12 * * *", minutes_ago(1), True),  # noon lies between two looks
        ("0 12 * * *", NOON, False),  # it was seen by the look before
        ("30 11 * * *", minutes_ago(40), True),  # a run was at work at half past
        ("30 11 * * *", minutes_ago(20), False),
        ("*/15 * * * *", minutes_ago(14), True),
        ("0 12 * * THU", minutes_ago(1), False),
        ("0 12 4 3 *", minutes_ago(1), True),
        ("0 4 * * *", minutes_ago(1), False),  # noon here is four o'clock in Greenwich
    ],
)
def test_cron_in_local_time(expression: str, checked: datetime, met: bool) -> None:
    config = only(cron=expression)
    assert due(NOON, state(checked=checked), config) == ("cron" if met else None)
    assert due(NOON, state(0, checked=checked), config) is None  # nothing to learn from


@pytest.mark.parametrize(
    ("night", "expression", "times"),
    [
        (datetime(2026, 10, 25, tzinfo=UTC), "0 3 * * *", ["02:00"]),  # 3:00 is 2:00 once more
        (datetime(2026, 10, 25, tzinfo=UTC), "30 2 * * *", ["00:30"]),  # there are two of them
        (datetime(2026, 10, 25, tzinfo=UTC), "30 * * * *", ["00:30", "01:30", "02:30"]),
        (datetime(2026, 3, 29, tzinfo=UTC), "30 2 * * *", ["01:00"]),  # there is none
        (datetime(2026, 3, 29, tzinfo=UTC), "0 3 * * *", ["01:00"]),
    ],
)
def test_cron_when_the_clocks_change(night: datetime, expression: str, times: list[str]) -> None:
    config, zone = only(cron=expression), ZoneInfo("Europe/Berlin")
    looks = [night + timedelta(minutes=10 * n) for n in range(18)]
    told = [
        f"{now:%H:%M}"
        for checked, now in pairwise(looks)
        if due(now, state(checked=checked, zone=zone), config)
    ]
    assert told == times


def test_the_machine_knows_when_its_clocks_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    try:
        start = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
        twice = [(start + timedelta(hours=n)).astimezone(MachineZone()) for n in range(2)]
        assert [f"{at:%H:%M %z %Z}" for at in twice] == ["02:30 +0200 CEST", "02:30 +0100 CET"]
        assert [at.astimezone(UTC) for at in twice] == [start, start + timedelta(hours=1)]
        assert next_time("0 3 * * *", twice[0]) - start == timedelta(hours=1, minutes=30)
        gap = datetime(2026, 3, 29, 0, 59, tzinfo=UTC).astimezone(MachineZone())
        assert f"{next_time('30 2 * * *', gap):%H:%M %z}" == "03:00 +0200"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_cron_time_within_the_cool_down_is_left_out() -> None:
    config = only(cron="0 12 * * *", cron_cooldown_minutes=60)
    early = state(checked=minutes_ago(1), last_round=minutes_ago(59))
    assert due(NOON, early, config) is None
    assert due(NOON + timedelta(hours=2), state(checked=NOON), config) is None
    assert due(NOON, state(checked=minutes_ago(1), last_round=minutes_ago(60)), config) == "cron"


@pytest.mark.parametrize(
    ("drift", "last_round", "trigger"),
    [
        (None, LONG_AGO, None),
        (Drift(0.59, 50, 50), LONG_AGO, "drift"),
        (Drift(0.60, 50, 50), LONG_AGO, None),
        (Drift(0.59, 50, 50), minutes_ago(59), None),
        (Drift(0.59, 50, 50), minutes_ago(60), "drift"),
        (Drift(0.59, 25, 50), LONG_AGO, "drift"),
        (Drift(0.0, 24, 50), LONG_AGO, None),  # the rest are ties
        (Drift(0.0, 0, 50), LONG_AGO, None),
        (Drift(0.0, None, 50), LONG_AGO, None),  # it could not be measured
    ],
)
def test_drift(drift: Drift | None, last_round: datetime, trigger: str | None) -> None:
    config = only(drift_below=0.6, drift_picks=50, drift_cooldown_minutes=60)
    assert due(NOON, state(60, drift=drift, last_round=last_round), config) == trigger
    assert due(NOON, state(60, drift=drift, last_round=last_round), only()) is None


@pytest.mark.parametrize(
    ("picks", "drift", "has_reward_model", "wanted"),
    [
        (49, None, True, False),
        (50, None, True, True),
        (50, None, False, False),
        (99, Drift(0.9, 50, 50), True, False),
        (100, Drift(0.9, 50, 50), True, True),
    ],
)
def test_drift_is_measured_once_in_so_many_picks(
    picks: int, drift: Drift | None, has_reward_model: bool, wanted: bool
) -> None:
    known = state(picks, drift=drift, has_reward_model=has_reward_model)
    assert wants_measurement(known, only(drift_below=0.6, drift_picks=50)) is wanted
    assert not wants_measurement(known, only(drift_picks=50))


def test_a_paused_round_holds_the_triggers() -> None:
    held = state(500, held="run-000007")
    assert due(NOON, held, LoopConfig()) is None
    told = {one.name: one for one in outlook(NOON, held, LoopConfig())}
    assert told["picks"].message == "Waits: run-000007 is paused."
    assert told["cron"].key == "off" and told["person"].key == "person"
    assert not wants_measurement(replace(held, has_reward_model=True), only(drift_below=0.6))


@pytest.mark.parametrize(
    ("config", "known", "name", "key", "message", "due_in"),
    [
        (only(every_picks=100), state(63), "picks", "picks", "37 more picks.", None),
        (only(every_picks=100), state(99), "picks", "picks", "1 more pick.", None),
        (only(every_picks=100), state(100), "picks", "now", "Now.", 0),
        (
            only(every_picks=100, picks_cooldown_minutes=30),
            state(100, last_round=minutes_ago(10.5)),
            "picks",
            "minutes",
            "In 20 minutes.",
            1170,
        ),
        (
            only(every_minutes=30),
            state(1, last_round=minutes_ago(29)),
            "interval",
            "minutes",
            "In 1 minute.",
            60,
        ),
        (only(every_minutes=30), state(0), "interval", "no_picks", "Waits for a new pick.", None),
        (only(cron="0 3 * * *"), state(1), "cron", "at", "At 2026-03-05 03:00.", 15 * 3600),
        (
            only(cron="0 13 * * *", cron_cooldown_minutes=90),
            state(1, last_round=NOON),
            "cron",
            "at",
            "At 2026-03-05 13:00.",
            25 * 3600,
        ),
        (
            only(drift_below=0.6),
            state(),
            "drift",
            "no_reward_model",
            "Needs a reward model first.",
            None,
        ),
        (
            only(drift_below=0.6),
            state(20, has_reward_model=True),
            "drift",
            "measure_in",
            "30 more picks until the reward model is measured on them.",
            None,
        ),
        (
            only(drift_below=0.6),
            state(60, has_reward_model=True, drift=Drift(0.712, 52, 52)),
            "drift",
            "accuracy",
            "The reward model orders 71 % of 52 fresh picks rightly; a round starts below 60 %.",
            None,
        ),
        (
            only(drift_below=0.6, drift_picks=49),
            state(60, has_reward_model=True, drift=Drift(0.0, 1, 49)),
            "drift",
            "too_few",
            "Too few fresh picks name a better answer: 1, and it takes 25.",
            None,
        ),
        (
            only(drift_below=0.6),
            state(60, has_reward_model=True, drift=Drift(1.0, 0, 52)),
            "drift",
            "too_few",
            "Too few fresh picks name a better answer: 0, and it takes 25.",
            None,
        ),
        (
            only(drift_below=0.6),
            state(60, has_reward_model=True, drift=Drift(1.0, None, 52)),
            "drift",
            "not_measured",
            "The fresh picks could not be scored; the app's log says why.",
            None,
        ),
        (only(), state(), "drift", "off", "Off.", None),
        (only(), state(), "person", "person", "A person can start a round at any time.", 0),
    ],
)
def test_what_a_trigger_waits_for(
    config: LoopConfig, known: State, name: str, key: str, message: str, due_in: float | None
) -> None:
    told = {one.name: one for one in outlook(NOON, known, config)}[name]
    assert (told.key, told.message, told.due_in) == (key, message, due_in)
    assert told.on is (key != "off")


@pytest.mark.parametrize(("minutes", "cooldown"), [(0, 0), (30, 20 * 60)])
def test_without_picks_a_cron_time_cools_down_as_it_is_set(minutes: int, cooldown: float) -> None:
    config = only(cron="0 3 * * *", cron_cooldown_minutes=minutes)
    told = outlook(NOON, state(0, last_round=minutes_ago(10)), config)[2]
    assert (told.key, told.due_in, told.cooldown) == ("no_picks", None, cooldown)


def test_what_the_outlook_calls_now_is_due() -> None:
    config = LoopConfig(every_picks=10, every_minutes=5, drift_below=0.9)
    known = state(10, drift=Drift(0.5, 50, 10), has_reward_model=True)
    assert {one.name for one in outlook(NOON, known, config) if one.key == "now"} == {
        "picks",
        "interval",
        "drift",
    }
    assert due(NOON, known, config) == "picks"


@pytest.mark.parametrize(
    ("config", "known", "names"),
    [
        (LoopConfig(), state(63), ["picks"]),
        (only(), state(63), []),
        (LoopConfig(cron="0 3 * * *", every_minutes=30), state(63, last_round=NOON),
         ["picks", "interval", "cron"]),
        (LoopConfig(cron="0 3 * * *"), state(0), ["picks"]),  # the cron time waits for a pick
        (only(cron="0 3 * * *"), state(0), ["cron"]),
        (LoopConfig(cron="0 3 * * *"), state(100), ["picks"]),  # due now
        (LoopConfig(drift_below=0.6), state(63), ["picks"]),
        (only(drift_below=0.6), state(63), ["drift"]),
        (LoopConfig(cron="0 3 * * *"), state(500, held="run-000007"), ["picks"]),
    ],
)  # fmt: skip
def test_what_comes_next(config: LoopConfig, known: State, names: list[str]) -> None:
    assert [one.name for one in next_up(outlook(NOON, known, config))] == names


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"cron": "every night"}, "loop.cron 'every night' is no cron expression"),
        ({"cron": "61 * * * *"}, "is no cron expression"),
        ({"cron": "0 0 30 2 *"}, "is no cron expression"),
        ({"drift_below": 60}, "loop.drift_below is a share from 0 to 1, not 60."),
        ({"drift_picks": 0}, "loop.drift_picks must be at least 1, not 0."),
        ({"every_picks": -1}, "loop.every_picks must be at least 0, not -1."),
        ({"probes": 0}, "loop.probes must be at least 1, not 0."),
        ({"cron_cooldown_minutes": -1}, "loop.cron_cooldown_minutes must be at least 0"),
    ],
)
def test_a_configuration_that_cannot_work(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Invalid) as caught:
        LoopConfig(**values)
    assert sentence in str(caught.value)


def test_by_hand_turns_every_trigger_off() -> None:
    config = LoopConfig(every_picks=1, every_minutes=1, cron="* * * * *", drift_below=0.9)
    known = state(500, drift=Drift(0.1, 50, 50), checked=LONG_AGO)
    assert due(NOON, known, config) == "picks"
    assert due(NOON, known, config.by_hand()) is None


def test_next_time_follows_the_wall_clock() -> None:
    assert next_time("0 3 * * *", NOON) == NOON + timedelta(hours=15)
