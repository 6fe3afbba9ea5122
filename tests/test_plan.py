"""What a run would learn from: the sentence, the reasons why it cannot start, and the warnings."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from tests.test_rules import PARTS, every_pick, every_rule, pick
from train.picks import ORIGINS, REASONS, Pick
from train.plan import PIECES, Plan, Remark, plan, problem
from train.plan_words import MESSAGES, WORDS
from train.rules import rows_of
from train.settings import (
    KINDS,
    AnySettings,
    DpoSettings,
    KtoSettings,
    Part,
    RewardSettings,
    SftSettings,
)


def many(n: int, verdict: str = "left", *texts: str, **more: Any) -> list[Pick]:
    return [pick(verdict, *texts, **more) for _ in range(n)]


def planned(
    part: Part,
    train: list[Pick],
    held_out: list[Pick] | None = None,
    settings: AnySettings | None = None,
) -> Plan:
    return plan(part, train, held_out or [], settings or KINDS[part]())


TRAIN = [*many(171), *many(14, "tie"), *many(9, edited_text="Better A")]
HELD_OUT = [*many(15), *many(8, "tie"), *many(1, edited_text="Better A")]


# --- the sentence --------------------------------------------------------------------------------


def test_the_sentence_reads_well_and_adds_up() -> None:
    found = planned("dpo", TRAIN, HELD_OUT)
    assert found.sentence == "218 picks: 171 pairs, 22 ties dropped, 9 edits, 16 held out"
    assert (found.rows_train, found.rows_eval) == (171 + 2 * 9, 15 + 2)
    assert sum(piece.n for piece in found.pieces) == found.picks == 218
    assert found.used == 171 + 9 + 16


@pytest.mark.parametrize(
    ("part", "settings", "sentence", "rows"),
    [
        ("rm", None, "218 picks: 171 pairs, 14 ties at 50 %, 9 edits, 24 held out", (194, 24)),
        ("kto", None, "218 picks: 171 pairs, 22 ties dropped, 9 edits, 16 held out", (360, 32)),
        ("sft", None, "218 picks: 171 answers, 22 ties dropped, 9 edits, 16 held out", (180, 16)),
        (
            "sft",
            SftSettings(answers="edited"),
            "218 picks: 22 ties dropped, 9 edits, 186 without an edit dropped, 1 held out",
            (9, 1),
        ),
        (
            "dpo",
            DpoSettings(edits="drop", ties="soft"),
            "218 picks: 180 pairs, 14 ties at 50 %, 24 held out",
            (194, 24),
        ),
    ],
)
def test_sentences_of_the_same_picks(
    part: Part, settings: AnySettings | None, sentence: str, rows: tuple[int, int]
) -> None:
    found = planned(part, TRAIN, HELD_OUT, settings)
    assert found.sentence == sentence
    assert (found.rows_train, found.rows_eval) == rows


@pytest.mark.parametrize(
    ("picks", "sentence"),
    [
        ([], "No picks"),
        (many(1), "1 pick: 1 pair"),
        ([*many(1), *many(1, "tie")], "2 picks: 1 pair, 1 tie dropped"),
        (many(1, "ranked"), "1 pick: 1 ranking of four"),
        (many(2, "ranked"), "2 picks: 2 rankings of four"),
        (many(1, "ranked", edited_text="Better"), "1 pick: 1 edit"),
        (many(1, "left", "A", "A"), "1 pick: 1 of equal texts dropped"),
        (many(2, cut="A"), "2 picks: 2 cut short dropped"),
        (many(2, "left", "", "B"), "2 picks: 2 with an empty answer dropped"),
        (many(3, "both_bad"), "3 picks: 3 both bad dropped"),
        ([*many(1, "skip"), *many(2, "flag")], "3 picks: 1 skip dropped, 2 flags dropped"),
        (many(1234), "1,234 picks: 1,234 pairs"),
    ],
)
def test_sentences(picks: list[Pick], sentence: str) -> None:
    assert planned("dpo", picks).sentence == sentence


def test_sentences_of_turns_and_of_both_bad() -> None:
    turns = [*many(2, last_turn=False), *many(1)]
    found = planned("dpo", turns, settings=DpoSettings(turns="last"))
    assert found.sentence == "3 picks: 1 pair, 2 earlier turns dropped"
    found = planned("kto", [*many(3), *many(2, "both_bad")])
    assert found.sentence == "5 picks: 3 pairs, 2 both bad"
    assert (found.good, found.bad) == (3, 3 + 4)


def test_every_kind_of_piece_has_its_place_and_words() -> None:
    origins, reasons = {one for one, _ in PIECES}, {one for _, one in PIECES}
    assert origins - {None} == set(ORIGINS) and reasons - {None} == set(REASONS)
    assert set(WORDS) >= {*ORIGINS, *(f"dropped.{reason}" for reason in REASONS)}


@pytest.mark.parametrize("part", PARTS)
def test_the_numbers_add_up_under_every_rule(part: Part) -> None:
    picks = every_pick()
    train, held_out = picks[::2], picks[1::2]
    for settings in every_rule(part):
        found = planned(part, train, held_out, settings)
        assert found.picks == len(picks) == found.used + sum(found.dropped.values())
        assert found.used == sum(found.origins.values()) + found.held_out_picks
        assert sum(piece.n for piece in found.pieces) == found.picks
        assert found.sentence.startswith(f"{len(picks):,} picks: ")
        assert found.rows_train == sum(len(rows_of(one, settings)) for one in train)
        assert found.rows_eval == sum(len(rows_of(one, settings)) for one in held_out)


def test_a_plan_goes_into_a_file_whole() -> None:
    found = planned("dpo", TRAIN, HELD_OUT)
    told = json.loads(json.dumps(found.as_dict()))
    assert told["sentence"] == found.sentence
    assert told["pieces"][1] == {"key": "dropped.tie", "n": 22, "text": "22 ties dropped"}
    assert (told["part"], told["picks"], told["used"], told["problem"]) == ("dpo", 218, 196, None)
    assert (told["origins"], told["dropped"]) == ({"pick": 171, "edit": 9}, {"tie": 22})
    assert planned("sft", TRAIN).pieces[0].key == "pick.sft"
    empty = planned("rm", []).as_dict()
    assert empty["problem"] == {
        "key": "no_picks",
        "values": {},
        "message": "There are no picks to train on. Annotate some pairs first.",
    }


# --- what suffices -------------------------------------------------------------------------------


@pytest.mark.parametrize("part", PARTS)
def test_enough(part: Part) -> None:
    assert problem(planned(part, many(6), many(2))) is None
    assert problem(planned(part, TRAIN, HELD_OUT)) is None


@pytest.mark.parametrize(
    ("part", "train", "held_out", "key"),
    [
        *((part, [], [], "no_picks") for part in PARTS),
        *((part, many(30, "tie"), many(4, "tie"), "all_tie") for part in PARTS),
        ("dpo", many(30, "both_bad"), many(4, "both_bad"), "all_both_bad"),
        ("kto", many(30, "both_bad"), many(4, "both_bad"), "only_bad"),
        ("dpo", many(30, "left", "A", "A"), many(4, "left", "A", "A"), "all_identical"),
        ("rm", many(30, cut="A"), many(4, cut="A"), "all_cut"),
        ("dpo", many(30, cut="AB"), many(4, cut="A"), "all_cut"),
        ("kto", many(30, cut="A"), many(4, cut="A"), "only_bad"),
        ("kto", many(30, "left", "A", ""), many(4), "only_good"),
        ("sft", many(30, cut="A"), many(4, cut="A"), "all_cut"),
        ("rm", many(30, "left", "", "B"), [], "all_empty"),
        ("dpo", [*many(9, "tie"), *many(9, "both_bad")], [], "few_picks.dpo"),
        ("rm", [*many(99, "tie"), *many(5)], many(2), "few_picks.rm"),
        ("kto", many(7), [], "few_picks.kto"),
        ("sft", many(5), many(2), "few_picks.sft"),
        ("dpo", many(30), [], "few_prompts"),
        ("dpo", many(30), many(5, "tie"), "few_prompts"),
        ("rm", many(30), many(5, "tie"), "few_prompts"),
        ("dpo", many(5, "tie"), many(30), "few_prompts"),
        *(
            (part, many(30), many(8, cut="A", edited_text="C"), "few_prompts")
            for part in ("dpo", "rm")
        ),
        *((part, many(3), many(30), "few_prompts") for part in ("sft", "rm", "dpo")),
    ],
)
def test_not_enough(part: Part, train: list[Pick], held_out: list[Pick], key: str) -> None:
    found = planned(part, train, held_out)
    why = problem(found)
    assert why is not None and why.key == key


def test_nothing_to_imitate() -> None:
    picks = many(30)
    why = problem(planned("sft", picks, many(4), SftSettings(answers="edited")))
    assert why is not None
    assert why.message == (
        "No pick has an edited answer. Edit some answers, or set answers to picked."
    )
    left_out = KtoSettings(both_bad="drop")
    why = problem(planned("kto", many(9, "both_bad"), many(2, "both_bad"), left_out))
    assert why is not None and why.key == "all_both_bad.kto"


def test_few_picks_are_counted_where_they_say_something() -> None:
    why = problem(planned("rm", [*many(99, "tie"), *many(5)], many(2)))
    assert why is not None
    assert why.message == (
        "Training needs at least 8 picks with a better side; there are 7. Annotate some more."
    )
    why = problem(planned("dpo", many(10)))
    assert why is not None
    assert why.message == (
        "The picks come from too few prompts to hold some out (10 rows to train on, 0 held out). "
        "Annotate pairs of more prompts."
    )


# --- warnings ------------------------------------------------------------------------------------


def warned(train: list[Pick], held_out: list[Pick] | None = None) -> list[Remark]:
    return planned(
        "rm", train, many(12, shown_left=None) if held_out is None else held_out
    ).warnings


def keys(remarks: list[Remark]) -> list[str]:
    return [remark.key for remark in remarks]


@pytest.mark.parametrize(
    ("left", "right", "key"),
    [
        (10, 0, "one_sided_left"),
        (0, 10, "one_sided_right"),
        (9, 0, None),
        (95, 5, "one_sided_left"),
        (5, 95, "one_sided_right"),
        (94, 6, None),
    ],
)
def test_one_sided_picks(left: int, right: int, key: str | None) -> None:
    """Whichever answer stood there: the right one of B and A is A."""
    shown = [*many(left // 2), *many(left - left // 2, "right", shown_left=1)]
    shown += [*many(right // 2, shown_left=1), *many(right - right // 2, "right")]
    assert keys(warned([replaced(one, source="simulated") for one in shown])) == (
        [key] if key else []
    )


def replaced(one: Pick, **more: Any) -> Pick:
    return Pick(**{name: getattr(one, name) for name in Pick.__dataclass_fields__} | more)


def test_imports_have_no_sides() -> None:
    assert warned(many(500, source="import", shown_left=None)) == []


@pytest.mark.parametrize(
    ("one", "others", "percent"), [(19, 0, None), (20, 0, 100), (90, 10, None), (91, 9, 91)]
)
def test_one_annotator(one: int, others: int, percent: int | None) -> None:
    picks = [
        *many(one, user_id="ann", shown_left=None),
        *many(others, user_id="bob", shown_left=None),
    ]
    found = warned(picks, many(12, source="import", shown_left=None))
    assert keys(found) == (["one_annotator"] if percent else [])
    if percent:
        assert found[0].values == {"percent": percent, "user_id": "ann"}
        assert found[0].message == (
            f"One annotator made {percent} % of the picks: the model learns that person's taste."
        )


def test_longer_answers_picked() -> None:
    def long_ones(n: int) -> list[Pick]:
        return many(n, "left", "A long one", "B", shown_left=None, source="import")

    short = many(11, "left", "B", "A long one", shown_left=None, source="import")
    assert keys(warned([*long_ones(44), *short])) == ["longer_picked"]
    assert keys(warned([*long_ones(43), *short])) == []
    assert keys(warned(long_ones(49))) == []


def test_few_held_out_and_many_dropped() -> None:
    quiet: dict[str, Any] = {"shown_left": None, "source": "import"}
    (remark,) = warned(many(30, **quiet), many(9, **quiet))
    assert (remark.key, remark.values) == ("few_held_out", {"picks": 9})
    assert keys(warned(many(30, **quiet), many(10, **quiet))) == []
    dropped = [*many(30, **quiet), *many(31, "both_bad", **quiet)]
    (remark,) = plan("dpo", dropped, [], DpoSettings()).warnings
    assert (remark.key, remark.values) == ("many_dropped", {"percent": 51})
    assert plan("kto", dropped, [], KtoSettings()).warnings == []
    assert plan("rm", many(30, "both_bad", **quiet), [], RewardSettings()).warnings == []


@pytest.mark.parametrize(
    ("loss", "beta", "weak"),
    [("sigmoid_norm", 0.1, True), ("sigmoid_norm", 5, False), ("sigmoid", 0.1, False)],
)
def test_a_beta_that_suits_sums_is_weak_for_means(loss: str, beta: float, weak: bool) -> None:
    quiet = many(12, shown_left=None, source="import")
    found = plan("dpo", quiet, quiet, DpoSettings(loss=loss, beta=beta)).warnings
    assert keys(found) == (["weak_beta"] if weak else [])
    assert not weak or "with a beta of 0.1 picks hardly count" in found[0].message


@pytest.mark.parametrize(
    ("evaluations", "patience", "told"),
    [(4, 0, False), (0, 0, False), (4, 3, False), (4, 4, True), (0, 1, True)],
)
def test_a_patience_that_is_never_over(evaluations: int, patience: int, told: bool) -> None:
    """The first measurement is the best so far, and the one at the end stops nothing."""
    quiet = many(12, shown_left=None, source="import")
    settings = SftSettings(evaluations=evaluations, patience=patience, batch=1, accumulate=1)
    found = plan("sft", quiet, quiet, settings).warnings
    assert keys(found) == (["long_patience"] if told else [])
    values = {"evaluations": evaluations, "patience": patience}
    assert not told or found[0].values == values


def test_few_steps_are_measured_less_often_than_asked_for() -> None:
    quiet = many(12, shown_left=None, source="import")
    settings = SftSettings(evaluations=4, patience=2, batch=4, accumulate=1)  # 3 steps
    (warning,) = plan("sft", quiet, quiet, settings).warnings
    assert warning.values == {"evaluations": 2, "patience": 2}


@pytest.mark.parametrize(
    ("loss", "smoothing", "told"),
    [("sigmoid", 0.3, True), ("sigmoid", 0.1, False), ("robust", 0.3, False)],
)
def test_smoothing_that_the_loss_does_not_use(loss: str, smoothing: float, told: bool) -> None:
    quiet = many(12, shown_left=None, source="import")
    settings = DpoSettings(loss=loss, label_smoothing=smoothing)
    found = plan("dpo", quiet, quiet, settings).warnings
    assert keys(found) == (["unused_smoothing"] if told else [])


@pytest.mark.parametrize(
    ("loss", "use", "told"),
    [
        ("hinge", {"strength": "soft"}, True),
        ("apo_zero", {"ties": "soft"}, True),
        ("hinge", {}, False),
        ("ipo", {"strength": "soft", "ties": "soft"}, False),
    ],
)
def test_soft_labels_that_the_loss_does_not_meet(
    loss: str, use: dict[str, str], told: bool
) -> None:
    quiet = many(12, shown_left=None, source="import")
    found = plan("dpo", quiet, quiet, DpoSettings(loss=loss, **use)).warnings
    assert keys(found) == (["unused_soft"] if told else [])


def test_every_message_is_a_sentence_for_a_page() -> None:
    for key, message in MESSAGES.items():
        assert message.endswith(".") and "  " not in message, key
    for part, why in itertools.product(PARTS, ("no_picks", "few_prompts", "all_tie")):
        assert why in MESSAGES and f"few_picks.{part}" in MESSAGES
