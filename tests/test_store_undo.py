"""Undo, revision and the page of own picks."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from store import flags, history, judgments, pairs
from store.database import Store
from store.history import Pick
from store.judgments import NewJudgment
from store.rows import Conflict, Invalid, NotFound, User
from tests.stored import (
    EVERYTHING,
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


@pytest.fixture
def ann(store: Store) -> User:
    add_policy(store)
    return add_user(store, "ann")


def new_pick(pair_id: str, verdict: Any = "right", **more: Any) -> NewJudgment:
    return NewJudgment(str(uuid.uuid4()), pair_id, verdict, **more)


def judge_and_lease(store: Store, user: User, new: NewJudgment) -> tuple[bool, pairs.Lease | None]:
    return judgments.judge_and_lease(store, user, new, lambda n: "ab"[:n], LEASE, EVERYTHING)


def test_undo_walks_back_any_number_of_picks(store: Store, ann: User) -> None:
    made = []
    for number in range(12):
        made.append(add_pair(store, f"Question {number}?"))
        pick(store, ann, "right" if number % 2 else "tie", comment=f"note {number}")
    for number in reversed(range(12)):
        undone = judgments.undo(store, ann, LEASE)
        assert undone is not None
        assert (undone.pair_id, undone.pick.comment) == (made[number], f"note {number}")
        assert undone.pick.verdict == ("right" if number % 2 else "tie")
        held = pairs.held_by(store, ann.user_id)
        assert held is not None and held.pair_id == made[number]
    assert judgments.undo(store, ann, LEASE) is None
    for pair_id in made:  # and forward again, the way it went
        assert show(store, ann) == pair_id
        judge(store, ann, pair_id)
    assert count(store, "judgment_live") == 12
    assert count(store, "judgment") == 24


def test_undo_gives_everything_back_that_was_said(store: Store, ann: User) -> None:
    add_pair(store)
    said: dict[str, Any] = {"strength": 3, "reasons": ["tone"], "comment": "ü", "edited_text": "So"}
    picked = pick(store, ann, "right", **said)
    undone = judgments.undo(store, ann, LEASE)
    assert undone is not None
    assert undone.judgment_id == picked
    assert undone.pick == Pick("right", **said, best=None, worst=None)


def test_undo_reaches_own_picks_only(store: Store, ann: User) -> None:
    bob = add_user(store, "bob")
    add_picks(store, ann, 1)
    assert judgments.undo(store, bob, LEASE) is None
    assert count(store, "judgment_live") == 1


def test_a_repeated_undo_takes_back_one_pick(store: Store, ann: User) -> None:
    first, second = add_picks(store, ann, 2)
    assert history.newest(store, ann.user_id) == second
    undone = judgments.undo(store, ann, LEASE, second)
    assert undone is not None and undone.judgment_id == second
    assert judgments.undo(store, ann, LEASE, second) == undone, "the same request again"
    assert history.newest(store, ann.user_id) == first
    assert (count(store, "judgment_live"), count(store, "retraction")) == (1, 1)
    judge(store, ann, undone.pair_id)
    with pytest.raises(NotFound, match="still counts"):
        judgments.undo(store, ann, LEASE, second)
    assert count(store, "judgment_live") == 2, "a late repeat takes back nothing newer"


def test_of_many_equal_undos_one_is_stored(store: Store, ann: User) -> None:
    picked = add_picks(store, ann, 3)[-1]
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda _: judgments.undo(store, ann, LEASE, picked), range(8)))
    assert done == [done[0]] * 8 and done[0] is not None
    assert count(store, "judgment_live") == 2


def test_nobody_undoes_the_pick_of_another(store: Store, ann: User) -> None:
    bob = add_user(store, "bob")
    (picked,) = add_picks(store, ann, 1)
    for unknown in (picked, "no-such-pick"):
        with pytest.raises(NotFound):
            judgments.undo(store, bob, LEASE, unknown)
    assert history.newest(store, bob.user_id) is None
    assert count(store, "judgment_live") == 1


@pytest.mark.parametrize("taken", ["flagged", "removed", "judged", "on another screen"])
def test_a_pick_whose_pair_cannot_come_back_stays(store: Store, ann: User, taken: str) -> None:
    bob, boss = add_user(store, "bob"), add_user(store, "boss", "researcher")
    older = add_picks(store, ann, 1)[0]
    pair_id = add_pair(store, "Shared?", wanted=2 if taken == "flagged" else 1)
    picked = pick(store, ann, {"flagged": "left", "removed": "flag"}.get(taken, "skip"))
    if taken == "removed":
        flags.resolve(store, boss, picked, "removed", None)
    else:
        assert show(store, bob) == pair_id
    if taken in ("flagged", "judged"):
        judge(store, bob, pair_id, "flag" if taken == "flagged" else "left")
    for _ in range(2):
        with pytest.raises(Conflict, match="cannot come back to you, so the pick stays") as refused:
            judgments.undo(store, ann, LEASE, picked)
        assert not {"flag", "other", "another"} & set(str(refused.value).lower().split())
        with pytest.raises(Conflict):
            judgments.undo(store, ann, LEASE)
    assert history.newest(store, ann.user_id) == picked, "and nothing older was taken back"
    assert judgments.retract(store, ann, picked, LEASE) is False, "it can still be withdrawn"
    assert history.newest(store, ann.user_id) == older
    held = pairs.held_by(store, ann.user_id)
    assert held is None


def test_a_skip_can_be_undone(store: Store, ann: User) -> None:
    pair_id = add_pair(store)
    pick(store, ann, "skip")
    assert show(store, ann) is None
    judgments.undo(store, ann, LEASE)
    assert show(store, ann) == pair_id


def test_the_next_pair_comes_back_with_the_vote(store: Store, ann: User) -> None:
    first, second = add_pair(store, "First?"), add_pair(store, "Second?")
    show(store, ann)
    new = new_pick(first, strength=2)
    stored, following = judge_and_lease(store, ann, new)
    assert stored and following is not None and following.pair_id == second
    assert following == pairs.held_by(store, ann.user_id)
    again = judge_and_lease(store, ann, new)
    assert again == (False, following), "a repeated vote gets the same answer"
    assert judge_and_lease(store, ann, new_pick(second)) == (True, None)


def test_a_refused_vote_leases_nothing(store: Store, ann: User) -> None:
    bob = add_user(store, "bob")
    taken = add_pair(store, "First?")
    show(store, ann, life=-LEASE)
    show(store, bob)
    judge(store, bob, taken)
    add_pair(store, "Second?")
    with pytest.raises(Conflict):
        judge_and_lease(store, ann, new_pick(taken))
    assert pairs.held_by(store, ann.user_id) is None


def test_a_revision_takes_the_place_of_the_pick(store: Store, ann: User) -> None:
    pair_id = add_pair(store, "Why?", "A", "B")
    old = lease(store, ann, "ba")
    assert old is not None
    judgment_id = judge(store, ann, pair_id, "left", strength=3, ms_spent=1234)
    new = new_pick(pair_id, "right", comment="on second thoughts", guidelines_version=2)
    assert judgments.revise(store, ann, judgment_id, new) is True
    assert judgments.revise(store, ann, judgment_id, new) is False, "the same request again"
    (live,) = store.read("select * from judgment_live")
    assert (live["judgment_id"], live["preferred"], live["shown_order"]) == (
        new.judgment_id,
        "a",
        "ba",
    )
    assert (live["strength"], live["comment"], live["guidelines_version"]) == (
        None,
        "on second thoughts",
        2,
    )
    assert live["ms_spent"] == 1234, "what the pick took, not the time since"
    assert (count(store, "judgment"), count(store, "retraction")) == (2, 1)
    assert show(store, ann) is None, "a revision puts nothing on the screen"


def test_of_many_equal_revisions_one_is_stored(store: Store, ann: User) -> None:
    (judgment_id,) = add_picks(store, ann, 1)
    (pair,) = store.read("select pair_id from pair")
    new = new_pick(pair["pair_id"])
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(judgments.revise, store, ann, judgment_id, new) for _ in range(8)]
    assert sorted(job.result() for job in jobs) == [False] * 7 + [True]


def test_of_different_revisions_at_once_one_is_stored(store: Store, ann: User) -> None:
    (judgment_id,) = add_picks(store, ann, 1)
    (pair,) = store.read("select pair_id from pair")

    def revise(verdict: str) -> bool:
        try:
            return judgments.revise(store, ann, judgment_id, new_pick(pair["pair_id"], verdict))
        except NotFound:
            return False

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(revise, ["left", "right", "tie", "both_bad"])) == 1
    assert count(store, "judgment_live") == 1


def test_a_revision_that_is_refused_leaves_the_pick(store: Store, ann: User) -> None:
    bob = add_user(store, "bob")
    pair_id = add_pair(store)
    judgment_id = pick(store, ann, "skip")
    other = add_pair(store, "Another?")
    with pytest.raises(Invalid, match="the same pair"):
        judgments.revise(store, ann, judgment_id, new_pick(other))
    with pytest.raises(NotFound):
        judgments.revise(store, bob, judgment_id, new_pick(pair_id))
    ranked = new_pick(pair_id, "ranked", best=0, worst=1)
    with pytest.raises(Invalid, match="sets of four"):
        judgments.revise(store, ann, judgment_id, ranked)
    assert show(store, bob) == pair_id
    judge(store, bob, pair_id)
    with pytest.raises(Conflict, match="needs no more picks"):
        judgments.revise(store, ann, judgment_id, new_pick(pair_id))
    found = store.read(
        "select judgment_id from judgment_live where user_id = $u", {"u": ann.user_id}
    )
    assert found == [{"judgment_id": judgment_id}]


def test_own_picks_come_newest_first_and_in_pages(store: Store, ann: User) -> None:
    bob = add_user(store, "bob")
    picked = add_picks(store, ann, 7)
    add_picks(store, bob, 1)
    taken_back = picked.pop(3)
    judgments.retract(store, ann, taken_back, LEASE)
    first = history.history(store, ann.user_id, limit=4)
    rest = history.history(store, ann.user_id, before=first[-1].seq, limit=4)
    assert [one.judgment_id for one in [*first, *rest]] == picked[::-1]


def test_a_past_pick_looks_as_it_did(store: Store, ann: User) -> None:
    add_pair(store, "Why?", "A", "B")
    lease(store, ann, "ba")
    judgment_id = pick(store, ann, "left", strength=1, reasons=["tone"], comment="c")
    past = history.past(store, ann.user_id, judgment_id)
    assert history.history(store, ann.user_id) == [past]
    assert (past.texts, past.kind) == (("B", "A"), "pair")
    assert (past.pick.verdict, past.pick.strength) == ("left", 1)
    assert past.messages == [{"role": "user", "content": "Why?"}]
    assert (past.pick.reasons, past.pick.comment, past.pick.best) == (["tone"], "c", None)
    judgments.undo(store, ann, LEASE)
    with pytest.raises(NotFound):
        history.past(store, ann.user_id, judgment_id)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("WHY", 1),
        ("straße", 1),
        ('"quoted"\nline', 1),
        ("50%_", 1),
        ("remark", 1),
        ("edited", 1),
        ("%", 1),
        ("nowhere", 0),
        ("role", 0),
    ],
)
def test_own_picks_are_searched_by_what_was_read_and_written(
    store: Store, ann: User, text: str, found: int
) -> None:
    add_pair(store, 'Why "quoted"\nline?', "Straße", "50%_of")
    pick(store, ann, comment="A remark", edited_text="Edited")
    add_picks(store, ann, 1)
    assert len(history.history(store, ann.user_id, text=text)) == found


def test_own_picks_are_narrowed_by_verdict(store: Store, ann: User) -> None:
    add_picks(store, ann, 2)
    tied = add_picks(store, ann, 1, "tie")
    found = history.history(store, ann.user_id, verdict="tie")
    assert [one.judgment_id for one in found] == tied


def test_the_whole_text_is_for_those_who_saw_it(store: Store, ann: User) -> None:
    bob = add_user(store, "bob")
    pair_id = add_pair(store, "Why?", "A" * 100_000, "B")
    show(store, ann, "ba")
    texts = [pairs.answer_text(store, ann.user_id, pair_id, at) for at in (0, 1)]
    assert texts == ["B", "A" * 100_000]
    assert pairs.prompt_text(store, ann.user_id, pair_id, 0) == "Why?"
    for user, at in ((bob, 0), (ann, 2), (ann, -1)):
        for text in (pairs.answer_text, pairs.prompt_text):
            with pytest.raises(NotFound, match="not shown to you"):
                text(store, user.user_id, pair_id, at)


def test_the_whole_text_is_there_after_the_database_was_rebuilt(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        add_policy(store)
        user = add_user(store, "ann")
        pair_id = add_pair(store, "Why?", "A", "B")
        lease(store, user, "ba")
        pick(store, user)
    (tmp_path / "prefloop.duckdb").unlink()
    with Store.open(tmp_path) as store:
        assert pairs.answer_text(store, user.user_id, pair_id, 0) == "B"
