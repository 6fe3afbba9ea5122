"""Exports: the same picks give the same bytes, and others can read them."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset

from store import exporting, judgments
from store.database import Store
from store.exporting import FORMATS, lines, rows, select
from store.importing import add_preferences, preference_of, read_preferences
from store.rows import Invalid, utc_now
from tests.stored import LEASE, add_pair, add_picks, add_policy, add_user, pick

HARD = "🦊 ü \u2028 \x00 \\ \" '\r\n\tend "


@pytest.fixture
def filled(store: Store) -> Store:
    """Four picks of ann, two simulated ones, one import of several turns, one undone, one skip."""
    add_policy(store)
    ann, bot = add_user(store, "ann"), add_user(store, "bot", source="simulated")
    add_pair(store, HARD, f"a {HARD}", f"b {HARD}")
    pick(store, ann, "right", strength=3, reasons=["short"], comment=HARD)
    add_picks(store, ann, 2)
    add_picks(store, ann, 1, "tie")
    add_picks(store, ann, 1, "skip")
    add_picks(store, bot, 2)
    judgments.retract(store, ann, add_picks(store, ann, 1)[0], LEASE)
    start = "\n\nHuman: Hi \n\nAssistant: Hello.\n\nHuman: Why?\n\nAssistant:"
    add_preferences(store, [preference_of({"prompt": start, "chosen": "A ", "rejected": " B"})])
    return store


def exported(store: Store, format_: str, **given: Any) -> list[dict[str, Any]]:
    return list(rows(store, format_, select(**given)))


def as_bytes(store: Store, format_: str, where: str = "source=all") -> bytes:
    return "".join(lines(rows(store, format_, select(where=where)))).encode()


@pytest.mark.parametrize("format_", FORMATS)
def test_the_same_picks_give_the_same_bytes(filled: Store, format_: str) -> None:
    first = as_bytes(filled, format_)
    assert first == as_bytes(filled, format_)
    filled.close()
    with Store.open(filled.data_dir) as again:
        assert as_bytes(again, format_) == first
    (filled.data_dir / "prefloop.duckdb").unlink()
    with Store.open(filled.data_dir) as rebuilt:
        assert as_bytes(rebuilt, format_) == first


@pytest.mark.parametrize(("format_", "human", "every"), [("trl", 4, 6), ("jsonl", 6, 8)])
def test_simulated_picks_are_left_out_unless_asked_for(
    filled: Store, format_: str, human: int, every: int
) -> None:
    assert len(exported(filled, format_)) == human
    assert len(exported(filled, format_, where="source=all")) == every
    assert len(exported(filled, format_, where="source=simulated")) == 2
    assert len(exported(filled, format_, where="source=import")) == 1


def test_filters_narrow_the_export(filled: Store) -> None:
    def found(where: str) -> int:
        return len(exported(filled, "jsonl", where=where))

    assert found("user=ann") == 5
    assert found("user=ann, verdict=tie") == 1
    assert found("policy=policy-000000") == 5
    assert found("policy=policy-000009") == 0
    assert found("tag=tests") == 5
    assert len(exported(filled, "trl", where="verdict=right")) == 1
    assert len(exported(filled, "trl", since=utc_now() + timedelta(days=1))) == 0
    assert len(exported(filled, "trl", since=utc_now() - timedelta(days=1))) == 4


@pytest.mark.parametrize(
    "where", ["user", "user=", "=ann", "colour=red", "source=people", "user=ann,,x=1"]
)
def test_a_filter_that_cannot_be_read_is_one_sentence(where: str) -> None:
    with pytest.raises(Invalid, match=r"write key=value|source is"):
        select(where=where)


def test_an_unknown_format_is_one_sentence(store: Store) -> None:
    with pytest.raises(Invalid, match="choose trl, trl-conversational, jsonl"):
        rows(store, "xml", select())


@pytest.mark.parametrize("format_", FORMATS)
def test_every_format_is_read_by_datasets(filled: Store, tmp_path: Path, format_: str) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(as_bytes(filled, format_))
    loaded = load_dataset(
        "json", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache")
    )
    expected = exported(filled, format_, where="source=all")
    assert len(loaded) == len(expected)
    for mine, theirs in zip(expected, loaded, strict=True):
        assert theirs["prompt"] == mine["prompt"]
        if format_ != "jsonl":
            assert (theirs["chosen"], theirs["rejected"]) == (mine["chosen"], mine["rejected"])
        else:
            assert theirs["a"]["token_ids"] == mine["a"]["token_ids"]
            assert theirs["choice"] == mine["choice"]


@pytest.mark.parametrize("format_", ["trl", "trl-conversational"])
def test_what_is_imported_again_is_the_same(filled: Store, tmp_path: Path, format_: str) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(as_bytes(filled, format_))
    found = read_preferences(path, None)
    assert found.left_out == {}
    preferences = filled.read("select messages, chosen, rejected from preference order by seq")
    assert [(row.messages, row.chosen, row.rejected) for row in found.rows] == [
        (json.loads(row["messages"]), row["chosen"], row["rejected"]) for row in preferences
    ]
    with Store.open(tmp_path / "other") as other:
        add_preferences(other, found.rows)
        assert as_bytes(other, format_) == path.read_bytes()


def test_the_full_layout_holds_both_sides_and_the_screen(filled: Store) -> None:
    row = exported(filled, "jsonl")[0]
    assert row["prompt"] == [{"role": "user", "content": HARD}]
    assert row["a"] == {
        "text": f"a {HARD}",
        "token_ids": [1, 2, 3],
        "logprob_sum": -4.5,
        "logprob_count": 3,
        "finish_reason": "stop",
        "policy_id": "policy-000000",
        "seed": 1,
        "sampling": {"temperature": 1.0},
    }
    assert (row["choice"], row["verdict"], row["shown_left"]) == ("b", "right", "a")
    assert (row["strength"], row["reasons"], row["comment"]) == (3, ["short"], HARD)
    assert (row["annotator"], row["source"], row["tags"]) == ("ann", "human", ["tests"])
    assert row["created_at"].endswith("Z")


def test_identical_sides_are_no_preference(store: Store) -> None:
    add_policy(store)
    ann = add_user(store, "ann")
    add_pair(store, "Why?", "Same.", "Same.")
    pick(store, ann)
    assert exported(store, "trl") == []
    assert len(exported(store, "jsonl")) == 1


def test_lines_are_plain_json_lines(filled: Store) -> None:
    written = as_bytes(filled, "jsonl")
    assert written.endswith(b"}\n") and b"\r" not in written
    assert "🦊".encode() in written
    assert len(written.split(b"\n")) - 1 == 8
    assert exporting.as_text([{"role": "user", "content": "Why?"}]) == "Why?"
