"""How long a text is."""

from __future__ import annotations

import pytest

from train.words import usual_words, words


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("", 0),
        ("  \n", 0),
        ("Bees make honey.", 3),
        ("naïve – don't", 3),
        ("蜜蜂酿蜜。", 5),  # the full stop is not a character of a word, but stands alone
        ("ミツバチ", 4),
        ("벌은 꿀을 만든다", 3),  # Korean has spaces
        ("用 Python 写的", 4),
        ("用Python写的", 4),
    ],
)
def test_words_are_counted_with_and_without_spaces(text: str, number: int) -> None:
    assert len(words(text)) == number


def test_the_usual_length_leaves_out_the_ends() -> None:
    texts = ["word " * n for n in range(1, 100)]
    assert usual_words(texts) == (5.0, 95.0)
    assert usual_words(texts[:19]) is None
