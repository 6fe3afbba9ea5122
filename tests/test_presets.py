"""Settings by the size of the model and the number of rows, and what a person may change."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from store.rows import Invalid
from train.presets import preset, tiny_epochs
from train.settings import (
    KINDS,
    DpoSettings,
    KtoSettings,
    Part,
    RewardSettings,
    form,
    override,
    stored,
)

STARTER, HALF_BILLION, SEVEN_BILLION = 3_000_000, 494_000_000, 7_600_000_000
SEVENTY_BILLION = 70_600_000_000


@pytest.mark.parametrize(
    ("pairs", "epochs"), [(0, 4), (16, 4), (225, 4), (349, 4), (350, 3), (599, 3), (600, 2)]
)
def test_a_starter_takes_two_to_four_passes(pairs: int, epochs: int) -> None:
    assert tiny_epochs(pairs) == epochs


def test_dpo_of_a_starter() -> None:
    found = preset("dpo", STARTER, 200)
    assert (found.learning_rate, found.epochs, found.batch) == (1e-3, 4, 8)
    assert found.accumulate == 1 and not found.gradient_checkpointing
    few, many = preset("dpo", STARTER, 599), preset("dpo", STARTER, 600)
    assert (few.beta, few.sft_weight) == (found.beta, found.sft_weight) == (0.1, 0.2)
    assert (many.beta, many.sft_weight) == (0.25, 0.1)


@pytest.mark.parametrize(
    ("pairs", "epochs", "beta"), [(100, 2, 0.3), (499, 2, 0.3), (500, 2, 0.1), (1000, 1, 0.1)]
)
@pytest.mark.parametrize("parameters", [HALF_BILLION, SEVEN_BILLION])
def test_dpo_of_a_large_model(parameters: int, pairs: int, epochs: int, beta: float) -> None:
    found = preset("dpo", parameters, pairs, context=4096)
    assert (found.epochs, found.beta) == (epochs, beta)
    assert found.learning_rate == 2e-5
    assert found.batch * found.accumulate == 16
    assert found.max_length == 4096 and found.gradient_checkpointing


@pytest.mark.parametrize("part", get_args(Part))
def test_a_step_has_as_many_rows_at_once_as_fit(part: Part) -> None:
    small, seven, huge = (
        preset(part, size, 2000) for size in (HALF_BILLION, SEVEN_BILLION, SEVENTY_BILLION)
    )
    assert (small.batch, small.learning_rate) == (4, seven.learning_rate)
    assert (seven.batch, huge.batch) == {"kto": (4, 4), "rm": (1, 1)}.get(part, (2, 1))
    assert huge.learning_rate == seven.learning_rate / 2
    assert {one.batch * one.accumulate for one in (small, seven, huge)} == {16}


@pytest.mark.parametrize(
    ("part", "context", "batch"),
    [("dpo", 2048, 2), ("dpo", 4096, 1), ("dpo", 32768, 1), ("kto", 4096, 2), ("kto", 32768, 2)],
)
def test_a_longer_context_has_fewer_rows_at_once(part: Part, context: int, batch: int) -> None:
    found = preset(part, SEVEN_BILLION, 2000, context)
    assert (found.batch, found.batch * found.accumulate) == (batch, 16)
    assert preset(part, STARTER, 100, context).batch == preset(part, STARTER, 100).batch


@pytest.mark.parametrize("parameters", [STARTER, SEVEN_BILLION, SEVENTY_BILLION])
def test_kto_estimates_its_kl_from_enough_rows(parameters: int) -> None:
    found = preset("kto", parameters, 200)
    assert found.batch >= 4 and found.batch * found.accumulate == 16


@pytest.mark.parametrize(
    ("part", "parameters", "rows", "rate", "epochs"),
    [
        ("rm", STARTER, 60, 1e-3, 6),
        ("rm", STARTER, 5000, 1e-3, 1),
        ("rm", SEVEN_BILLION, 60, 1e-4, 2),
        ("rm", SEVEN_BILLION, 500, 1e-4, 1),
        ("sft", STARTER, 60, 1e-3, 5),
        ("sft", SEVEN_BILLION, 60, 2e-4, 3),
        ("sft", SEVEN_BILLION, 1000, 2e-4, 1),
        ("sft", SEVENTY_BILLION, 60, 1e-4, 3),
        ("kto", SEVEN_BILLION, 1998, 2e-5, 2),  # of 999 pairs
        ("kto", SEVEN_BILLION, 2000, 2e-5, 1),
    ],
)
def test_few_rows_take_more_passes_and_what_imitates_takes_larger_steps(
    part: Part, parameters: int, rows: int, rate: float, epochs: int
) -> None:
    found = preset(part, parameters, rows)
    assert (found.learning_rate, found.epochs) == (rate, epochs)


@pytest.mark.parametrize(
    ("key", "given", "stored"),
    [
        ("learning_rate", "3e-4", 3e-4),
        ("learning_rate", 1, 1.0),
        ("beta", " 0.2 ", 0.2),
        ("epochs", "3", 3),
        ("epochs", 3, 3),
        ("seed", "0", 0),
        ("sft_weight", 0, 0.0),
        ("gradient_checkpointing", "True", True),
        ("gradient_checkpointing", "0", False),
        ("gradient_checkpointing", False, False),
    ],
)
def test_an_override_takes_the_type_of_its_field(key: str, given: Any, stored: Any) -> None:
    value = getattr(override(DpoSettings(), {key: given}), key)
    assert value == stored and type(value) is type(stored)


@pytest.mark.parametrize(
    ("key", "given", "sentence"),
    [
        ("epochs", "two", "epochs must be a value of type int, not 'two'."),
        ("epochs", 1.5, "epochs must be a value of type int, not '1.5'."),
        ("gradient_checkpointing", "maybe", "must be a value of type bool"),
        ("beta", "", "beta must be a value of type float, not ''."),
        ("beta", "nan", "beta must be a finite number and at least 1e-06, not 'nan'."),
        ("learning_rate", "inf", "learning_rate must be a finite number"),
        ("learning_rate", -1, "finite number and at least 1e-09 and at most 1, not '-1'."),
        ("epochs", 0, "epochs must be a finite number and at least 1 and at most 1000, not '0'."),
        ("rank", "9" * 400, "at least 1 and at most 4.29497e+09, not '9999"),
        ("epochs", "9" * 400, "at most 1000, not '9999999999999999999999999999999999999999…'."),
        ("batch", "-2", "batch must be a finite number and at least 1, not '-2'."),
    ],
)
def test_a_bad_value_is_named(key: str, given: Any, sentence: str) -> None:
    with pytest.raises(Invalid) as caught:
        override(DpoSettings(), {key: given})
    assert sentence in str(caught.value)


def test_kto_compares_the_rows_of_a_batch() -> None:
    with pytest.raises(Invalid, match="batch must be a finite number and at least 2, not '1'"):
        override(KtoSettings(), {"batch": 1})


def test_an_unknown_key_is_answered_with_the_known_ones() -> None:
    with pytest.raises(Invalid) as caught:
        override(RewardSettings(), {"beta": 0.1})
    assert str(caught.value).startswith("Unknown setting 'beta': choose learning_rate, epochs,")


def test_a_reward_model_has_no_samples_and_takes_those_of_older_runs() -> None:
    older = {"epochs": 3, "samples": 3}
    assert "samples" not in {one.name for one in form(RewardSettings())}
    assert override(RewardSettings(), older) == stored(RewardSettings, older)
    assert stored(RewardSettings, older) == RewardSettings(epochs=3)
    assert all(stored(KINDS[part], older).samples == 3 for part in ("sft", "dpo", "kto"))
    with pytest.raises(TypeError):
        stored(RewardSettings, {"beta": 0.1})


def test_a_choice_is_one_of_the_listed() -> None:
    assert override(DpoSettings(), {"loss": "ipo"}).loss == "ipo"
    with pytest.raises(Invalid, match=r"loss must be one of sigmoid, ipo, .*, not 'dpo'\."):
        override(DpoSettings(), {"loss": "dpo"})


def test_a_share_is_at_most_one() -> None:
    with pytest.raises(Invalid, match=r"at least 0 and at most 1, not '1\.5'"):
        override(DpoSettings(), {"length_alpha": 1.5})


@pytest.mark.parametrize("part", ["sft", "rm", "dpo", "kto"])
def test_a_form_has_help_for_each_setting_and_lists_groups_together(part: Part) -> None:
    listed = form(KINDS[part]())
    groups = [one.group for one in listed]
    assert groups == sorted(groups, key=groups.index)
    assert all(
        one.help.endswith(".") and one.type in ("int", "float", "bool", "str") for one in listed
    )
    assert all(one.default in one.choices for one in listed if one.choices)
