"""The gate's checks at their borders, and the numbers behind them by hand."""

from __future__ import annotations

import math

import pytest

from store.rows import Completion
from train.gate import GateConfig, Verdict, judge, repeated_share
from train.interval import wilson

SOUND = [
    "Bees make honey from the nectar of many flowers.",
    "The moon turns around the earth in a month.",
    "Bread rises because the yeast makes small bubbles.",
    "A good tent keeps the rain out at night.",
]
CHECKS = ["held-out accuracy", "whole answers", "length", "endings", "repetition", "variety"]


def answers(*texts: str, cut: int = 0) -> list[Completion]:
    """The first `cut` of them ran into the length limit."""
    reasons = ["length"] * cut + ["stop"] * (len(texts) - cut)
    return [Completion(text, finish_reason=r) for text, r in zip(texts, reasons, strict=True)]


def verdict(candidate: list[Completion], accuracy: float = 0.8, rows: int = 40) -> Verdict:
    return judge(accuracy, rows, candidate, answers(*SOUND), GateConfig())


def failed(found: Verdict) -> list[str]:
    return [check.name for check in found.checks if not check.passed]


def test_a_sound_policy_is_promoted_with_its_reasons() -> None:
    found = verdict(answers(*SOUND))
    assert found.promoted
    assert [check.name for check in found.checks] == CHECKS
    assert found.reason == (
        "Promoted: It orders 80% of 40 held-out picks as people did (95% interval 65% to 90%; more "
        "than 50% is asked). Its answers are sound."
    )


@pytest.mark.parametrize(
    ("accuracy", "promoted"),
    [(0.5, False), (0.51, True), (1.0, True), (0.49, False), (0.0, False), (math.nan, False)],
)
def test_accuracy_must_be_above_one_half(accuracy: float, promoted: bool) -> None:
    found = verdict(answers(*SOUND), accuracy)
    assert found.promoted is promoted
    assert failed(found) == ([] if promoted else ["held-out accuracy"])


@pytest.mark.parametrize(
    ("candidate", "wrong"),
    [
        (answers(*SOUND[:3], "  "), "whole answers"),
        (answers(*["Yes indeed."] * 2, "No.", "Perhaps so."), "length"),
        (answers(*[f"{text} {i} " * 4 for i, text in enumerate(SOUND)]), "length"),
        (answers(*SOUND, cut=2), "endings"),
        (answers(*[f"{word} and on and on and on and on" for word in "abcd"]), "repetition"),
        (answers(SOUND[0], SOUND[0], SOUND[0], SOUND[0]), "variety"),
    ],
    ids=["empty", "too short", "too long", "cut", "repeating", "all the same"],
)
def test_each_check_can_reject(candidate: list[Completion], wrong: str) -> None:
    found = verdict(candidate)
    assert not found.promoted
    assert wrong in failed(found)
    assert found.reason.startswith("Rejected: ")


SHORT = ["Bees make it.", "The moon turns.", "Bread will rise.", "A good tent."]


@pytest.mark.parametrize(
    ("candidate", "champion", "picked", "promoted"),
    [
        (SHORT, SOUND, (3, 9), True),  # as short as what people picked
        (SHORT, SOUND, (4, 9), False),  # shorter than that, and than the champion
        (SHORT, ["Yes it is."] * 4, (4, 9), True),  # the champion is as short
        (SOUND, SHORT, (3, 8), False),  # longer than what people picked
        (SOUND, SHORT, (3, 9), True),
        (SHORT, SOUND, None, True),  # too few picks to tell
    ],
)
def test_answers_stay_as_long_as_those_that_people_picked(
    candidate: list[str],
    champion: list[str],
    picked: tuple[float, float] | None,
    promoted: bool,
) -> None:
    found = judge(0.8, 40, answers(*candidate), answers(*champion), GateConfig(), picked)
    assert found.promoted is promoted
    assert failed(found) == ([] if promoted else ["length"])


def test_the_reason_tells_the_lengths() -> None:
    found = judge(0.8, 40, answers(*SHORT), answers(*SOUND), GateConfig(), (4.0, 9.0))
    assert found.reason == (
        "Rejected: Its answers have 3 ± 0 words, the champion's 9, those that people picked 4 to 9."
    )


def test_a_mean_of_few_answers_keeps_its_error_from_the_end_of_what_people_picked() -> None:
    """8, 8, 16 and 16 words: 12, with a standard error of 4.62 / 2 = 2.31."""
    candidate = answers(*(" ".join("abcdefghijklmnop"[:n]) for n in (8, 8, 16, 16)))
    champion = answers(*SOUND)

    def passes(low: float, high: float) -> bool:
        return judge(0.8, 40, candidate, champion, GateConfig(), (low, high)).promoted

    assert passes(2, 14.4) and not passes(2, 14.2)
    assert passes(8, 13.34), "of a narrow range it keeps a quarter of its width"
    assert not passes(8, 13.3)


def test_answers_in_chinese_have_lengths_and_repetitions_too() -> None:
    sound = [
        "蜜蜂用花蜜酿造蜂蜜。",
        "月亮绕着地球转一个月。",
        "面包因酵母而发起来。",
        "好帐篷夜里不漏雨。",
    ]
    assert verdict(answers(*sound)).promoted
    assert "repetition" in failed(
        verdict(answers(*(f"{word}很好很好很好很好很好" for word in "甲乙丙丁")))
    )


def test_the_borders_themselves_pass() -> None:
    quarter_cut = verdict(answers(*SOUND, cut=1))
    half_same = verdict(answers(SOUND[0], SOUND[0], SOUND[0], SOUND[1]))
    three_words = verdict(
        answers("One two three.", "Two three four.", "Red and blue.", "So it is.")
    )
    assert quarter_cut.promoted and half_same.promoted and three_words.promoted


def test_length_is_measured_against_the_champion() -> None:
    champion = answers("One two three four.")
    three_times = answers("a b c d e f g h i j k l")
    longer = answers("a b c d e f g h i j k l m")
    assert judge(0.8, 40, three_times, champion, GateConfig()).promoted
    assert failed(judge(0.8, 40, longer, champion, GateConfig())) == ["length"]


def test_repetition_no_worse_than_the_champions_passes() -> None:
    repeating = answers("on and on and on and on and on and on")
    assert repeated_share(repeating[0].text) > GateConfig().most_repeated
    assert judge(0.8, 40, repeating, repeating, GateConfig()).promoted


def test_no_answers_at_all_are_rejected_without_invented_numbers() -> None:
    found = verdict([])
    assert failed(found) == ["whole answers"]
    assert [check.name for check in found.checks] == CHECKS[:2]
    assert found.reason == "Rejected: A probe answer is empty or missing."


def test_every_reason_is_a_sentence() -> None:
    for found in (verdict(answers(*SOUND)), verdict(answers(" ", " "), 0.1), verdict([])):
        for check in found.checks:
            assert check.sentence[0].isupper() or check.sentence[0].isdigit()
            assert check.sentence.endswith(".")


def test_the_verdict_can_be_stored() -> None:
    stored = verdict(answers(*SOUND)).as_dict()
    assert stored["promoted"] is True
    assert [check["name"] for check in stored["checks"]] == CHECKS


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("", 0.0),
        ("one two", 0.0),
        ("one two three", 0.0),
        ("a b c a b c", 1 / 4),
        ("A b c a B c", 1 / 4),
        ("yes yes yes yes yes", 2 / 3),
        ("on and on and on and", 1 / 2),
    ],
)
def test_repeated_share(text: str, share: float) -> None:
    assert repeated_share(text) == pytest.approx(share)


@pytest.mark.parametrize(
    ("wins", "n", "low", "high"),
    [(55, 100, 0.452, 0.644), (110, 200, 0.481, 0.617), (0, 10, 0.0, 0.278), (10, 10, 0.722, 1.0)],
)
def test_wilson(wins: int, n: int, low: float, high: float) -> None:
    assert wilson(wins / n, n) == pytest.approx((low, high), abs=5e-4)


def test_wilson_of_nothing_is_everything() -> None:
    assert wilson(0.0, 0) == (0.0, 1.0)
