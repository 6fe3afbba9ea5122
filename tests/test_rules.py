"""What each kind of pick becomes in each trainer: golden tables, and what holds for every pick."""

from __future__ import annotations

import itertools
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from tests.served_app import ROOT
from train.picks import (
    ORIGINS,
    REASONS,
    Answer,
    AnswerRow,
    Comparison,
    ExampleRow,
    PairRow,
    Pick,
    RankingRow,
)
from train.rule_words import rule_of
from train.rules import (
    LABELS,
    MARGINS,
    WEIGHTS,
    answer_rows,
    example_rows,
    pair_rows,
    ranking_rows,
    rows_of,
    why_none,
)
from train.settings import (
    KINDS,
    AnySettings,
    DpoSettings,
    KtoSettings,
    Part,
    RewardSettings,
    SftSettings,
    form,
)

WHY: list[Any] = [{"role": "user", "content": "Why?"}]
PARTS: tuple[Part, ...] = ("sft", "rm", "dpo", "kto")


def pick(verdict: str = "left", *texts: str, cut: str = "", **more: Any) -> Pick:
    """Of the answers A and B, or as named; those whose text stands in `cut` were cut short."""
    texts = texts or (("A", "B", "C", "D") if verdict == "ranked" else ("A", "B"))
    values: dict[str, Any] = {
        "judgment_id": "j",
        "pair_id": "p",
        "prompt_id": "q",
        "user_id": "u",
        "pool": None,
        "source": "human",
        "verdict": verdict,
        "strength": None,
        "turn": None,
        "last_turn": True,
        "prompt": WHY,
        "answers": tuple(Answer(text, bool(text) and text in cut) for text in texts),
        "better": {"left": 0, "right": 1}.get(verdict),
        "best": 0 if verdict == "ranked" else None,
        "worst": 3 if verdict == "ranked" else None,
        "edited_text": None,
        "shown_left": 0,
    }
    return Pick(**values | more)


def ranked(**more: Any) -> Pick:
    """B is the best of A, B, C, D, and C is the worst."""
    return pick("ranked", best=1, worst=2, **more)


def told(rows: list[PairRow]) -> list[tuple[str, str, float, float, str]]:
    return [(row.chosen, row.rejected, row.p, row.weight, row.origin) for row in rows]


# --- strength ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("use", "strength", "p", "weight"),
    [
        ("soft", 1, 0.7, 1),
        ("soft", 2, 0.9, 1),
        ("soft", 3, 0.95, 1),
        ("soft", None, 0.9, 1),
        ("weight", 1, 1, 0.5),
        ("weight", 2, 1, 1),
        ("weight", 3, 1, 1.5),
        ("weight", None, 1, 1),
        ("ignore", 1, 1, 1),
        ("ignore", 3, 1, 1),
        ("ignore", None, 1, 1),
    ],
)
def test_strength_in_dpo(use: str, strength: int | None, p: float, weight: float) -> None:
    rows = pair_rows(pick("right", strength=strength), DpoSettings(strength=use))
    assert rows == [PairRow(WHY, "B", "A", p, weight, "pick")]


@pytest.mark.parametrize(
    ("use", "strength", "p", "margin", "weight"),
    [
        ("soft", 1, 0.7, 0, 1),
        ("soft", 2, 0.9, 0, 1),
        ("soft", 3, 0.95, 0, 1),
        ("soft", None, 0.9, 0, 1),
        ("margin", 1, 1, 1 / 3, 1),
        ("margin", 2, 1, 2 / 3, 1),
        ("margin", 3, 1, 1, 1),
        ("margin", None, 1, 2 / 3, 1),
        ("weight", 1, 1, 0, 0.5),
        ("weight", 2, 1, 0, 1),
        ("weight", 3, 1, 0, 1.5),
        ("weight", None, 1, 0, 1),
        ("ignore", 1, 1, 0, 1),
        ("ignore", None, 1, 0, 1),
    ],
)
def test_strength_in_the_reward_model(
    use: str, strength: int | None, p: float, margin: float, weight: float
) -> None:
    (row,) = ranking_rows(pick("right", strength=strength), RewardSettings(strength=use))
    assert row == RankingRow(WHY, ["A", "B"], [Comparison(1, 0, p, margin)], weight, "pick")


@pytest.mark.parametrize("strength", [1, 2, 3, None])
def test_strength_is_not_used_elsewhere(strength: int | None) -> None:
    one = pick("left", strength=strength)
    assert example_rows(one, SftSettings()) == [ExampleRow(WHY, "A", "pick")]
    assert answer_rows(one, KtoSettings()) == [
        AnswerRow(WHY, "A", True, "pick"),
        AnswerRow(WHY, "B", False, "pick"),
    ]


# --- ties and both bad ---------------------------------------------------------------------------


def test_a_tie_is_an_even_label_or_left_out() -> None:
    tie = pick("tie")
    assert told(pair_rows(tie, DpoSettings(ties="soft"))) == [("A", "B", 0.5, 1, "tie")]
    assert ranking_rows(tie, RewardSettings(strength="margin")) == [
        RankingRow(WHY, ["A", "B"], [Comparison(0, 1, 0.5, 0, "tie")], 1, "tie")
    ]
    for settings in (DpoSettings(), RewardSettings(ties="drop"), KtoSettings(), SftSettings()):
        assert (rows_of(tie, settings), why_none(tie, settings)) == ([], "tie")


def test_a_tie_of_four_is_even_between_all_of_them() -> None:
    tie = pick("tie", "A", "B", "C", "D")
    (row,) = ranking_rows(tie, RewardSettings())
    assert [(c.better, c.worse) for c in row.comparisons] == list(
        itertools.combinations(range(4), 2)
    )
    assert {(c.p, c.margin) for c in row.comparisons} == {(0.5, 0)}
    assert len(pair_rows(tie, DpoSettings(ties="soft"))) == 6


def test_both_bad_are_bad_answers_in_kto_and_nothing_elsewhere() -> None:
    bad = pick("both_bad")
    assert answer_rows(bad, KtoSettings()) == [
        AnswerRow(WHY, "A", False, "both_bad"),
        AnswerRow(WHY, "B", False, "both_bad"),
    ]
    four = answer_rows(pick("both_bad", *"ABCD"), KtoSettings())
    assert [row.answer for row in four] == [*"ABCD"]
    assert len(answer_rows(pick("both_bad", "A", "A"), KtoSettings())) == 1, "said once"
    for settings in (
        KtoSettings(both_bad="drop"),
        DpoSettings(ties="soft"),
        RewardSettings(),
        SftSettings(),
    ):
        assert (rows_of(bad, settings), why_none(bad, settings)) == ([], "both_bad")


# --- edits ---------------------------------------------------------------------------------------

EDITED = pick("right", strength=3, edited_text="Better B")


def test_an_edit_beats_what_it_corrects() -> None:
    assert told(pair_rows(EDITED, DpoSettings())) == [
        ("B", "A", 1, 1.5, "pick"),
        ("Better B", "B", 1, 1, "edit"),
    ]
    assert told(pair_rows(EDITED, DpoSettings(strength="soft"))) == [
        ("B", "A", 0.95, 1, "pick"),
        ("Better B", "B", 0.9, 1, "edit"),
    ]
    assert told(pair_rows(EDITED, DpoSettings(edits="drop"))) == [("B", "A", 1, 1.5, "pick")]


def test_an_edit_is_a_third_answer_of_the_same_row_of_the_reward_model() -> None:
    row = RankingRow(
        WHY,
        ["A", "B", "Better B"],
        [Comparison(1, 0, 1, 0), Comparison(2, 1, 1, 0, "edit")],
        1.5,
        "edit",
    )
    assert ranking_rows(EDITED, RewardSettings(strength="weight")) == [row]
    assert [
        c.margin for c in ranking_rows(EDITED, RewardSettings(strength="margin"))[0].comparisons
    ] == [
        1,
        2 / 3,
    ]
    (plain,) = ranking_rows(EDITED, RewardSettings(edits="drop"))
    assert (plain.answers, plain.origin) == (["A", "B"], "pick")


def test_an_edit_takes_the_place_of_the_picked_answer() -> None:
    assert answer_rows(EDITED, KtoSettings()) == [
        AnswerRow(WHY, "Better B", True, "edit"),
        AnswerRow(WHY, "A", False, "edit"),
    ]
    assert answer_rows(EDITED, KtoSettings(edits="drop")) == [
        AnswerRow(WHY, "B", True, "pick"),
        AnswerRow(WHY, "A", False, "pick"),
    ]
    for answers in ("picked", "edited"):
        rows = example_rows(EDITED, SftSettings(answers=answers))
        assert rows == [ExampleRow(WHY, "Better B", "edit")]


def test_only_edited_answers_are_imitated_where_that_is_asked_for() -> None:
    settings = SftSettings(answers="edited")
    assert example_rows(pick(), settings) == []
    assert why_none(pick(), settings) == "no_edit"


@pytest.mark.parametrize("text", ["", "  \n", "A", " A ", "B"])
def test_an_edit_that_says_nothing_new_is_none(text: str) -> None:
    same = pick("left", edited_text=text)
    for part in PARTS:
        assert rows_of(same, KINDS[part]()) == rows_of(pick(), KINDS[part]())
    assert why_none(same, SftSettings(answers="edited")) == "no_edit"


def test_an_edit_mends_what_was_wrong_with_the_answer() -> None:
    """Its author finished it: it can be learned from where the answer itself cannot."""
    same = pick("left", "A", "A", edited_text="Better")
    assert told(pair_rows(same, DpoSettings())) == [("Better", "A", 1, 1, "edit")]
    cut = pick("left", edited_text="Better", cut="A")
    rows = pair_rows(cut, DpoSettings())
    assert told(rows) == [("Better", "A", 1, 1, "edit"), ("Better", "B", 1, 1, "edit")]
    assert [row.rejected_cut for row in rows] == [True, False]
    (row,) = ranking_rows(cut, RewardSettings())
    assert row.answers == ["A", "B", "Better"]
    assert [(one.better, one.worse) for one in row.comparisons] == [(2, 0), (2, 1)]
    empty = pick("left", "", "B", edited_text="Better")
    assert told(pair_rows(empty, DpoSettings())) == [("Better", "B", 1, 1, "edit")]
    assert why_none(cut, DpoSettings(edits="drop")) == "cut"
    assert example_rows(cut, SftSettings()) == [ExampleRow(WHY, "Better", "edit")]
    assert [row.answer for row in answer_rows(cut, KtoSettings())] == ["Better", "B"]
    other_cut = pick("left", edited_text="Better", cut="B")
    assert told(pair_rows(other_cut, DpoSettings())) == [
        ("A", "B", 1, 1, "pick"),
        ("Better", "A", 1, 1, "edit"),
    ]


# --- four answers --------------------------------------------------------------------------------


def test_a_ranking_is_five_pairs_or_one() -> None:
    five = [("B", "C"), ("B", "A"), ("B", "D"), ("A", "C"), ("D", "C")]
    rows = pair_rows(ranked(), DpoSettings(strength="soft"))
    assert told(rows) == [(better, worse, 0.9, 1, "ranked") for better, worse in five]
    (only,) = pair_rows(ranked(), DpoSettings(ranked="best_worst"))
    assert (only.chosen, only.rejected) == ("B", "C")


def test_a_ranking_is_one_row_of_the_reward_model() -> None:
    (row,) = ranking_rows(ranked(), RewardSettings(strength="margin"))
    assert (row.answers, row.weight, row.origin) == ([*"ABCD"], 1, "ranked")
    found = [(c.better, c.worse, c.p, c.margin, c.origin) for c in row.comparisons]
    places = [(1, 2), (1, 0), (1, 3), (0, 2), (3, 2)]
    assert found == [(better, worse, 1, 2 / 3, "ranked") for better, worse in places]
    (two,) = ranking_rows(ranked(), RewardSettings(ranked="best_worst"))
    assert two.answers == ["B", "C"], "the others cost a forward and say nothing"
    assert two.comparisons == [Comparison(0, 1, 0.9, 0, "ranked")]


def test_of_a_ranking_the_best_is_good_and_the_worst_is_bad() -> None:
    assert answer_rows(ranked(), KtoSettings()) == [
        AnswerRow(WHY, "B", True, "ranked"),
        AnswerRow(WHY, "C", False, "ranked"),
    ]
    assert example_rows(ranked(), SftSettings()) == [ExampleRow(WHY, "B", "ranked")]


def test_an_edited_ranking() -> None:
    edited = ranked(edited_text="Better B")
    rows = pair_rows(edited, DpoSettings())
    assert [row.origin for row in rows] == ["ranked"] * 5 + ["edit"]
    assert (rows[-1].chosen, rows[-1].rejected) == ("Better B", "B")
    (row,) = ranking_rows(edited, RewardSettings())
    assert row.answers == ["A", "B", "C", "D", "Better B"]
    assert row.comparisons[-1] == Comparison(4, 1, 0.9, 0, "edit")
    assert [row.answer for row in answer_rows(edited, KtoSettings())] == ["Better B", "C"]
    assert example_rows(edited, SftSettings())[0].answer == "Better B"


def test_a_cut_or_equal_answer_of_four_spoils_only_its_own_comparisons() -> None:
    def pairs(one: Pick) -> list[tuple[str, str]]:
        return [(row.chosen, row.rejected) for row in pair_rows(one, DpoSettings())]

    assert pairs(ranked(cut="A")) == [("B", "C"), ("B", "A"), ("B", "D"), ("D", "C")]
    (row,) = ranking_rows(ranked(cut="A"), RewardSettings())
    assert row.answers == ["A", "B", "C", "D"]
    assert [(c.better, c.worse) for c in row.comparisons] == [(1, 2), (1, 0), (1, 3), (3, 2)]
    assert pairs(ranked(cut="B")) == [("A", "C"), ("D", "C")]
    alike = pick("ranked", "A", "B", "B", "D", best=1, worst=3)
    assert pairs(alike) == [("B", "D"), ("B", "A"), ("A", "D"), ("B", "D")]
    assert why_none(ranked(cut="ABCD"), DpoSettings()) == "cut"


# --- turns, and what is left out -----------------------------------------------------------------


@pytest.mark.parametrize("part", PARTS)
def test_all_turns_or_the_last_one(part: Part) -> None:
    early, late = pick(turn=1, last_turn=False), pick(turn=2)
    for turns, gives in (("all", [True, True]), ("last", [False, True])):
        settings = replace(KINDS[part](), turns=turns)
        assert [bool(rows_of(one, settings)) for one in (early, late)] == gives
    assert why_none(early, replace(KINDS[part](), turns="last")) == "not_last_turn"


@pytest.mark.parametrize(
    ("one", "compared", "kto", "sft"),
    [
        (pick("skip"), "skip", "skip", "skip"),
        (pick("flag"), "flag", "flag", "flag"),
        (pick("left", "A", "A"), "identical", "identical", None),
        (pick("left", "A", " A\n"), "identical", "identical", None),
        (pick("left", "A", "A", cut="A"), "identical", "identical", "cut"),
        (pick("left", cut="A"), "cut", None, "cut"),
        (pick("left", cut="B"), None, None, None),
        (pick("left", cut="AB"), "cut", None, "cut"),
        (pick("left", "A", "", cut="A"), "empty", "empty", "cut"),
        (pick("left", "", "B"), "empty", None, "empty"),
        (pick("left", "A", " "), "empty", None, None),
        (pick("left", "", " "), "empty", "empty", "empty"),
        (pick("both_bad", "", " "), "both_bad", "empty", "both_bad"),
        (pick("both_bad", cut="AB"), "both_bad", None, "both_bad"),
    ],
)
def test_what_cannot_be_learned_from(
    one: Pick, compared: str | None, kto: str | None, sft: str | None
) -> None:
    assert why_none(one, DpoSettings()) == compared
    assert why_none(one, RewardSettings()) == compared
    assert why_none(one, KtoSettings()) == kto
    assert why_none(one, SftSettings()) == sft


def test_an_answer_that_was_cut_may_lose_but_not_win() -> None:
    assert answer_rows(pick("left", cut="A"), KtoSettings()) == [AnswerRow(WHY, "B", False, "pick")]
    assert answer_rows(pick("left", cut="B"), KtoSettings()) == [
        AnswerRow(WHY, "A", True, "pick"),
        AnswerRow(WHY, "B", False, "pick", cut=True),
    ]
    (row,) = pair_rows(pick("left", cut="B"), DpoSettings())
    assert row == PairRow(WHY, "A", "B", 1, 1, "pick", rejected_cut=True)
    tied = pick("tie", cut="B")
    assert why_none(tied, DpoSettings(ties="soft")) == "cut", "nobody says which one lost"


# --- every pick under every setting --------------------------------------------------------------


def every_pick() -> list[Pick]:
    texts = (("A", "B"), ("A", "A"), ("A", ""), ("", ""))
    found = [
        pick(verdict, *two, cut=cut, strength=strength, edited_text=edit, last_turn=last)
        for verdict in ("left", "right", "tie", "both_bad", "skip", "flag")
        for two in texts
        for cut in ("", "A", "AB")
        for strength in ((None, 1, 2, 3) if verdict in ("left", "right") else (None,))
        for edit in ((None, "Edit", "A") if verdict in ("left", "right") else (None,))
        for last in (True, False)
    ]
    found += [
        pick("ranked", *four, cut=cut, best=best, worst=worst, edited_text=edit, shown_left=None)
        for four in ("ABCD", "AACD", ("A", "B", "", "D"))
        for cut in ("", "A", "ABCD")
        for best, worst in itertools.permutations(range(4), 2)
        for edit in (None, "Edit")
    ]
    return found + [pick(verdict, *"ABCD") for verdict in ("tie", "both_bad", "skip", "flag")]


def every_rule(part: Part) -> list[AnySettings]:
    """Every combination of the settings about picks."""
    choices = {one.name: one.choices for one in form(KINDS[part]()) if one.group == "picks"}
    assert all(choices.values())
    every = itertools.product(*choices.values())
    return [replace(KINDS[part](), **dict(zip(choices, values, strict=True))) for values in every]


@pytest.mark.parametrize("part", PARTS)
def test_every_pick_gives_rows_or_one_reason(part: Part) -> None:
    for settings, one in itertools.product(every_rule(part), every_pick()):
        rows, reason = rows_of(one, settings), why_none(one, settings)
        assert bool(rows) is (reason is None)
        assert reason is None or reason in REASONS
        for row in rows:
            assert row.prompt is one.prompt and row.origin in ORIGINS
            check(row, one)


def check(row: object, one: Pick) -> None:
    """What a trainer relies on."""
    known = {answer.text for answer in one.answers} | {one.edited_text}
    match row:
        case PairRow(chosen=chosen, rejected=rejected, p=p, weight=weight):
            assert {chosen, rejected} <= known and chosen != rejected
            assert chosen.strip() and rejected.strip() and 0.5 <= p <= 1 and weight > 0
        case RankingRow(answers=answers, comparisons=comparisons, weight=weight):
            assert set(answers) <= known and all(answers) and weight > 0
            used = {place for c in comparisons for place in (c.better, c.worse)}
            assert used == set(range(len(answers))), "nothing is scored for nothing"
            assert all(answers[c.better] != answers[c.worse] for c in comparisons)
            assert all(0.5 <= c.p <= 1 and 0 <= c.margin <= 1 for c in comparisons)
        case AnswerRow(answer=answer) | ExampleRow(answer=answer):
            assert answer.strip() and answer in known


@pytest.mark.parametrize("strength", ["soft", "weight", "ignore"])
@pytest.mark.parametrize("ranked", ["all", "best_worst"])
def test_both_trainers_compare_the_same_answers(strength: str, ranked: str) -> None:
    dpo = DpoSettings(strength=strength, ranked=ranked, ties="soft")
    reward = RewardSettings(strength=strength, ranked=ranked)
    for one in every_pick():
        compared = [
            (row.answers[c.better], row.answers[c.worse], c.p, c.origin)
            for row in ranking_rows(one, reward)
            for c in row.comparisons
        ]
        rows = pair_rows(one, dpo)
        assert compared == [(row.chosen, row.rejected, row.p, row.origin) for row in rows]


# --- in words ------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", PARTS)
def test_each_rule_is_a_sentence(part: Part) -> None:
    for settings in every_rule(part):
        rule = rule_of(part, settings)
        kinds = "pairs strength ties both_bad edits ranked turns left_out"
        assert set(rule) == set(kinds.split())
        assert all(sentence.endswith(".") for sentence in rule.values())


def test_the_rule_says_what_is_set() -> None:
    rule = rule_of("dpo", DpoSettings(ties="soft", ranked="best_worst", turns="last"))
    assert rule["strength"].startswith("Slightly, clearly and much weigh 0.5, 1 and 1.5;")
    assert rule["ties"] == "A tie is a label of 50 %."
    assert rule["ranked"] == "Of four answers the best beats the worst; the other two are not used."
    assert rule["turns"] == "Of a conversation only the last turn counts."
    assert rule_of("kto", KtoSettings())["both_bad"] == "Of both bad, every answer is a bad one."
    assert (
        rule_of("sft", SftSettings(answers="edited"))["pairs"]
        == "Only edited answers are imitated."
    )


def test_a_pick_is_read_from_its_row() -> None:
    one = pick("right", strength=3)
    row = {name: getattr(one, name) for name in Pick.__dataclass_fields__}
    row["answers"] = [{"text": "A", "cut": False}, {"text": "B", "cut": None}]
    assert Pick.of(row) == one


DOCUMENT = (ROOT / "docs" / "picks.md").read_text(encoding="utf-8")


def test_the_document_has_these_numbers() -> None:
    margins = {1: "1/3", 2: "2/3", 3: "1"}
    for strength, name in enumerate(("slightly", "clearly, and where nothing was said", "much"), 1):
        assert pytest.approx(float(Fraction(margins[strength]))) == MARGINS[strength]
        label, weight = round(100 * LABELS[strength]), f"{WEIGHTS[strength]:g}"
        assert f"| {name} | {label} % | {weight} | {margins[strength]} |" in DOCUMENT


@pytest.mark.parametrize("part", PARTS)
def test_the_document_names_every_choice_and_every_reason(part: Part) -> None:
    for setting in (one for one in form(KINDS[part]()) if one.group == "picks"):
        assert f"`{setting.name}` = `" in DOCUMENT
        assert all(f"`{choice}`" in DOCUMENT for choice in setting.choices), setting.name
    for reason in REASONS:
        assert reason.replace("_", " ") in DOCUMENT or f"`{reason}`" in DOCUMENT
