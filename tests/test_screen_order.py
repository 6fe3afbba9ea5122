"""How streamed answers reach the screen: nothing tells which completion was first."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from annotate.conversations import STEP_S, Piece, in_screen_order
from store.rows import Completion
from train.policy.client import Delta, GenerationFailed, Sampled


def streaming(*parts: tuple[int, str]) -> Iterator[Delta | Sampled]:
    for index, text in parts:
        yield Delta(index, text)
    yield Sampled([], [Completion("A"), Completion("B")])


class Clock:
    """One that goes on by a step with each look at it."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def test_pieces_come_in_the_order_of_the_screen() -> None:
    parts = [(0, "a"), (1, "b")] * 3
    for order, left, right in (("ab", "a", "b"), ("ba", "b", "a")):
        slow = list(in_screen_order(streaming(*parts), order, Clock(STEP_S)))
        assert slow == [Piece(0, left), Piece(1, right)] * 3
        quick = list(in_screen_order(streaming(*parts), order, Clock(STEP_S / 100)))
        assert quick == [Piece(0, left * 3), Piece(1, right * 3)]


def test_the_longer_side_goes_on_when_the_other_has_ended() -> None:
    parts = [(0, "a"), (1, "b"), *[(0, "a")] * 6]
    pieces = list(in_screen_order(streaming(*parts), "ba", Clock(STEP_S)))
    assert "".join(piece.text for piece in pieces if piece.at == 1) == "a" * 7
    assert len(pieces) > 2


def test_answers_that_break_off() -> None:
    with pytest.raises(GenerationFailed, match="broke off"):
        list(in_screen_order(iter([Delta(0, "a")]), "ab"))
