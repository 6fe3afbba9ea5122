"""Guidelines, practice, streaks, the team, and which policy learned from whom."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from store import guidelines, pairs, policies, practice, runs, snapshots, statistics
from store.database import Store
from store.practice import PracticeItem
from store.rows import Invalid, NotFound, User, utc_now
from tests.stored import (
    add_imports,
    add_pair,
    add_picks,
    add_policy,
    add_prompt,
    add_user,
    completion,
    pick,
)


@pytest.fixture
def ann(store: Store) -> User:
    add_policy(store)
    return add_user(store, "ann")


@pytest.fixture
def boss(store: Store) -> User:
    return add_user(store, "boss", "researcher")


def add_item(store: Store, question: str = "Why?", **more: Any) -> PracticeItem:
    values: dict[str, Any] = {
        "messages": [{"role": "user", "content": question}],
        "left_text": "Short.",
        "right_text": "Long and wrong.",
        "verdict": "left",
        "explanation": "It is **true**.",
    }
    return practice.save(store, **values | more)


def test_guidelines_have_versions(store: Store, boss: User) -> None:
    assert guidelines.current(store) is None
    assert guidelines.publish(store, boss, "# Be kind\n") == 1
    assert guidelines.publish(store, boss, "# Be kind") == 1, "the same text is no new version"
    assert guidelines.publish(store, boss, "# Be brief") == 2
    current = guidelines.current(store)
    assert current is not None
    assert (current.version, current.markdown, current.author) == (2, "# Be brief", "boss")
    assert [one.version for one in guidelines.everyone(store)] == [2, 1]
    for bad in ("", " \n", "x" * 100_001, "\ud83d"):
        with pytest.raises(Invalid, match="100,000"):
            guidelines.publish(store, boss, bad)


def test_a_pick_keeps_the_version_it_went_by(store: Store, ann: User) -> None:
    add_pair(store)
    pick(store, ann, guidelines_version=7)
    assert store.read("select guidelines_version as v from judgment") == [{"v": 7}]


def test_practice_items_have_an_order_and_can_be_changed(store: Store) -> None:
    first, second = add_item(store, "First?"), add_item(store, "Second?")
    early = add_item(store, "Early?", position=0)
    assert practice.items(store) == [early, first, second]
    changed = add_item(store, "First!", practice_id=first.practice_id, verdict="tie")
    assert (changed.position, changed.verdict) == (first.position, "tie")
    practice.remove(store, second.practice_id)
    assert practice.items(store, active_only=True) == [early, changed]
    assert len(practice.items(store)) == 3
    for missing in (lambda: practice.remove(store, "x"), lambda: add_item(store, practice_id="x")):
        with pytest.raises(NotFound):
            missing()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"verdict": "flag"}, "Unknown verdict"),
        ({"left_text": " "}, "left answer"),
        ({"explanation": ""}, "explanation"),
        ({"right_text": "x" * 100_001}, "right answer"),
        ({"messages": []}, "messages must be"),
        ({"position": -1}, "position"),
        ({"right_text": "\ud83d"}, "right answer"),
    ],
)
def test_a_bad_practice_item_is_one_sentence(
    store: Store, values: dict[str, Any], said: str
) -> None:
    with pytest.raises(Invalid, match=said):
        add_item(store, **values)
    assert practice.items(store) == []


def test_practice_comes_before_the_first_real_pick(store: Store, ann: User) -> None:
    first, second = add_item(store, "First?"), add_item(store, "Second?", verdict="tie")
    resting = add_item(store, "Resting?", active=False)
    assert practice.todo(store, ann.user_id) == [first, second]
    assert practice.answer(store, ann, first.practice_id, "right") == (first, False)
    assert practice.todo(store, ann.user_id) == [second]
    assert practice.answer(store, ann, second.practice_id, "tie") == (second, True)
    assert practice.todo(store, ann.user_id) == []
    with pytest.raises(NotFound):
        practice.answer(store, ann, "x", "tie")
    with pytest.raises(Invalid):
        practice.answer(store, ann, resting.practice_id, "skip")  # type: ignore[arg-type]
    add_picks(store, ann, 1)
    add_item(store, "Later?")
    assert practice.todo(store, ann.user_id) == []


DAY = date(2026, 3, 10)


@pytest.mark.parametrize(
    ("days_ago", "length"),
    [([], 0), ([0], 1), ([1], 1), ([2], 0), ([0, 1, 2], 3), ([1, 2, 4], 2), ([0, 2], 1)],
)
def test_a_streak_lasts_until_a_day_without_a_pick(days_ago: list[int], length: int) -> None:
    assert statistics.streak({DAY - timedelta(days=n) for n in days_ago}, DAY) == length


def test_a_day_is_that_of_the_person(store: Store, ann: User) -> None:
    """21:00 UTC is tomorrow in Shanghai and still today in New York."""
    evening = utc_now().replace(hour=21, minute=0)
    sql = "update judgment set created = $moment where judgment_id = $id"
    for number, hours_ago in enumerate((0, 24, 48)):
        add_pair(store, f"Question {number}?")
        picked = pick(store, ann, "tie")
        values = {"moment": evening - timedelta(hours=hours_ago), "id": picked}
        store.write(lambda tx, values=values: tx.all(sql, values))
    for offset, today, streak in ((480, 1, 3), (0, 1, 3), (-300, 1, 3)):
        own = statistics.own(store, ann.user_id, offset, now=evening + timedelta(minutes=1))
        assert (own.today, own.streak_days, own.total) == (today, streak, 3)
    later = evening + timedelta(hours=4)  # the next day in London, the same in New York
    assert statistics.own(store, ann.user_id, 0, now=later).today == 0
    assert statistics.own(store, ann.user_id, -300, now=later).today == 1
    assert statistics.own(store, ann.user_id, 0, now=later).streak_days == 3
    assert statistics.own(store, ann.user_id, 0, now=later + timedelta(days=1)).streak_days == 0


def test_the_team_is_everybody_who_picked_today(store: Store, ann: User) -> None:
    bob, eve = add_user(store, "bob"), add_user(store, "eve")
    add_imports(store, 5)
    add_picks(store, bob, 1)
    add_picks(store, ann, 3)
    add_picks(store, eve, 2, "skip")
    team = statistics.team(store)
    assert (team.today, team.total, team.annotators) == (4, 4, 2)
    assert team.board == [("ann", 3), ("bob", 1)]
    tomorrow = statistics.team(store, now=utc_now() + timedelta(days=1))
    assert (tomorrow.today, tomorrow.total, tomorrow.board) == (0, 4, [])


def test_a_policy_is_trained_with_the_picks_of_its_snapshot(
    store: Store, ann: User, tmp_path: Path
) -> None:
    bob = add_user(store, "bob")
    add_imports(store, 10)
    add_picks(store, ann, 2)
    trained = train(store, tmp_path / "one")
    add_picks(store, bob, 1)
    assert statistics.trained_with(store, ann.user_id) is None, "not promoted"
    policies.decide(store, trained, "promote", "better")
    assert statistics.trained_with(store, ann.user_id) == statistics.TrainedWith(
        "policy-000001", None, None, None
    )
    assert statistics.trained_with(store, bob.user_id) is None, "the pick came later"


def test_duels_are_counted_once_there_are_some(store: Store, ann: User, tmp_path: Path) -> None:
    add_imports(store, 10)
    add_picks(store, ann, 1)
    policies.decide(store, train(store, tmp_path / "one"), "promote", "better")
    sides = (completion("A", policy="policy-000001"), completion("B", policy="policy-000000"))
    for verdict in ("left", "left", "right", "tie", "skip"):
        pairs.add(store, add_prompt(store, "Which?"), [1], *sides)
        pick(store, ann, verdict)  # type: ignore[arg-type]
    found = statistics.trained_with(store, ann.user_id)
    assert found == statistics.TrainedWith("policy-000001", wins=2, losses=1, ties=1)


def train(store: Store, folder: Path) -> str:
    """A candidate that learned from all picks so far."""
    policy_id = "policy-000001"
    run_id = runs.add(store, "dpo", {}, None)
    snapshots.freeze(store, run_id, folder, ["human", "import"])
    policies.add(
        store,
        policy_id,
        parent=None,
        run_id=run_id,
        base_model="base",
        adapter_path="x",
        adapter_sha256="0",
    )
    return policy_id
