"""Sets of four: the best and the worst by place on the screen, five comparisons for training."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from store import judgments, pairs, snapshots, statistics
from store.database import Store
from store.exporting import rows, select
from store.judgments import NewJudgment
from store.rows import Invalid, User
from tests.stored import LEASE, add_four, add_imports, add_pair, add_policy, add_user, judge, lease
from train.picks import Pick
from train.rules import pair_rows
from train.settings import DpoSettings

# Shown as C A D B: place 0 is side c.
ORDER = "cadb"
FIVE = {("A", "B"), ("A", "C"), ("A", "D"), ("C", "B"), ("D", "B")}  # A best, B worst


@pytest.fixture
def ann(store: Store) -> User:
    add_policy(store)
    return add_user(store, "ann")


def rank(store: Store, user: User, best: int = 1, worst: int = 3, **more: object) -> str:
    add_four(store, f"Question {uuid.uuid4()}?", **more)
    seen = lease(store, user, ORDER)
    assert seen is not None
    return judge(store, user, seen.pair_id, "ranked", best=best, worst=worst)


def test_four_answers_come_in_the_drawn_order(store: Store, ann: User) -> None:
    pair_id = add_four(store)
    seen = lease(store, ann, ORDER)
    assert seen is not None and seen.kind == "four"
    assert (seen.order, seen.texts) == (ORDER, ("C", "A", "D", "B"))
    assert pairs.held_by(store, ann.user_id) == seen
    assert pairs.held_by(store, ann.user_id, ("pair",)) is None
    assert [pairs.answer_text(store, ann.user_id, pair_id, at) for at in range(4)] == [*"CADB"]


def test_a_client_of_pairs_gets_no_four(store: Store, ann: User) -> None:
    add_four(store)
    pair_id = add_pair(store, "Two?")

    def draw(sides: int) -> str:
        return "abcd"[:sides]

    only = pairs.lease_next(store, ann.user_id, draw, LEASE, ["everything"], ("pair",))
    assert only is not None and only.pair_id == pair_id


def test_the_places_on_the_screen_name_the_sides(store: Store, ann: User) -> None:
    rank(store, ann)
    row = store.read_one("select best, worst, preferred, left_side, shown_order from judgment")
    assert row == {
        "best": "a",
        "worst": "b",
        "preferred": None,
        "left_side": None,
        "shown_order": ORDER,
    }


def test_a_ranking_is_five_comparisons(store: Store, ann: User) -> None:
    rank(store, ann)
    found = store.read("select comparison, chosen, rejected, verdict, strength from preference")
    assert {(row["chosen"], row["rejected"]) for row in found} == FIVE
    assert sorted(row["comparison"] for row in found) == [0, 1, 2, 3, 4]
    assert {(row["verdict"], row["strength"]) for row in found} == {("ranked", None)}


@pytest.mark.parametrize("best", range(4))
@pytest.mark.parametrize("worst", range(4))
def test_every_ranking_is_five_different_comparisons(
    store: Store, ann: User, best: int, worst: int
) -> None:
    if best == worst:
        with pytest.raises(Invalid, match="two different places"):
            NewJudgment("id", "pair", "ranked", best=best, worst=worst)
        return
    rank(store, ann, best, worst)
    found = [(row["chosen"], row["rejected"]) for row in store.read("select * from preference")]
    texts = "CADB"
    assert len(found) == len(set(found)) == 5
    assert sum(chosen == texts[best] for chosen, _ in found) == 3
    assert sum(rejected == texts[worst] for _, rejected in found) == 3
    assert not any(rejected == texts[best] or chosen == texts[worst] for chosen, rejected in found)


def test_exports_hold_five_comparisons_and_one_pick(store: Store, ann: User) -> None:
    picked = rank(store, ann)
    trl = list(rows(store, "trl", select()))
    assert {(row["chosen"], row["rejected"]) for row in trl} == FIVE and len(trl) == 5
    conversational = list(rows(store, "trl-conversational", select(where="verdict=ranked")))
    assert len(conversational) == 5
    (whole,) = rows(store, "jsonl", select())
    assert (whole["id"], whole["best"], whole["worst"]) == (picked, "a", "b")
    assert [whole[side]["text"] for side in "abcd"] == [*"ABCD"]
    assert (whole["shown_left"], whole["shown_order"]) == (None, ORDER)


def test_a_snapshot_holds_a_ranking_whole(store: Store, ann: User, tmp_path: Path) -> None:
    add_imports(store, 8)
    picked = rank(store, ann)
    made = snapshots.freeze(store, "run-000001", tmp_path, ["human", "import"])
    assert made.rows_train + made.rows_eval == 8 + 1
    assert made.counts == {"left": 8, "ranked": 1}
    both = snapshots.frozen(store, tmp_path)
    (row,) = (row for split in both for row in split if row["judgment_id"] == picked)
    found = {(row.chosen, row.rejected) for row in pair_rows(Pick.of(row), DpoSettings())}
    assert found == FIVE


def test_a_ranking_is_one_pick_in_the_statistics(store: Store, ann: User) -> None:
    rank(store, ann)
    assert statistics.picks(store).picks == 1
    assert statistics.own(store, ann.user_id).total == 1


def test_a_ranking_that_is_taken_back_counts_nowhere(store: Store, ann: User) -> None:
    rank(store, ann)
    undone = judgments.undo(store, ann, LEASE)
    assert undone is not None
    assert (undone.pick.verdict, undone.pick.best, undone.pick.worst) == ("ranked", 1, 3)
    assert store.read("select * from preference") == []
    seen = lease(store, ann)
    assert seen is not None and seen.order == ORDER


def test_a_cut_answer_spoils_only_its_own_comparisons(store: Store, ann: User) -> None:
    rank(store, ann)
    store.write(lambda tx: tx.all("update pair set c_finish_reason = 'length'"))
    cut = store.read("select chosen, rejected from preference where cut")
    assert {(row["chosen"], row["rejected"]) for row in cut} == {("A", "C"), ("C", "B")}


def test_four_are_ranked_and_two_are_not(store: Store, ann: User) -> None:
    four = add_four(store)
    assert lease(store, ann)
    for verdict in ("left", "right"):
        with pytest.raises(Invalid, match="Of four answers"):
            judge(store, ann, four, verdict)  # type: ignore[arg-type]
    judge(store, ann, four, "both_bad")
    two = add_pair(store)
    assert lease(store, ann)
    with pytest.raises(Invalid, match="sets of four"):
        judge(store, ann, two, "ranked", best=0, worst=1)
    judge(store, ann, two, "tie")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"verdict": "ranked"}, "two different places"),
        ({"verdict": "ranked", "best": 0}, "two different places"),
        ({"verdict": "ranked", "best": 4, "worst": 0}, "two different places"),
        ({"verdict": "ranked", "best": -1, "worst": 0}, "two different places"),
        ({"verdict": "left", "best": 0, "worst": 1}, "with the verdict ranked only"),
        ({"verdict": "ranked", "best": 0, "worst": 1, "strength": 2}, "left or right only"),
        ({"verdict": "tie", "edited_text": "better"}, "the better side"),
        ({"verdict": "left", "guidelines_version": 2**31}, "version of the guidelines"),
        ({"verdict": "left", "guidelines_version": 0}, "version of the guidelines"),
    ],
)
def test_bad_values_are_refused(values: dict, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        NewJudgment("id", "pair", **values)
