"""The words of the training room: all that modules of train/ say by key is in the catalogues."""

from __future__ import annotations

import re

import pytest

from annotate.language import LOCALES, catalogue
from store.rows import RUN_KINDS
from train.outlook import SENTENCES as WARNINGS
from train.plan_words import MESSAGES, WORDS
from train.rule_words import SENTENCES as RULES
from train.settings import GROUPS, KINDS, form

ENGLISH, CHINESE = catalogue("en"), catalogue("zh-CN")
JS = LOCALES.parent / "js"


@pytest.mark.parametrize("part", KINDS)
def test_every_setting_has_its_help_in_both_languages(part: str) -> None:
    for field in form(KINDS[part]()):  # type: ignore[index]
        keys = (f"train.setting.{part}.{field.name}", f"train.setting.{field.name}")
        key = next((key for key in keys if key in ENGLISH), "")
        assert ENGLISH.get(key) == field.help, f"{part}.{field.name}"
        assert re.search("[\u4e00-\u9fff]", CHINESE[key]), key
        assert not field.unit or f"train.unit.{field.unit}" in ENGLISH, field.unit


@pytest.mark.parametrize(
    ("prefix", "said"),
    [("train.warning", WARNINGS), ("train.rule", RULES), ("train.plan", MESSAGES)],
)
def test_sentences_are_in_the_catalogues_word_for_word(prefix: str, said: dict[str, str]) -> None:
    """The page finds their translation by the English words, too."""
    assert {key: ENGLISH.get(f"{prefix}.{key}") for key in said} == said


def test_pieces_of_a_plan_are_in_the_catalogues() -> None:
    for key, (one, many) in WORDS.items():
        assert ENGLISH[f"train.piece.{key}.one"] == f"{{n}} {one}"
        assert ENGLISH[f"train.piece.{key}.other"] == f"{{n}} {many}"


def test_keys_that_modules_put_together_are_there() -> None:
    names = re.findall(r'\{ name: "(\w+)"', (JS / "train_charts.js").read_text("utf-8"))
    assert len(names) > 8
    wanted = {f"train.chart.{name}" for name in names}
    wanted |= {f"train.{word}.{kind}" for word in ("kind", "what") for kind in RUN_KINDS}
    wanted |= {f"train.group.{group}" for group in GROUPS}
    wanted |= {f"train.rule_of.{key.partition('.')[0]}" for key in RULES}
    assert wanted <= ENGLISH.keys()
