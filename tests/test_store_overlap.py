"""Pairs that several annotators judge: never more than are wanted, whatever leases and flags do."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from itertools import pairwise

import pytest

from store import flags, judgments, pairs, policies
from store.database import Store
from store.rows import Conflict, NotFound
from tests.stored import LEASE, add_pair, add_policy, add_user, judge, lease, pick, show

PAST = timedelta(seconds=-1)


@pytest.fixture(autouse=True)
def _champion(store: Store) -> None:
    add_policy(store)


def test_a_pair_goes_to_as_many_as_are_wanted(store: Store) -> None:
    people = [add_user(store, f"user-{number}") for number in range(5)]
    pair_id = add_pair(store, wanted=3)
    assert [show(store, user) for user in people] == [pair_id] * 3 + [None] * 2
    judge(store, people[0], pair_id)
    assert show(store, people[3]) is None, "one judged it, two have it on screen"
    judge(store, people[1], pair_id, "skip")
    assert show(store, people[3]) == pair_id, "a skip leaves its place to another"
    for user in (people[2], people[3]):
        judge(store, user, pair_id, "tie")
    assert show(store, people[4]) is None


def test_one_annotator_judges_a_pair_once(store: Store) -> None:
    ann = add_user(store, "ann")
    add_pair(store, wanted=2)
    pick(store, ann)
    assert show(store, ann) is None
    assert pairs.ready(store) == 0, "not for everybody"


@pytest.mark.parametrize("wanted", [1, 2, 3])
def test_sixteen_threads_and_short_leases_never_go_beyond(store: Store, wanted: int) -> None:
    """Annotators dawdle, skip, flag, undo and come back late; the store keeps count."""
    made = [add_pair(store, f"Question {number}?", wanted=wanted) for number in range(12)]
    people = [add_user(store, f"user-{number}") for number in range(16)]
    life = timedelta(seconds=0.05)

    def annotate(number: int) -> None:
        draw, user = random.Random(number), people[number]
        for _ in range(8):
            seen = lease(store, user, draw.choice(["ab", "ba"]), life)
            if seen is None:
                continue
            time.sleep(draw.choice([0, 0, 0.1]))
            verdict = draw.choice(["left", "right", "tie", "skip", "left", "flag"])
            try:
                judge(store, user, seen.pair_id, verdict)  # type: ignore[arg-type]
            except Conflict:  # too late
                continue
            if draw.random() < 0.2:
                with suppress(Conflict):  # its place is taken
                    judgments.undo(store, user, life)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(annotate, range(16)))
    judged = store.read("select * from judgment_live where verdict not in ('skip', 'flag')")
    by_pair = Counter(row["pair_id"] for row in judged)
    assert by_pair and max(by_pair.values()) <= wanted
    assert set(by_pair) <= set(made)
    assert most_at_once(store) <= wanted


def most_at_once(store: Store) -> int:
    """The most annotators that one pair ever had: who judged it and who had it on screen."""
    judged, leased = defaultdict[str, set](set), defaultdict[str, dict](dict)
    most = 0
    for step in store.read(STEPS):
        pair_id, user_id = step["pair_id"], step["user_id"]
        if step["kind"] in ("shown", "reopened"):
            leased[pair_id][user_id] = step["lease_expires"]
            running = {user for user, ends in leased[pair_id].items() if ends > step["created"]}
            most = max(most, len(running | judged[pair_id]))
        elif step["kind"] == "judged":
            judged[pair_id].add(user_id)
        elif step["kind"] == "taken back":
            judged[pair_id].discard(user_id)
        else:
            leased[pair_id].pop(user_id, None)
    return most


STEPS = """
select seq, pair_id, user_id, kind, lease_expires, created from annotator_event
union all
select seq, pair_id, user_id, 'judged', null, created from judgment
where verdict not in ('skip', 'flag')
union all
select r.seq, j.pair_id, j.user_id, 'taken back', null, r.created
from retraction r join judgment j on j.judgment_id = r.judgment_id
order by seq
"""


def test_a_late_pick_ends_the_lease_that_is_one_too_many(store: Store) -> None:
    ann, bob = add_user(store, "ann"), add_user(store, "bob")
    pair_id = add_pair(store)
    show(store, ann, life=PAST)
    assert show(store, bob) == pair_id
    judge(store, ann, pair_id)
    assert pairs.held_by(store, bob.user_id) is None
    with pytest.raises(Conflict, match="needs no more picks"):
        judge(store, bob, pair_id)
    assert judgments.undo(store, ann, LEASE) is not None, "the place is ann's"
    assert show(store, bob) is None


def test_a_started_pair_is_finished_after_a_promotion(store: Store) -> None:
    ann, bob = add_user(store, "ann"), add_user(store, "bob")
    started, fresh = (add_pair(store, question, wanted=2) for question in ("Old?", "Older?"))
    pick(store, ann)
    add_policy(store, "policy-000001")
    assert show(store, bob) == started
    judge(store, bob, started)
    assert show(store, bob) is None and fresh != started


def test_pairs_of_the_champion_come_before_the_backlog_of_earlier_ones(store: Store) -> None:
    """A newcomer finishes pairs of earlier policies with a tenth of the picks, not first."""
    ann, bob = add_user(store, "ann"), add_user(store, "bob")
    started = {add_pair(store, f"Old {number}?", wanted=2) for number in range(30)}
    for _ in started:
        pick(store, ann)
    add_policy(store, "policy-000001")
    fresh = [add_pair(store, f"New {n}?", policy="policy-000001") for n in range(40)]
    shown = []
    for _ in range(30):
        shown.append(str(show(store, bob)))
        judge(store, bob, shown[-1])
    old = [place for place, pair_id in enumerate(shown) if pair_id in started]
    assert len(old) == 3 and {b - a for a, b in pairwise(old)} == {10}
    assert [pair_id for pair_id in shown if pair_id not in started] == fresh[:27]


def test_pairs_of_long_retired_policies_wait_for_nobody(store: Store) -> None:
    ann, bob = add_user(store, "ann"), add_user(store, "bob")
    started = {}
    for number in range(4):
        policy = f"policy-00000{number}"
        if number:
            add_policy(store, policy)
        started[number] = add_pair(store, f"Question {number}?", policy=policy, wanted=2)
        pick(store, ann)
    seen = set()
    while pair_id := show(store, bob):
        judge(store, bob, pair_id)
        seen.add(pair_id)
        store.write(lambda tx: tx.memo.clear())  # as after a restart: the next may be earlier
    assert seen == {started[3], started[2], started[1]}, "those of the last two promotions"
    policies.decide(store, "policy-000000", "rollback", "worse")
    assert show(store, bob) == started[0]


def test_a_skip_leaves_the_queue_of_its_author_for_good(store: Store) -> None:
    ann = add_user(store, "ann")
    add_pair(store)
    pick(store, ann, "skip", reasons=["too long"])
    add_policy(store, "policy-000001")
    other = add_pair(store, "Another?", policy="policy-000001")
    assert show(store, ann) == other
    judge(store, ann, other)
    assert show(store, ann) is None


def test_a_skip_that_is_undone_stays_with_who_has_it_now(store: Store) -> None:
    ann, bob = add_user(store, "ann"), add_user(store, "bob")
    pair_id = add_pair(store)
    pick(store, ann, "skip")
    assert show(store, bob) == pair_id
    with pytest.raises(Conflict, match="the pick stays"):
        judgments.undo(store, ann, LEASE)
    assert pairs.held_by(store, ann.user_id) is None
    judge(store, bob, pair_id)


def test_a_flag_takes_the_pair_out_of_every_queue(store: Store) -> None:
    ann, bob, eve = (add_user(store, name) for name in ("ann", "bob", "eve"))
    pair_id = add_pair(store, wanted=2)
    show(store, ann)
    show(store, bob)
    judge(store, ann, pair_id, "flag", reasons=["private"], comment="a name")
    assert show(store, eve) is None
    assert pairs.held_by(store, bob.user_id) is None
    assert pairs.ready(store) == 0
    with pytest.raises(Conflict, match="needs no more picks"):
        judge(store, bob, pair_id)


@pytest.mark.parametrize("action", ["returned", "removed"])
def test_a_researcher_returns_or_removes_a_flagged_pair(store: Store, action: str) -> None:
    ann, bob = add_user(store, "ann"), add_user(store, "bob")
    boss = add_user(store, "boss", "researcher")
    pair_id = add_pair(store, "Who?", "A", "B")
    flag_id = pick(store, ann, "flag", reasons=["private"], comment="a name")
    (found,) = flags.open_flags(store)
    assert (found.judgment_id, found.pair_id, found.user) == (flag_id, pair_id, "ann")
    assert (found.reasons, found.comment, found.texts) == (["private"], "a name", ("A", "B"))
    assert found.messages == [{"role": "user", "content": "Who?"}]
    flags.resolve(store, boss, flag_id, action, "looked at it")  # type: ignore[arg-type]
    assert flags.open_flags(store) == []
    with pytest.raises(Conflict, match="resolved already"):
        flags.resolve(store, boss, flag_id, "returned", None)
    assert show(store, ann) is None, "never again for ann"
    assert show(store, bob) == (pair_id if action == "returned" else None)


def test_a_flag_that_is_taken_back_is_no_flag(store: Store) -> None:
    ann, boss = add_user(store, "ann"), add_user(store, "boss", "researcher")
    pair_id = add_pair(store)
    flag_id = pick(store, ann, "flag")
    judgments.undo(store, ann, LEASE)
    assert flags.open_flags(store) == []
    assert show(store, ann) == pair_id
    with pytest.raises(NotFound):
        flags.resolve(store, boss, flag_id, "removed", None)


def test_a_removed_pair_stays_removed_when_its_flag_is_taken_back(store: Store) -> None:
    ann, boss = add_user(store, "ann"), add_user(store, "boss", "researcher")
    add_pair(store)
    flag_id = pick(store, ann, "flag")
    flags.resolve(store, boss, flag_id, "removed", None)
    assert judgments.retract(store, ann, flag_id, LEASE) is False
    assert show(store, ann) is None


def test_the_line_forgets_nobody(store: Store) -> None:
    """Pairs come back to the line without a new one being sampled: after leases, skips and undo."""
    ann, bob = add_user(store, "ann"), add_user(store, "bob")
    made = [add_pair(store, f"Question {number}?") for number in range(3)]
    for _ in made:
        pick(store, ann, "skip")
    assert show(store, ann) is None
    seen = set()
    for _ in made:
        pair_id = show(store, bob)
        assert pair_id is not None
        judge(store, bob, pair_id)
        seen.add(pair_id)
    assert seen == set(made)
    for _ in made:
        assert judgments.undo(store, bob, PAST) is not None
    assert show(store, bob) in made


def test_waiting_readers_do_not_stop_the_writer(store: Store) -> None:
    add_pair(store)
    stop, seen = threading.Event(), list[int]()

    def look() -> None:
        while not stop.is_set():
            seen.append(pairs.ready(store))

    thread = threading.Thread(target=look)
    thread.start()
    ann = add_user(store, "ann")
    for number in range(10):
        add_pair(store, f"Question {number}?")
        pick(store, ann)
    stop.set()
    thread.join(10)
    assert seen and min(seen) >= 0
