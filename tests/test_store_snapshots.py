"""Frozen training data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from datasets import load_dataset

from store import conversations, judgments, pairs, pools, prompts, snapshots
from store.database import Store
from store.importing import NewPreference, add_preferences
from store.prompts import NewPrompt
from store.rows import Invalid, Message, Source, User
from tests.stored import (
    LEASE,
    add_imports,
    add_pair,
    add_picks,
    add_policy,
    add_user,
    completion,
    judge,
    pick,
)


@pytest.fixture
def ann(store: Store) -> User:
    add_policy(store)
    return add_user(store, "ann")


def freeze(store: Store, folder: Path, salt: int = 0) -> snapshots.Snapshot:
    return snapshots.freeze(store, "run-000001", folder, ["human", "import"], salt)


def rows_of(folder: Path) -> dict[str, list[dict]]:
    files = {split: str(folder / f"{split}.parquet") for split in ("train", "eval")}
    loaded = load_dataset("parquet", data_files=files, cache_dir=str(folder / "cache"))
    return {split: list(loaded[split]) for split in files}


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


def test_no_text_of_a_held_out_talk_is_trained_on(store: Store, ann: User, tmp_path: Path) -> None:
    """Later turns repeat what was said, so a talk is wholly on one side, and so are talks from the
    same opening."""
    pool = pools.add(store, "Talks", mode="conversation", turns=2)
    prompts.add(store, [NewPrompt([{"role": "user", "content": "Given 7?"}])], "import")
    (given,) = prompts.search(store, None, 1)
    for number in range(30):
        opening = {7: given, 8: given}.get(number)
        talk = conversations.open(store, ann, pool, opening)
        first = None if opening else f"First {number // 2 * 2 if number > 25 else number}?"
        for text in (first, f"Second {number}?"):
            asked = talk.messages
            if text:
                asked = [*asked, Message(role="user", content=text)]
            prompt_id = conversations.begin_turn(store, talk.conversation_id, asked)
            sides = (completion(f"{side} {number} of {text}") for side in "AB")
            turn = {"conversation_id": talk.conversation_id, "turn": talk.turn}
            pair_id = pairs.add(store, prompt_id, [1], *sides, pool_id=talk.pool_id, **turn)
            pairs.lease_pair(store, ann.user_id, pair_id, lambda n: "ab"[:n], LEASE)
            judge(store, ann, pair_id)
            talk = conversations.current_of(store, ann.user_id) or talk
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


def test_rows_are_what_trainers_read(store: Store, ann: User, tmp_path: Path) -> None:
    add_imports(store, 20)
    add_pair(store, "Why?", "Worse.", "Better.")
    picked = pick(store, ann, "right", strength=2)
    freeze(store, tmp_path / "frozen")
    found = rows_of(tmp_path / "frozen")
    (row,) = (row for split in found.values() for row in split if row["judgment_id"] == picked)
    assert row["prompt"] == [{"role": "user", "content": "Why?"}]
    assert row["chosen"] == [{"role": "assistant", "content": "Better."}]
    assert row["rejected"] == [{"role": "assistant", "content": "Worse."}]
    assert (row["strength"], row["source"]) == (2, "human")


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
        assert row["chosen"][0]["content"] == f"a{text}"


def test_the_same_picks_give_the_same_hash(store: Store, ann: User, tmp_path: Path) -> None:
    add_imports(store, 30)
    first, second = (freeze(store, tmp_path / name) for name in ("one", "two"))
    assert first.sha256 == second.sha256
    assert first.snapshot_id != second.snapshot_id
    assert freeze(store, tmp_path / "salted", salt=1).sha256 != first.sha256
    add_picks(store, ann, 1)
    assert freeze(store, tmp_path / "three").sha256 != first.sha256


def test_identical_sides_and_picks_without_a_better_side_are_left_out_and_counted(
    store: Store, ann: User, tmp_path: Path
) -> None:
    add_imports(store, 20)
    add_picks(store, ann, 2, "tie")
    add_picks(store, ann, 1, "both_bad")
    for number in range(2):
        add_pair(store, f"Same {number}?", "Same.", "Same.")
        pick(store, ann, "right")
    made = freeze(store, tmp_path / "frozen")
    assert made.counts == {
        "left": 20,
        "right": 2,
        "tie": 2,
        "both_bad": 1,
        "identical": 2,
        "cut": 0,
    }
    assert made.rows_train + made.rows_eval == 20


def test_answers_cut_by_max_tokens_are_left_out_and_counted(
    store: Store, ann: User, tmp_path: Path
) -> None:
    """Training would append the end token to them."""
    add_imports(store, 7)  # without a finish reason
    for number, ends in enumerate([("length", "stop"), ("stop", "length"), ("length", "length")]):
        add_pair(store, f"Cut {number}?", "Worse.", "Better, but", ends=ends)
        pick(store, ann, "right")
    add_pair(store, "Cut and the same?", "Same", "Same", ends=("length", "length"))
    pick(store, ann, "left")
    with pytest.raises(Invalid, match="there are 7"):
        freeze(store, tmp_path / "frozen")
    add_imports(store, 20)
    made = freeze(store, tmp_path / "frozen")
    assert (made.counts["cut"], made.counts["identical"]) == (3, 1)
    assert made.rows_train + made.rows_eval == 20
    found = rows_of(tmp_path / "frozen")
    assert "Better, but" not in str(found)


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


def test_too_few_picks_are_one_sentence(store: Store, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"at least 8 picks .* there are 0\. Annotate some more"):
        freeze(store, tmp_path / "frozen")
    add_imports(store, 7)
    with pytest.raises(Invalid, match="there are 7"):
        freeze(store, tmp_path / "frozen")
    assert not (tmp_path / "frozen").exists()


def test_too_few_prompts_are_one_sentence(store: Store, tmp_path: Path) -> None:
    same: list[Message] = [{"role": "user", "content": "Always the same?"}]
    add_preferences(store, [NewPreference(same, f"Good {n}.", "Bad.") for n in range(10)])
    with pytest.raises(Invalid, match="too few prompts to hold some out"):
        freeze(store, tmp_path / "frozen")


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
