"""Who has which pair on screen, on which side, and what undo and promotions do to it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from store import judgments, pairs, policies
from store.database import Store
from store.rows import NotFound
from tests.stored import (
    LEASE,
    add_pair,
    add_picks,
    add_policy,
    add_user,
    count,
    judge,
    lease,
    pick,
    show,
)

PAST = timedelta(seconds=-1)


@pytest.fixture(autouse=True)
def _champion(store: Store) -> None:
    add_policy(store)


def held(store: Store, user_id: str) -> str | None:
    seen = pairs.held_by(store, user_id)
    return seen.pair_id if seen else None


def test_no_pair_is_on_two_screens(store: Store) -> None:
    for number in range(20):
        add_pair(store, f"Question {number}?")
    people = [add_user(store, f"user-{number}") for number in range(24)]
    with ThreadPoolExecutor(16) as pool:
        given = Counter(pool.map(lambda user: show(store, user), people))
    assert given.pop(None) == 4, "nobody waits while a pair is free"
    assert len(given) == 20 and set(given.values()) == {1}


def test_two_tabs_of_one_annotator_show_one_pair(store: Store) -> None:
    ann = add_user(store, "ann")
    for number in range(4):
        add_pair(store, f"Question {number}?")
    with ThreadPoolExecutor(8) as pool:
        shown = set(pool.map(lambda _: show(store, ann), range(8)))
    assert len(shown) == 1 and None not in shown


def test_leases_and_picks_of_many_annotators_never_overlap(store: Store) -> None:
    for number in range(24):
        add_pair(store, f"Question {number}?")
    on_screen: set[str] = set()
    lock = threading.Lock()

    def annotate(name: str) -> int:
        user, done = add_user(store, name), 0
        while pair_id := show(store, user):
            with lock:
                assert pair_id not in on_screen
                on_screen.add(pair_id)
            judge(store, user, pair_id)
            done += 1
        return done

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(annotate, [f"user-{number}" for number in range(6)])) == 24


def test_an_expired_lease_gives_the_pair_to_somebody_else(store: Store) -> None:
    ann, bob = add_user(store, "ann"), add_user(store, "bob")
    pair_id = add_pair(store)
    assert show(store, ann, life=timedelta(seconds=0.2)) == pair_id
    assert show(store, bob) is None
    deadline = time.monotonic() + 5
    while (got := show(store, bob)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert got == pair_id
    assert held(store, ann.user_id) is None


@pytest.mark.parametrize(
    ("order", "verdict", "preferred"),
    [
        ("ab", "left", "a"),
        ("ba", "left", "b"),
        ("ab", "right", "b"),
        ("ba", "right", "a"),
        ("ba", "tie", None),
        ("ab", "both_bad", None),
        ("ab", "flag", None),
    ],
)
def test_the_verdict_names_the_side_on_screen(
    store: Store, order: str, verdict: str, preferred: str | None
) -> None:
    ann = add_user(store, "ann")
    pair_id = add_pair(store)
    show(store, ann, order)
    seen = pairs.held_by(store, ann.user_id)
    assert seen is not None and seen.order == order
    judge(store, ann, pair_id, verdict)  # type: ignore[arg-type]
    row = store.read_one("select preferred, left_side from judgment")
    assert row == {"preferred": preferred, "left_side": order[0]}


def test_the_side_is_drawn_once_per_annotator_and_pair(store: Store) -> None:
    """A second draw would turn the pick of a tab that was left open into its opposite."""
    ann, bob = add_user(store, "ann"), add_user(store, "bob")
    pair_id = add_pair(store)
    show(store, ann, "ab", PAST)
    assert show(store, ann, "ba") == pair_id
    seen = pairs.held_by(store, ann.user_id)
    assert seen is not None and seen.order == "ab"
    judge(store, ann, pair_id, "skip")
    show(store, bob, "ba")
    seen = pairs.held_by(store, bob.user_id)
    assert seen is not None and seen.order == "ba", "another annotator has a draw of their own"


def test_what_is_on_screen_stays_until_it_is_judged(store: Store) -> None:
    ann = add_user(store, "ann")
    pair_id = add_pair(store, "What is dew?", "Water.", "Cold water.")
    assert pairs.held_by(store, ann.user_id) is None
    show(store, ann)
    seen = pairs.held_by(store, ann.user_id)
    assert seen is not None and seen == lease(store, ann)
    assert (seen.pair_id, seen.texts) == (pair_id, ("Water.", "Cold water."))
    assert seen.messages == [{"role": "user", "content": "What is dew?"}]
    judge(store, ann, pair_id)
    assert pairs.held_by(store, ann.user_id) is None


def test_a_skip_leaves_this_queue_but_not_anothers(store: Store) -> None:
    ann, bob = add_user(store, "ann"), add_user(store, "bob")
    pair_id = add_pair(store)
    pick(store, ann, "skip")
    assert show(store, ann) is None
    assert show(store, bob) == pair_id
    judge(store, bob, pair_id)


def test_a_judged_pair_is_shown_to_nobody(store: Store) -> None:
    ann, bob = add_user(store, "ann"), add_user(store, "bob")
    add_pair(store)
    pick(store, ann)
    assert show(store, ann) is None
    assert show(store, bob) is None


def test_undo_gives_the_pair_back_to_its_author_only(store: Store) -> None:
    ann, bob = add_user(store, "ann"), add_user(store, "bob")
    pair_id = add_pair(store)
    show(store, ann, "ba")
    judgment_id = judge(store, ann, pair_id)
    assert judgments.retract(store, ann, judgment_id, LEASE) is True
    assert held(store, ann.user_id) == pair_id
    assert show(store, bob) is None
    judge(store, ann, pair_id, "right")
    row = store.read_one("select preferred from judgment_live")
    assert row == {"preferred": "a"}, "the sides are as they were"
    assert count(store, "judgment") == 2, "nothing is edited"


def test_undo_twice_walks_back(store: Store) -> None:
    ann = add_user(store, "ann")
    first, second = add_pair(store, "First?"), add_pair(store, "Second?")
    pick(store, ann)
    pick(store, ann)
    for expected in (second, first):
        undone = judgments.undo(store, ann, LEASE)
        assert undone is not None and undone.pair_id == expected
        assert held(store, ann.user_id) == expected
    assert judgments.undo(store, ann, LEASE) is None
    judge(store, ann, first)
    assert held(store, ann.user_id) == second, "then the later one again"


def test_a_pick_is_undone_once_and_only_by_its_author_or_a_researcher(store: Store) -> None:
    ann, bob = add_user(store, "ann"), add_user(store, "bob")
    boss = add_user(store, "boss", "researcher")
    mine, other = add_picks(store, ann, 2)
    with pytest.raises(NotFound):
        judgments.retract(store, bob, mine, LEASE)
    judgments.retract(store, ann, mine, LEASE)
    with pytest.raises(NotFound):
        judgments.retract(store, ann, mine, LEASE)
    judgments.retract(store, boss, other, LEASE)
    assert count(store, "judgment_live") == 0


def test_an_undone_pick_is_not_stored_again_by_a_late_repeat(store: Store) -> None:
    ann = add_user(store, "ann")
    pair_id = add_pair(store)
    judgment_id = pick(store, ann)
    judgments.retract(store, ann, judgment_id, LEASE)
    repeated = judgments.NewJudgment(judgment_id, pair_id, "left")
    assert judgments.judge(store, ann, repeated) is False
    assert count(store, "judgment_live") == 0


def test_pairs_of_the_old_champion_are_not_served(store: Store) -> None:
    ann, bob = add_user(store, "ann"), add_user(store, "bob")
    add_pair(store, "Old?")
    on_screen = show(store, ann)
    add_pair(store, "Old too?")
    add_policy(store, "policy-000001")
    assert pairs.ready(store) == 0
    assert show(store, bob) is None
    assert held(store, ann.user_id) == on_screen, "what is on screen may be judged"
    add_pair(store, "Sampled before, stored after?")
    assert show(store, bob) is None
    new = add_pair(store, "New?", policy="policy-000001")
    assert show(store, bob) == new
    policies.decide(store, "policy-000000", "rollback", "worse")
    assert pairs.ready(store) == 2, "after a rollback the old pairs are right again"


def test_who_waits_gets_a_new_pair_at_once(store: Store) -> None:
    ann, bob = add_user(store, "ann"), add_user(store, "bob")
    assert show(store, ann) is None
    pair_id = add_pair(store)
    assert (show(store, ann), show(store, bob)) == (pair_id, None)
    judge(store, ann, pair_id, "skip")
    assert show(store, bob) == pair_id


def test_ready_counts_free_pairs_of_the_champion(store: Store) -> None:
    ann = add_user(store, "ann")
    for number in range(5):
        add_pair(store, f"Question {number}?")
    assert pairs.ready(store) == 5
    show(store, ann)
    assert pairs.ready(store) == 4
    pick(store, ann)
    assert pairs.ready(store) == 4
    pick(store, ann, "skip")
    assert pairs.ready(store) == 3, "ann would not get it"


def test_pairs_are_served_in_the_order_they_were_sampled(store: Store) -> None:
    ann = add_user(store, "ann")
    made = [add_pair(store, f"Question {number}?") for number in range(4)]
    shown = [show(store, ann)]
    for _ in made[1:]:
        judge(store, ann, str(shown[-1]), "tie")
        shown.append(show(store, ann))
    assert shown == made


def test_a_renewed_lease_lives_longer_and_shows_the_same(store: Store) -> None:
    ann, ben = add_user(store, "ann"), add_user(store, "ben")
    pair = add_pair(store)
    mine = lease(store, ann, life=timedelta(seconds=0.3))
    assert mine is not None
    renewed = pairs.renew(store, ann.user_id, mine, LEASE)
    assert (renewed.pair_id, renewed.order, renewed.texts) == (pair, mine.order, mine.texts)
    assert renewed.expires > mine.expires
    time.sleep(0.4)
    assert (held(store, ann.user_id), show(store, ben)) == (pair, None)


def test_a_lease_that_is_over_is_not_renewed(store: Store) -> None:
    ann, ben = add_user(store, "ann"), add_user(store, "ben")
    pair = add_pair(store)
    mine = lease(store, ann, life=PAST)
    assert mine is not None
    assert pairs.renew(store, ann.user_id, mine, LEASE) == mine
    assert show(store, ben) == pair


def test_a_pair_put_aside_goes_to_others(store: Store) -> None:
    ann, ben = add_user(store, "ann"), add_user(store, "ben")
    first, second = add_pair(store, "One?"), add_pair(store, "Two?")
    assert show(store, ann) == first
    pairs.put_aside(store, ben.user_id, first)  # who has no lease of it
    assert show(store, ann) == first
    pairs.put_aside(store, ann.user_id, first)
    assert (show(store, ann), show(store, ben)) == (second, first)
    judge(store, ann, first)  # later after all
    judge(store, ann, second)
    assert show(store, ann) is None
