"""Frozen training data: one row for each pick, split by prompt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from store import conversations, judgments, pairs, pools, prompts, snapshots
from store.database import Store
from store.importing import NewPreference, add_preferences
from store.prompts import NewPrompt
from store.rows import Message, Source, User
from tests.stored import (
    LEASE,
    add_four,
    add_imports,
    add_pair,
    add_picks,
    add_policy,
    add_user,
    completion,
    judge,
    lease,
    pick,
)
from train.picks import Pick
from train.rules import ranking_rows
from train.settings import RewardSettings


@pytest.fixture
def ann(store: Store) -> User:
    add_policy(store)
    return add_user(store, "ann")


def freeze(store: Store, folder: Path, salt: int = 0) -> snapshots.Snapshot:
    return snapshots.freeze(store, "run-000001", folder, ["human", "import"], salt)


def rows_of(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """As the training scripts read them."""
    return {
        split: pyarrow.parquet.read_table(folder / f"{split}.parquet").to_pylist()
        for split in snapshots.SPLITS
    }


def frozen(store: Store, folder: Path, pick_id: str) -> dict[str, Any]:
    """The row of one pick, without what is the same in all of these tests."""
    freeze(store, folder)
    rows = [row for split in rows_of(folder).values() for row in split]
    (row,) = (row for row in rows if row["judgment_id"] == pick_id)
    return row


def test_no_prompt_is_on_both_sides(store: Store, tmp_path: Path) -> None:
    rows = [
        NewPreference([{"role": "user", "content": f"Item {n % 20}?"}], f"Good {n}.", f"Bad {n}.")
        for n in range(60)
    ]
    add_preferences(store, rows)
    made = freeze(store, tmp_path / "frozen")
    found = rows_of(tmp_path / "frozen")
    train, held_out = ({row["prompt_id"] for row in found[split]} for split in ("train", "eval"))
    assert train and held_out and not train & held_out
    assert (made.rows_train, made.rows_eval) == (len(found["train"]), len(found["eval"]))
    assert made.rows_train + made.rows_eval == 60


def test_imported_talks_that_begin_alike_are_on_one_side(store: Store, tmp_path: Path) -> None:
    """Half of them go on from an answer that another row compares; a few have no user at all."""
    calm: Message = {"role": "system", "content": "Be calm."}
    talks: list[list[Message]] = []
    for number in range(30):
        opening: list[Message] = [calm, {"role": "user", "content": f"Item {number}?"}]
        answer: Message = {"role": "assistant", "content": f"Good {number}."}
        talks += [opening, [*opening, answer, {"role": "user", "content": "And then?"}]]
    talks += [[{"role": "assistant", "content": f"Alone {number}."}] for number in range(8)]
    add_preferences(store, [NewPreference(said, "Yes.", "No.") for said in talks])
    freeze(store, tmp_path / "frozen")
    openings = {
        split: {repr(row["prompt"][:2]) for row in rows}
        for split, rows in rows_of(tmp_path / "frozen").items()
    }
    assert not openings["train"] & openings["eval"]
    assert (len(openings["train"]), len(openings["eval"])) == (28, 10), "a quarter of 38"


def test_no_text_of_a_held_out_talk_is_trained_on(store: Store, ann: User, tmp_path: Path) -> None:
    """Later turns repeat what was said, so a talk is wholly on one side, and so are talks from the
    same opening."""
    pool = pools.add(store, "Talks", mode="conversation", turns=2)
    prompts.add(store, [NewPrompt([{"role": "user", "content": "Given 7?"}])], "import")
    (given,) = prompts.search(store, None, 1)
    for number in range(30):
        opening = {7: given, 8: given}.get(number)
        name = f"Talk {number // 2 * 2 if number > 25 else number}"
        talk(store, ann, pool, name, ("left", "left"), opening)
    add_pair(store, "Given 7?", "Water.", "Air.")  # the opening in another pool
    pick(store, ann)
    made = freeze(store, tmp_path / "frozen")
    found = rows_of(tmp_path / "frozen")
    texts = {
        split: {message["content"] for row in found[split] for message in row["prompt"]}
        for split in found
    }
    assert not texts["train"] & texts["eval"]
    assert made.rows_train + made.rows_eval == 61
    assert len({row["prompt"][0]["content"] for row in found["eval"]}) == 7, "of 27 openings"


def test_a_row_holds_all_that_was_said(store: Store, ann: User, tmp_path: Path) -> None:
    """Shown as B and A; the right one, which is A, was picked and corrected."""
    pair_id = add_pair(store, "Why?", "Better.", "Worse, but", ends=("stop", "length"))
    assert lease(store, ann, "ba")
    picked = judge(store, ann, pair_id, "right", strength=3, edited_text="Best.")
    prompt = store.read_one("select prompt_id from prompt")
    assert prompt is not None
    assert frozen(store, tmp_path / "frozen", picked) == {
        "judgment_id": picked,
        "pair_id": pair_id,
        "prompt_id": prompt["prompt_id"],
        "user_id": ann.user_id,
        "pool": "Everything",
        "source": "human",
        "verdict": "right",
        "strength": 3,
        "turn": None,
        "last_turn": True,
        "prompt": [{"role": "user", "content": "Why?"}],
        "answers": [{"text": "Better.", "cut": False}, {"text": "Worse, but", "cut": True}],
        "better": 0,
        "best": None,
        "worst": None,
        "edited_text": "Best.",
        "shown_left": 1,
    }


def test_a_row_of_four_answers(store: Store, ann: User, tmp_path: Path) -> None:
    """Shown as C A D B: A is the best and B the worst."""
    pair_id = add_four(store)
    assert lease(store, ann, "cadb")
    picked = judge(store, ann, pair_id, "ranked", best=1, worst=3)
    row = frozen(store, tmp_path / "frozen", picked)
    assert [answer["text"] for answer in row["answers"]] == [*"ABCD"]
    assert (row["best"], row["worst"], row["better"], row["shown_left"]) == (0, 1, None, None)
    (ranking,) = ranking_rows(Pick.of(row), RewardSettings())
    first = ranking.comparisons[0]
    assert (first.better, first.worse) == (0, 1)


@pytest.mark.parametrize("verdict", ["tie", "both_bad"])
def test_a_row_without_a_better_side(store: Store, ann: User, tmp_path: Path, verdict: Any) -> None:
    add_pair(store)
    row = frozen(store, tmp_path / "frozen", pick(store, ann, verdict))
    assert (row["verdict"], row["better"], row["strength"]) == (verdict, None, None)
    assert (row["shown_left"], len(row["answers"])) == (0, 2)


def test_an_import_was_never_on_a_screen(store: Store, tmp_path: Path) -> None:
    add_imports(store, 1)
    (imported,) = store.read("select judgment_id from judgment")
    row = frozen(store, tmp_path / "frozen", imported["judgment_id"])
    assert (row["source"], row["better"]) == ("import", 0)
    assert (row["shown_left"], row["pool"]) == (None, None)


def test_the_turns_of_a_talk(store: Store, ann: User, tmp_path: Path) -> None:
    """The last turn is the last one that says something: the third was skipped."""
    pool = pools.add(store, "Talks", mode="conversation", turns=3)
    talk(store, ann, pool, "Talk", verdicts=("left", "right", "skip"))
    freeze(store, tmp_path / "frozen")
    rows = [row for split in rows_of(tmp_path / "frozen").values() for row in split]
    assert [(row["turn"], row["last_turn"]) for row in rows] == [(1, False), (2, True)]
    assert [message["content"] for message in rows[1]["prompt"]] == [
        "Talk, turn 1?",
        "A of Talk, turn 1?",
        "Talk, turn 2?",
    ]
    assert {row["pool"] for row in rows} == {"Talks"}


def talk(
    store: Store,
    user: User,
    pool: pools.Pool,
    name: str,
    verdicts: tuple[Any, ...],
    given: Any = None,
) -> None:
    """A conversation whose turns are judged so; the first message may be a given prompt."""
    now = conversations.open(store, user, pool, given)
    for number, verdict in enumerate(verdicts, 1):
        asked = now.messages
        if now.needs_message:
            asked = [*asked, Message(role="user", content=f"{name}, turn {number}?")]
        prompt_id = conversations.begin_turn(store, now.conversation_id, asked)
        sides = (completion(f"{side} of {asked[-1]['content']}") for side in "AB")
        turn = {"conversation_id": now.conversation_id, "turn": now.turn}
        pair_id = pairs.add(store, prompt_id, [1], *sides, pool_id=now.pool_id, **turn)
        pairs.lease_pair(store, user.user_id, pair_id, lambda n: "ab"[:n], LEASE)
        judge(store, user, pair_id, verdict)
        now = conversations.current_of(store, user.user_id) or now


def test_any_text_survives_the_file(store: Store, tmp_path: Path) -> None:
    text = "🦊 ü \x00 \u2028 \" \\ '"
    rows = [
        NewPreference([{"role": "user", "content": f"{text}{n}"}], f"a{text}", f"b{text}")
        for n in range(20)
    ]
    add_preferences(store, rows)
    freeze(store, tmp_path / "frozen")
    found = rows_of(tmp_path / "frozen")
    for row in found["train"] + found["eval"]:
        assert row["prompt"][0]["content"].startswith(text)
        assert [answer["text"] for answer in row["answers"]] == [f"a{text}", f"b{text}"]


def test_the_same_picks_give_the_same_hash(store: Store, ann: User, tmp_path: Path) -> None:
    add_imports(store, 30)
    first, second = (freeze(store, tmp_path / name) for name in ("one", "two"))
    assert first.sha256 == second.sha256
    assert first.snapshot_id != second.snapshot_id
    assert freeze(store, tmp_path / "salted", salt=1).sha256 != first.sha256
    add_picks(store, ann, 1)
    assert freeze(store, tmp_path / "three").sha256 != first.sha256


def test_all_that_trainers_may_use_is_frozen_and_the_rest_is_counted(
    store: Store, ann: User, tmp_path: Path
) -> None:
    add_imports(store, 20)
    add_picks(store, ann, 2, "tie")
    add_picks(store, ann, 1, "both_bad")
    add_picks(store, ann, 3, "skip")
    add_pair(store, "Same?", "Same.", "Same.")
    pick(store, ann, "right")
    add_pair(store, "Cut?", "Worse.", "Better, but", ends=("stop", "length"))
    pick(store, ann, "right")
    add_pair(store, "Broken?")
    pick(store, ann, "flag")
    made = freeze(store, tmp_path / "frozen")
    rows = [row for split in rows_of(tmp_path / "frozen").values() for row in split]
    assert made.counts == {"left": 20, "right": 2, "tie": 2, "both_bad": 1, "skip": 3, "flag": 1}
    assert made.rows_train + made.rows_eval == len(rows) == 25
    assert {row["verdict"] for row in rows} == {"left", "right", "tie", "both_bad"}


def test_without_picks_the_files_are_empty(store: Store, tmp_path: Path) -> None:
    made = freeze(store, tmp_path / "frozen")
    assert (made.rows_train, made.rows_eval, made.counts) == (0, 0, {})
    assert rows_of(tmp_path / "frozen") == {"train": [], "eval": []}
    assert snapshots.preview(store, ["human"]) == ([], [])


def test_a_preview_is_what_would_be_frozen(store: Store, ann: User, tmp_path: Path) -> None:
    add_imports(store, 30)
    add_picks(store, ann, 3, "tie")
    for salt in (0, 1):
        folder = tmp_path / f"salt-{salt}"
        freeze(store, folder, salt)
        expected = rows_of(folder)
        found = snapshots.preview(store, ["human", "import"], salt)
        assert found == (expected["train"], expected["eval"])
        assert snapshots.frozen(store, folder) == found
        assert {path.name for path in folder.iterdir()} == {"train.parquet", "eval.parquet"}


def test_what_changes_a_preview_is_noticed(store: Store, ann: User) -> None:
    seen = [snapshots.newest(store)]
    (picked,) = add_picks(store, ann, 1)
    seen.append(snapshots.newest(store))
    judgments.retract(store, ann, picked, LEASE)
    seen.append(snapshots.newest(store))
    assert seen == sorted(set(seen))
    assert snapshots.newest(store) == seen[-1]


def test_only_the_wanted_sources_and_live_picks_count(
    store: Store, ann: User, tmp_path: Path
) -> None:
    bot = add_user(store, "bot", source="simulated")
    add_imports(store, 20)
    undone = add_picks(store, ann, 3)[0]
    judgments.retract(store, ann, undone, LEASE)
    add_picks(store, bot, 2)

    def rows(*sources: Source) -> int:
        folder = tmp_path / "-".join(sources)
        made = snapshots.freeze(store, "run-000001", folder, sources)
        return made.rows_train + made.rows_eval

    assert rows("import") == 20
    assert rows("human", "import") == 22
    assert rows("human", "simulated", "import") == 24


def test_the_record_says_how_to_repeat_it(store: Store, tmp_path: Path) -> None:
    add_imports(store, 20)
    made = freeze(store, tmp_path / "frozen")
    row = store.read_one("select * from snapshot")
    assert row is not None
    assert (row["sha256"], row["run_id"]) == (made.sha256, "run-000001")
    assert json.loads(row["counts"]) == made.counts
    assert row["query"] == snapshots.QUERY
    newest = store.read_one("select max(seq) as seq from judgment")
    assert newest == {"seq": row["up_to_seq"]}


def held_out(store: Store, folder: Path) -> dict[str, int]:
    """Rows of the held-out file by verdict, and edits."""
    freeze(store, folder)
    found: dict[str, int] = {}
    for row in rows_of(folder)["eval"]:
        kind = "edit" if row["edited_text"] else row["verdict"]
        found[kind] = found.get(kind, 0) + 1
    return found


def test_every_kind_of_pick_has_its_share_held_out(store: Store, ann: User, tmp_path: Path) -> None:
    """Each trainer reads the same split and finds something to be measured on."""
    add_imports(store, 30)
    add_picks(store, ann, 10, "tie")
    add_picks(store, ann, 4, "both_bad")
    for number in range(6):
        add_pair(store, f"Edited {number}?")
        pick(store, ann, edited_text="As it should be.")
    found = held_out(store, tmp_path / "frozen")
    # A quarter of 30 and 6; of the 14 without a better side, whichever come first.
    assert (found.pop("left"), found.pop("edit")) == (8, 2)
    assert sum(found.values()) == 4 and set(found) <= {"tie", "both_bad"}


def test_a_few_edits_are_held_out_too(store: Store, ann: User, tmp_path: Path) -> None:
    add_imports(store, 200)
    for number in range(2):
        add_pair(store, f"Edited {number}?")
        pick(store, ann, edited_text="As it should be.")
    assert held_out(store, tmp_path / "frozen") == {"left": 40, "edit": 1}


def test_a_pick_over_an_answer_that_was_cut_is_held_out_like_any_other(
    store: Store, ann: User, tmp_path: Path
) -> None:
    for number in range(8):
        add_pair(store, f"Item {number}?", "Better.", "Worse, but", ends=("stop", "length"))
        pick(store, ann)
    add_picks(store, ann, 8, "tie")
    freeze(store, tmp_path / "frozen")
    held_out = [row["verdict"] for row in rows_of(tmp_path / "frozen")["eval"]]
    assert sorted(held_out) == ["left", "left", "tie", "tie"]


def test_ties_do_not_take_the_places_of_picks(store: Store, ann: User, tmp_path: Path) -> None:
    add_imports(store, 8)
    without = held_out(store, tmp_path / "without")
    add_picks(store, ann, 20, "tie")
    found = held_out(store, tmp_path / "with")
    assert found == {"left": 2, "tie": 5} and without == {"left": 2}
    one, other = (
        {row["judgment_id"] for row in rows_of(tmp_path / name)["eval"] if row["better"] == 0}
        for name in ("without", "with")
    )
    assert one == other


def test_a_single_prompt_is_trained_on(store: Store, tmp_path: Path) -> None:
    same: list[Message] = [{"role": "user", "content": "Always the same?"}]
    add_preferences(store, [NewPreference(same, f"Good {n}.", "Bad.") for n in range(10)])
    made = freeze(store, tmp_path / "frozen")
    assert (made.rows_train, made.rows_eval) == (10, 0)


@pytest.mark.parametrize(
    ("picks", "share"), [(0, 0.25), (8, 0.25), (160, 0.25), (200, 0.2), (400, 0.1), (10**6, 0.1)]
)
def test_the_share_held_out_has_bounds(picks: int, share: float) -> None:
    assert snapshots.eval_share(picks) == pytest.approx(share)


def test_exactly_the_share_of_the_prompts_is_held_out(
    store: Store, ann: User, tmp_path: Path
) -> None:
    """By count, not by chance: a small round always has something to be measured on."""
    add_imports(store, 8)
    made = freeze(store, tmp_path / "frozen")
    assert (made.rows_train, made.rows_eval) == (6, 2)
