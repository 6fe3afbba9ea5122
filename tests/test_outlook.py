"""Time left and warnings of a run, from its progress lines, with hand-worked numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest

from train.outlook import run_warnings, time_left_s
from train.precision import Gap

STEPS = 40


def lines(count: int = STEPS, every: int = 1, **curves: Any) -> list[dict[str, Any]]:
    """Lines at every step, two seconds each; a curve is a value or a function of the step."""
    made = []
    for step in range(every, count + 1, every):
        line = {"step": step, "max_steps": STEPS, "seconds": 2.0 * step, "learning_rate": 1e-4}
        for key, value in curves.items():
            shown = value(step) if callable(value) else value
            if shown is not None:
                line[key] = shown
        made.append(line)
    return made


def keys(found: list[dict[str, Any]], samples: list[dict[str, Any]] | None = None) -> list[str]:
    return [warning.key for warning in run_warnings(found, samples or [])]


# --- time left ------------------------------------------------------------------------------------


def test_time_left_is_the_pace_of_late_times_the_steps_left() -> None:
    assert time_left_s([]) is None
    assert time_left_s([{"step": 0, "max_steps": 10, "seconds": 3.0}]) is None
    first = {"step": 1, "max_steps": 10, "seconds": 30.0}
    assert time_left_s([first]) is None, "most of it was loading the model"
    assert time_left_s([first, {"step": 2, "max_steps": 10, "seconds": 32.0}]) == 16.0
    assert time_left_s(lines(count=10)) == 60.0
    assert time_left_s(lines()) == 0.0
    slow_start = [{"step": 1, "max_steps": 10, "seconds": 100.0}]
    slow_start += [{"step": n, "max_steps": 10, "seconds": 100.0 + n} for n in range(2, 6)]
    assert time_left_s(slow_start) == pytest.approx(5 * 5 / 4, abs=0.1), "loading is not a pace"


def test_time_left_after_a_resume_and_in_a_round() -> None:
    resumed = lines(count=20) + [
        {"step": n, "max_steps": STEPS, "seconds": n - 20.0} for n in (21, 22)
    ]
    assert time_left_s(resumed) == 18.0
    part = [{"part": "rm", **line} for line in lines()]
    part += [{"part": "dpo", "step": n, "max_steps": 10, "seconds": 5.0 * n} for n in (1, 2)]
    assert time_left_s(part) == 40.0


# --- warnings -------------------------------------------------------------------------------------

HEALTHY = {
    "loss": lambda step: 0.7 - 0.005 * step,
    "accuracy": lambda step: 0.5 + 0.01 * step,
    "margin": lambda step: 0.05 * step,
    "logps_chosen": lambda step: -50.0 + (step % 7),
    "reward_chosen": lambda step: 0.02 * step,
    "grad_norm": lambda step: 1.0 + 0.1 * (step % 5),
    "eval_loss": lambda step: 0.72 - 0.004 * step if step % 10 == 0 else None,
}


def test_a_healthy_run_has_none() -> None:
    assert keys(lines(**HEALTHY)) == []
    assert keys([]) == []
    assert keys(lines(count=3, loss=9.0, accuracy=0.0, margin=99.0)) == [], "too early to say"


@pytest.mark.parametrize(
    ("key", "curves"),
    [
        (
            "chosen_falling",
            {
                "logps_chosen": lambda step: -50.0 - 0.3 * step + (step % 3),
                "reward_chosen": lambda step: -0.03 * step,
            },
        ),
        ("chosen_below", {"reward_chosen": lambda step: -0.03 * step}),
        ("margin_exploding", {"margin": lambda step: 0.4 * step}),
        (
            "held_out_rising",
            {"eval_loss": lambda s: 0.5 + 0.01 * abs(s - 20) if s % 10 == 0 else None},
        ),
        ("grad_spike", {"grad_norm": lambda step: 30.0 if step == 25 else 1.5}),
        ("grad_not_finite", {"grad_norm": lambda step: None if step == 25 else 1.5}),
        ("loss_not_finite", {"loss": lambda step: math.nan if step == 25 else 0.7 - 0.005 * step}),
        ("accuracy_chance", {"accuracy": lambda step: 0.5 + 0.02 * (step % 2)}),
    ],
)
def test_each_fault_gives_its_warning(key: str, curves: dict[str, Any]) -> None:
    assert keys(lines(**HEALTHY | curves)) == [key]


def test_a_loss_that_is_no_number_from_the_start() -> None:
    """A long run logs first at its second step or later, and then no line has one."""
    assert keys([{"step": 1, "max_steps": STEPS, "learning_rate": 1e-3}]) == ["loss_not_finite"]


def test_chance_is_told_of_the_picks_that_are_trained_on() -> None:
    """A run that learned them by heart needs no higher learning rate."""
    by_heart = {"accuracy": 1.0, "eval_accuracy": lambda step: 0.5 if step % 10 == 0 else None}
    assert keys(lines(**HEALTHY | by_heart)) == []


def test_means_for_each_token_fall_too() -> None:
    """As with sigmoid_norm: 30 tokens, beta 0.1, and a reward of beta times their mean."""
    curves = {
        "logps_chosen": lambda step: -30.0 - 0.75 * step,
        "reward_chosen": lambda step: -0.1 * 0.75 * step / 30,
        "margin": lambda step: 0.001 * step,
    }
    assert run_warnings(lines(**HEALTHY | curves)) == []
    (warning,) = run_warnings(lines(**HEALTHY | curves), by_token=True)
    assert warning.key == "chosen_falling"
    much_lower_rejected = {"margin": lambda step: 0.01 * step}
    assert run_warnings(lines(**HEALTHY | curves | much_lower_rejected), by_token=True) == []


def test_of_a_round_a_warning_names_the_part_whose_steps_it_counts() -> None:
    worse = HEALTHY | {
        "loss": lambda step: 0.7 - 0.014 * step,
        "eval_loss": lambda s: 0.65 if s % 10 == 0 else None,
    }
    rm = [line | {"part": "rm"} for line in lines(**worse)]
    dpo = [line | {"part": "dpo"} for line in lines(**worse)]
    found = [(one.key, one.part, one.step) for one in run_warnings(rm + dpo)]
    assert found == [("held_out_worse", "rm", 40), ("held_out_worse", "dpo", 40)]
    assert [one.part for one in run_warnings(lines(**worse))] == [""]


def test_loss_on_held_out_picks_far_above_that_on_trained_ones() -> None:
    curves = {
        "loss": lambda step: 0.7 - 0.014 * step,
        "eval_loss": lambda s: 0.65 if s % 10 == 0 else None,
    }
    (warning,) = run_warnings(lines(**HEALTHY | curves))
    # the last ten losses are 0.266 down to 0.14
    assert (warning.key, warning.step, warning.values) == (
        "held_out_worse",
        40,
        {"held_out": 0.65, "train": 0.203},
    )
    assert warning.message.startswith("The loss is 0.65 on held-out picks and 0.203 on those")


def test_a_gap_is_no_fault_while_held_out_picks_gain_too() -> None:
    """As in a DPO run on the starter that wins 94 % of its pairs."""
    curves = {
        "loss": lambda step: 0.76 - 0.0155 * step,
        "eval_loss": {10: 0.40, 20: 0.35, 30: 0.34, 40: 0.34}.get,
    }
    assert keys(lines(**HEALTHY | curves)) == []
    harder = {"loss": lambda step: 1.2 - 0.005 * step, "eval_loss": lambda s: 1.6 - 0.005 * s}
    assert keys(lines(**HEALTHY | harder)) == [], "held-out rows may be harder from the start"


def test_small_last_batches_say_nothing_about_the_loss() -> None:
    curves = {
        "loss": lambda step: 0.1 if step % 6 == 0 else 0.5 - 0.004 * step,
        "eval_loss": lambda s: 0.45 if s % 10 == 0 else None,
    }
    assert keys(lines(**HEALTHY | curves)) == []


def test_both_sides_may_fall_when_the_rejected_one_falls_much_further() -> None:
    """KTO and DPO on the starter: the picked side loses 6 nats and the other one 50."""
    curves = {
        "logps_chosen": lambda step: -9.0 - 0.15 * step,
        "reward_chosen": lambda step: -0.015 * step,
        "margin": lambda step: 0.1 * step,
    }
    assert keys(lines(**HEALTHY | curves)) == []
    assert keys(lines(**HEALTHY | curves | {"margin": 0.2})) == ["chosen_falling"]


def test_noise_between_batches_is_no_fall() -> None:
    noisy = {"logps_chosen": lambda step: -50.0 + 30 * math.sin(37.0 * step) - 0.05 * step}
    assert keys(lines(**HEALTHY | noisy)) == []


def test_the_numbers_of_a_fall() -> None:
    curves = {"logps_chosen": lambda step: -50.0 - step, "reward_chosen": lambda step: -0.1 * step}
    (warning,) = run_warnings(lines(**HEALTHY | curves))
    assert warning.values == {"first": -55.5, "last": -85.5}  # means of steps 1-10 and 31-40
    assert warning.message.startswith("Picked answers became less likely: ")


def test_sampled_answers_that_grow() -> None:
    samples = [
        {"step": step, "text": "word " * words} for step, words in [(0, 20), (0, 30), (40, 40)]
    ]
    (warning,) = run_warnings(lines(**HEALTHY), samples)
    assert (warning.key, warning.values) == ("length_growing", {"first": 25, "last": 40})
    assert keys(lines(**HEALTHY), samples[:2]) == []


def test_sampled_answers_that_became_empty() -> None:
    """As with a learning rate of 99: every held-out pick ordered rightly, and nothing is said."""
    samples = [
        {"step": step, "text": text}
        for step, text in [(0, "Bees."), (0, ""), (6, " "), (6, ""), (4, ""), (4, "")]
    ]
    (warning,) = run_warnings([], samples)
    assert (warning.key, warning.step) == ("answers_empty", 6)
    assert warning.values == {"empty": 2, "answers": 2}
    assert keys([], samples[:2]) == []


def test_a_served_policy_that_is_not_the_trained_one() -> None:
    wide, close = Gap(0.0531, 0.4, 900, 2.0, bound=0.02), Gap(0.01, 0.4, 900, 2.0, bound=0.02)
    (warning,) = run_warnings(lines(**HEALTHY), metrics={"precision_gap": wide.as_dict()})
    assert (warning.key, warning.step) == ("precision_gap", STEPS)
    assert warning.values == {"mean": 0.0531, "bound": 0.02}
    assert warning.message.startswith("The policy that is served differs from the one that was ")
    for found in ({"precision_gap": close.as_dict()}, {"precision_gap": {"missing": "Why."}}, {}):
        assert run_warnings(lines(**HEALTHY), metrics=found) == []


def test_parts_of_a_round_are_looked_at_one_by_one() -> None:
    """Rewards of a reward model say nothing about a likelihood, nor its loss about DPO's."""
    reward = {"reward_chosen": lambda step: -3.0, "logps_chosen": None, "loss": 0.1}
    rm = [line | {"part": "rm"} for line in lines(**HEALTHY | reward | {"eval_loss": None})]
    dpo = [line | {"part": "dpo"} for line in lines(**HEALTHY)]
    assert keys(rm + dpo) == []
