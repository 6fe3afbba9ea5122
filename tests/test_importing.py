"""Prompts and preferences that others wrote: all or nothing, and every broken line is named."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from store import importing, prompts
from store.database import Store
from store.importing import (
    NewPreference,
    add_preferences,
    preference_of,
    prompt_of,
    read_preferences,
    read_prompts,
)
from store.rows import Invalid
from tests.stored import count

SHARED = Path(__file__).parent.parent.parent / "shared" / "data"
needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason=f"the real data sets are not there: {SHARED}"
)
USER = {"role": "user", "content": "Why?"}


def said(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


def write(tmp_path: Path, name: str, content: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def texts(found: list[prompts.NewPrompt]) -> list[str]:
    return [prompt.messages[-1]["content"] for prompt in found]


# ---- prompts


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.jsonl", '{"prompt": "Why?"}\n{"question": "How?"}\n'),
        ("p.jsonl", '{"text": "Why?"}\r\n\r\n{"instruction": "How?"}'),
        ("p.jsonl", '\ufeff{"prompt": "Why?"}\n"How?"'),
        ("p.jsonl", '{"messages": [{"role": "user", "content": "Why?"}]}\n{"turns": ["How?"]}'),
        ("p.json", '[{"prompt": "Why?"}, {"prompt": [{"role": "user", "content": "How?"}]}]'),
        ("p.json", ' \n["Why?", "How?"]'),
        ("p.csv", "prompt,other\nWhy?,1\nHow?,2\n"),
        ("p.csv", "\ufeffid, Prompt \r\n1,Why?\r\n2,How?\r\n"),
        ("p.txt", "Why?\n\n  How?  \r\n"),
        ("p.txt", "\ufeffWhy?\r\nHow?"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_prompts_are_read_from_every_layout(tmp_path: Path, name: str, content: str) -> None:
    assert texts(read_prompts(write(tmp_path, name, content), None)) == ["Why?", "How?"]
    packed = write(tmp_path, name + ".gz", gzip.compress(content.encode()))
    assert texts(read_prompts(packed, None)) == ["Why?", "How?"]


def test_the_format_can_be_named(tmp_path: Path) -> None:
    path = write(tmp_path, "prompts.data", "Why?\nHow?")
    assert texts(read_prompts(path, "txt")) == ["Why?", "How?"]
    with pytest.raises(Invalid, match="Unknown prompt format 'xml': choose jsonl, csv, txt"):
        read_prompts(path, "xml")
    with pytest.raises(Invalid, match="Unknown preference format 'dpo': choose trl, hh-rlhf"):
        read_preferences(path, "dpo")


def test_csv_cells_keep_commas_quotes_and_lines(tmp_path: Path) -> None:
    path = write(tmp_path, "p.csv", 'prompt,tags\n"One, ""two""\nthree","a, b"\n')
    (found,) = read_prompts(path, None, "mine")
    assert found.messages[0]["content"] == 'One, "two"\nthree'
    assert found.tags == ("mine", "a", "b")


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x1c"])
def test_odd_separators_end_no_line(tmp_path: Path, separator: str) -> None:
    row = json.dumps({"prompt": f"a{separator}b"}, ensure_ascii=separator < " ")
    assert texts(read_prompts(write(tmp_path, "p.jsonl", row), None)) == [f"a{separator}b"]
    plain = write(tmp_path, "p.txt", f"a{separator}b")
    assert texts(read_prompts(plain, None)) == [f"a{separator}b"]


def test_tags_of_the_row_the_category_and_the_command_are_joined() -> None:
    found = prompt_of({"turns": ["Why?", "And?"], "category": "math", "tags": ["x", "t"]}, ("t",))
    assert found.tags == ("t", "x", "math")
    assert texts([found]) == ["Why?"], "the second turn needs an answer to the first"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not valid JSON"),
        ("{'prompt': 'x'}", "not valid JSON"),
        ("[1]", "not a JSON object"),
        ("7", "not a JSON object"),
        ('{"prompt": NaN}', "NaN is not JSON"),
        ('{"prompt": "x", "n": Infinity}', "Infinity is not JSON"),
        ('{"prompt": "x", "prompt": "y"}', "a key stands twice"),
        ('{"prompt": "\\ud83d"}', "half a surrogate"),
        ('{"\\udc00": "x"}', "half a surrogate"),
        ('{"prompt": ' + "[" * 60 + "]" * 60 + "}", "nested too deeply"),
        ('{"prompt": ' + "[" * 90_000 + "]" * 90_000 + "}", "nested too deeply"),
        ('{"prompt": "x", "n": ' + "9" * 5000 + "}", "not valid JSON"),
        ('{"prompt": ""}', "a message is empty"),
        ('{"prompt": 7}', "content text"),
        ('{"prompt": "' + "x" * 100_001 + '"}', "longer than 100,000"),
        ('{"answer": "x"}', "has none of the fields"),
        ('{"prompt": "x", "tags": "y"}', "tags must be a list"),
        ('{"messages": [{"role": "robot", "content": "x"}]}', "role of a message"),
        ('{"messages": [{"role": "assistant", "content": "x"}]}', "last message must be"),
        ('{"messages": []}', "must be a list"),
    ],
    ids=lambda value: repr(value)[:28],
)
def test_a_broken_line_is_named_and_nothing_is_taken(
    tmp_path: Path, line: str, reason: str
) -> None:
    path = write(tmp_path, "p.jsonl", f'{{"prompt": "fine"}}\n\n{line}\n{{"prompt": "fine too"}}\n')
    with pytest.raises(Invalid) as refused:
        read_prompts(path, None)
    first, second = str(refused.value).split("\n")
    assert first == "p.jsonl: 1 broken line(s), nothing was imported. Mend them:"
    assert second.startswith("  line 3: ") and reason in second


def test_of_many_broken_lines_the_first_ten_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, "p.jsonl", "x\n" * 25)
    with pytest.raises(Invalid) as refused:
        read_prompts(path, None)
    lines = str(refused.value).split("\n")
    assert lines[0].startswith("p.jsonl: 25 broken line(s)")
    assert lines[10].startswith("  line 10:") and lines[11:] == ["  and 15 more"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("p.jsonl", b"", "holds no rows"),
        ("p.jsonl", b"\n \n", "holds no rows"),
        ("p.json", b"[]", "holds no rows"),
        ("p.csv", b"prompt\n", "holds no rows"),
        ("p.csv", b"prompt\n" + b"x" * 140_000, "line 2: field larger"),
        ("p.json", b'[{"prompt": "x"},]', "p.json: not valid JSON"),
        ("p.jsonl", '{"prompt": "ü"}\n'.encode("latin-1"), "not UTF-8 text \\(line 1\\)"),
        ("p.jsonl", '{"prompt": "x"}'.encode("utf-16"), "not UTF-8"),
        ("p.jsonl.gz", gzip.compress(b'{"prompt": "x"}' * 99, mtime=0)[:-9], "cannot be read"),
        ("p.jsonl.gz", b"plain text", "cannot be read"),
        ("p.jsonl.gz", gzip.compress(b"x" * 5000, mtime=0)[:12] + b"\xff" * 40, "cannot be read"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_a_file_that_cannot_be_read_is_one_sentence(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    with pytest.raises(Invalid, match=reason) as refused:
        read_prompts(write(tmp_path, name, content), None)
    assert name in str(refused.value)


def test_a_missing_file_and_a_folder_are_one_sentence(tmp_path: Path) -> None:
    for path in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(Invalid, match="There is no file"):
            read_prompts(path, None)


def test_a_file_that_unpacks_beyond_the_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "LARGEST_BYTES", 1 << 20)
    bomb = write(tmp_path, "p.txt.gz", gzip.compress(b"a" * (8 << 20)))
    with pytest.raises(Invalid, match="larger than 1 MiB unpacked"):
        read_prompts(bomb, None)


def test_the_same_prompts_again_change_nothing(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path, "p.txt", "Why?\nHow?\nWhy?\n")
    assert prompts.add(store, read_prompts(path, None), "import") == (2, 1)
    before = store.read("select * from prompt order by seq")
    assert prompts.add(store, read_prompts(path, None), "import") == (0, 3)
    assert store.read("select * from prompt order by seq") == before
    assert [prompt.messages[0]["content"] for prompt in prompts.search(store, None, 9)] == [
        "Why?",
        "How?",
    ]


@needs_shared
def test_the_mt_bench_questions_need_no_hint(store: Store) -> None:
    found = read_prompts(SHARED / "mt_bench_questions.jsonl", None)
    assert len(found) == 80
    assert {tag for prompt in found for tag in prompt.tags} >= {"writing", "math", "coding"}
    assert prompts.add(store, found, "import") == (80, 0)


# ---- preferences


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Why?", "chosen": "Because.", "rejected": "No."},
        {"prompt": "Why?", "chosen": [said("Because.")], "rejected": [said("No.")]},
        {"prompt": [USER], "chosen": [said("Because.")], "rejected": [said("No.")], "score": 3},
        {"chosen": [USER, said("Because.")], "rejected": [USER, said("No.")]},
        {"chosen": "Why? Because.", "rejected": "Why? No."},
        {
            "chosen": "\n\nHuman: Why?\n\nAssistant: Because.",
            "rejected": "\n\nHuman: Why?\n\nAssistant: No.",
        },
    ],
    ids=["text", "text prompt", "messages", "implicit messages", "implicit text", "hh-rlhf"],
)
def test_every_preference_layout_means_the_same(row: dict[str, Any]) -> None:
    assert preference_of(row) == NewPreference([USER], "Because.", "No.")  # type: ignore[list-item]


def test_a_dialogue_becomes_turns() -> None:
    start = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Why\n\nthough?\n\nAssistant:"
    expected = [("user", "Hi"), ("assistant", "Hello."), ("user", "Why\n\nthough?")]
    hh = preference_of({"chosen": start + " A", "rejected": start + " B"})
    trl = preference_of({"prompt": start, "chosen": "A", "rejected": "B"})
    assert hh == trl
    assert [(turn["role"], turn["content"]) for turn in hh.messages] == expected


def test_nul_characters_in_a_dialogue_are_only_text() -> None:
    row = {key: f"\n\nHuman: a\0user\0b\n\nAssistant: {key}" for key in ("chosen", "rejected")}
    assert preference_of(row).messages == [{"role": "user", "content": "a\0user\0b"}]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "Why?", "chosen": "", "rejected": "No."}, "an answer is empty"),
        ({"prompt": "Why?", "chosen": "Yes.", "rejected": " \n"}, "an answer is empty"),
        ({"chosen": [USER, said("A")], "rejected": [said("B")]}, "do not share the prompt"),
        ({"chosen": "Because.", "rejected": "No."}, "do not share the prompt"),
        (
            {"chosen": "\n\nHuman: a\n\nAssistant: x", "rejected": "\n\nHuman: b\n\nAssistant: y"},
            "differ before their last answer",
        ),
        (
            {
                "chosen": "\n\nHuman: a\n\nAssistant: x\n\nAssistant: y",
                "rejected": "\n\nHuman: a\n\nAssistant: x\n\nAssistant: z",
            },
            "the last message must be the user's",
        ),
    ],
)
def test_rows_without_a_preference_are_left_out_and_counted(
    tmp_path: Path, row: dict[str, Any], reason: str
) -> None:
    good = {"prompt": "Why?", "chosen": "A", "rejected": "B"}
    path = write(tmp_path, "p.jsonl", "\n".join(json.dumps(one) for one in (good, row, row)))
    found = read_preferences(path, None)
    assert len(found.rows) == 1
    assert list(found.left_out.values()) == [2] and reason in next(iter(found.left_out))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"chosen": "A"}, "needs chosen and rejected"),
        ({"chosen": "A", "rejected": [said("B")]}, "needs chosen and rejected"),
        ({"prompt": [USER], "chosen": "A", "rejected": "B"}, "prompt is a list"),
        ({"prompt": "", "chosen": "A", "rejected": "B"}, "a message is empty"),
        ({"prompt": [USER], "chosen": [USER], "rejected": [said("B")]}, "one assistant message"),
        ({"prompt": [USER], "chosen": [], "rejected": [said("B")]}, "one assistant message"),
        (
            {"prompt": [USER], "chosen": [{"role": "assistant", "content": [1]}], "rejected": []},
            "must be text",
        ),
        ({"chosen": "Hi\n\nAssistant: A", "rejected": "Hi\n\nAssistant: B"}, "begin with a turn"),
        ([], "not a JSON object"),
    ],
)
def test_a_broken_preference_is_refused_with_its_line(
    tmp_path: Path, row: Any, reason: str
) -> None:
    good = json.dumps({"prompt": "Why?", "chosen": "A", "rejected": "B"})
    path = write(tmp_path, "p.jsonl", f"{good}\n{json.dumps(row)}\n")
    with pytest.raises(Invalid, match=f"line 2: .*{reason}"):
        read_preferences(path, None)


def test_hh_rlhf_by_name_insists_on_its_layout(tmp_path: Path) -> None:
    path = write(tmp_path, "p.jsonl", '{"chosen": "Why? A", "rejected": "Why? B"}')
    with pytest.raises(Invalid, match="no Assistant turn"):
        read_preferences(path, "hh-rlhf")


def test_imported_preferences_are_picks_of_the_importer(store: Store) -> None:
    new = [
        preference_of({"prompt": "Why?", "chosen": f"Good {n}", "rejected": "Bad"}) for n in "ab"
    ]
    report = add_preferences(store, new)
    assert (report.rows, report.added, report.known) == (2, 2, 0)
    rows = store.read("select chosen, rejected, source, verdict from preference order by seq")
    assert rows == [
        {"chosen": f"Good {n}", "rejected": "Bad", "source": "import", "verdict": "left"}
        for n in "ab"
    ]
    assert prompts.count(store) == 0, "their prompts are not sampled"


def test_the_same_preferences_again_change_nothing(store: Store) -> None:
    one, two = (
        preference_of({"prompt": "Why?", "chosen": "A", "rejected": end}) for end in ("B", "C")
    )
    assert add_preferences(store, [one, one]).added == 1
    size = (store.data_dir / "journal.jsonl").stat().st_size
    report = add_preferences(store, [one, one])
    assert (report.added, report.known) == (0, 2)
    assert (store.data_dir / "journal.jsonl").stat().st_size == size
    assert add_preferences(store, [one, two]).added == 1
    assert count(store, "judgment") == count(store, "pair") == 2
    assert count(store, "prompt") == 1


@needs_shared
def test_real_preferences_are_stored_once_and_journaled(store: Store, tmp_path: Path) -> None:
    found = read_preferences(SHARED / "hh_harmless.jsonl.gz", None)
    assert len(found.rows) == 1611
    assert sum(found.left_out.values()) == 7
    assert add_preferences(store, found.rows).added == 1611
    assert add_preferences(store, found.rows).added == 0
    before = store.read("select * from preference order by seq")
    store.close()
    (store.data_dir / "prefloop.duckdb").unlink()
    with Store.open(store.data_dir) as again:
        assert again.read("select * from preference order by seq") == before
