"""Exported rows in files: formats, split by prompt, manifest, and nothing left after a failure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from annotate.export_file import prompt_fraction, train_share, write_export
from store.exporting import as_text
from store.rows import Invalid, Message, PrefloopError

ABOUT = {"format": "trl", "since": None, "where": "source=all"}


def row(prompt: str, n: int = 0) -> str:
    value = {"prompt": prompt, "chosen": f"better {n} \u2028 ü", "rejected": f"worse {n}"}
    return json.dumps(value, ensure_ascii=False)


def rows(prompts: int, each: int = 1) -> list[str]:
    return [row(f"Question {i}?", n) for n in range(each) for i in range(prompts)]


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def manifest(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.with_name(path.name + ".manifest.json").read_text())
    return found


@pytest.mark.parametrize("name", ["picks.jsonl", "picks.json"])
def test_json_lines_and_their_manifest(name: str, tmp_path: Path) -> None:
    out = tmp_path / name
    assert write_export(iter(rows(5)), out, None, ABOUT) == {out: 5}
    assert read(out) == [json.loads(line) for line in rows(5)]
    assert manifest(out) == ABOUT | {
        "file": name,
        "rows": 5,
        "sha256": hashlib.sha256(out.read_bytes()).hexdigest(),
    }
    assert {path.name for path in tmp_path.iterdir()} == {name, f"{name}.manifest.json"}


def test_an_empty_export_is_an_empty_file(tmp_path: Path) -> None:
    out = tmp_path / "picks.jsonl"
    assert write_export(iter([]), out, None, ABOUT) == {out: 0}
    assert out.read_bytes() == b"" and manifest(out)["rows"] == 0


def test_parquet_holds_the_same_rows(tmp_path: Path) -> None:
    out = tmp_path / "picks.parquet"
    assert write_export(iter(rows(5)), out, None, ABOUT) == {out: 5}
    with duckdb.connect() as db:
        found = db.execute("select * from read_parquet($file)", {"file": str(out)}).fetchall()
    assert found == [tuple(json.loads(line).values()) for line in rows(5)]
    assert {path.name for path in tmp_path.iterdir()} == {out.name, out.name + ".manifest.json"}


def test_conversations_keep_their_turns_in_parquet(tmp_path: Path) -> None:
    line = json.dumps({"prompt": [{"role": "user", "content": "Why?"}], "chosen": [], "n": 1})
    out = tmp_path / "picks.parquet"
    write_export(iter([line]), out, None, ABOUT)
    with duckdb.connect() as db:
        found = db.execute("select prompt from read_parquet($file)", {"file": str(out)}).fetchall()
    assert found == [([{"role": "user", "content": "Why?"}],)]


def test_a_prompt_is_never_in_both_files(tmp_path: Path) -> None:
    written = write_export(iter(rows(400, each=3)), tmp_path / "picks.jsonl", "0.8/0.2", ABOUT)
    train, test = tmp_path / "picks.train.jsonl", tmp_path / "picks.test.jsonl"
    asked = {path: {found["prompt"] for found in read(path)} for path in written}
    assert list(written) == [train, test]
    assert not asked[train] & asked[test]
    assert written[train] + written[test] == 1200
    assert len(asked[train]) == pytest.approx(320, abs=40)  # five standard deviations
    assert manifest(test)["rows"] == written[test] == 3 * len(asked[test])


def test_the_same_prompt_falls_on_the_same_side_in_every_export() -> None:
    assert prompt_fraction(row("Why?", 1)) == prompt_fraction(row("Why?", 2))
    values = [prompt_fraction(line) for line in rows(2000)]
    assert 0 <= min(values) < 0.01 and 0.99 < max(values) < 1


def test_turns_of_one_talk_fall_on_one_side() -> None:
    first: list[Message] = [{"role": "user", "content": "Why is the sky blue?"}]
    second: list[Message] = [
        *first,
        {"role": "assistant", "content": "Air scatters blue light."},
        {"role": "user", "content": "And red at night?"},
    ]
    for prompts in ((first, second), (as_text(first), as_text(second))):
        one, other = (prompt_fraction(json.dumps({"prompt": prompt})) for prompt in prompts)
        assert one == other
    assert prompt_fraction(row("Why?")) != prompt_fraction(row("How?"))


@pytest.mark.parametrize(("split", "share"), [("0.9/0.1", 0.9), ("0.5/0.5", 0.5), ("1e-1/.9", 0.1)])
def test_split(split: str, share: float) -> None:
    assert train_share(split) == pytest.approx(share)


@pytest.mark.parametrize("split", ["0.9", "0.9/0.2", "1/0", "a/b", "0.5/0.3/0.2", "nan/nan", ""])
def test_a_split_that_makes_no_sense(split: str) -> None:
    with pytest.raises(Invalid, match=r"split|shares"):
        train_share(split)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("picks.csv", "ends in .jsonl or .parquet"), ("none/picks.jsonl", "Make it first")],
)
def test_a_target_that_cannot_be_written(name: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid) as caught:
        write_export(iter(rows(1)), tmp_path / name, None, ABOUT)
    assert sentence in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("split", [None, "0.999999/0.000001"])
def test_an_empty_parquet_file_is_refused_and_nothing_is_left(
    split: str | None, tmp_path: Path
) -> None:
    with pytest.raises(Invalid, match="empty Parquet file has no columns"):
        write_export(iter(rows(3) if split else []), tmp_path / "picks.parquet", split, ABOUT)
    assert not list(tmp_path.iterdir())


def test_an_app_that_goes_away_leaves_the_old_export_alone(tmp_path: Path) -> None:
    def cut_short() -> Iterator[str]:
        yield row("Why?")
        raise PrefloopError("prefloop does not answer.")

    out = tmp_path / "picks.jsonl"
    out.write_text("old")
    with pytest.raises(PrefloopError):
        write_export(cut_short(), out, None, ABOUT)
    assert out.read_text() == "old"
    assert list(tmp_path.iterdir()) == [out]
