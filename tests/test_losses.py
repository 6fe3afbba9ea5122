"""The losses of DPO against numbers worked out by hand, for hard and soft labels and for ties."""

from __future__ import annotations

import math

import pytest
import torch

from train.losses import LOSSES, PairLoss, Side, answer_logps, imitation

pytestmark = pytest.mark.slow  # imports torch

BETA = 0.5
# One pair: the chosen answer has 4 tokens and a log-ratio of 0.8, the rejected 2 tokens and -0.4.
# So beta times the difference is 0.6; per token the ratios are 0.2 and -0.2.
ONE_WAY = {
    "sigmoid": math.log(1 + math.exp(-0.6)),  # 0.437488
    "ipo": (0.4 - 1.0) ** 2,
    "robust": (0.9 * math.log(1 + math.exp(-0.6)) - 0.1 * math.log(1 + math.exp(0.6))) / 0.8,
    "hinge": 0.4,
    "apo_zero": 1 - 1 / (1 + math.exp(-0.4)) + 1 / (1 + math.exp(0.2)),
    "sigmoid_norm": math.log(1 + math.exp(-0.2)),
}
OTHER_WAY = {
    "sigmoid": math.log(1 + math.exp(0.6)),  # 1.037488
    "ipo": (-0.4 - 1.0) ** 2,
    "robust": (0.9 * math.log(1 + math.exp(0.6)) - 0.1 * math.log(1 + math.exp(-0.6))) / 0.8,
    "hinge": 1.6,
    "apo_zero": 1 - 1 / (1 + math.exp(0.2)) + 1 / (1 + math.exp(-0.4)),
    "sigmoid_norm": math.log(1 + math.exp(0.2)),
}


def sides(chosen: float, rejected: float) -> tuple[Side, Side]:
    scores = torch.tensor([[chosen], [rejected]], dtype=torch.float64, requires_grad=True)
    return Side(scores[0], torch.tensor([4])), Side(scores[1], torch.tensor([2]))


def loss_of(name: str, chosen: float, rejected: float, p: float) -> float:
    each = PairLoss(name, BETA, label_smoothing=0.1)(*sides(chosen, rejected), torch.tensor([p]))
    return each[0].item()


def test_every_loss_has_numbers_worked_by_hand() -> None:
    assert ONE_WAY.keys() == OTHER_WAY.keys() == LOSSES.keys()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("p", [1.0, 0.9, 0.7, 0.5])
def test_a_soft_label_is_the_expectation_over_both_orders(name: str, p: float) -> None:
    by_hand = p * ONE_WAY[name] + (1 - p) * OTHER_WAY[name]
    assert loss_of(name, 0.8, -0.4, p) == pytest.approx(by_hand, rel=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_a_tie_is_flat_where_both_sides_stand_level(name: str) -> None:
    assert slope(name, 0.0, 0.0, p=0.5) == pytest.approx(0.0, abs=1e-12)
    assert slope(name, 0.0, 0.0, p=1.0) < -0.01  # a pick is not


@pytest.mark.parametrize("name", ["sigmoid", "ipo", "robust", "sigmoid_norm"])
def test_a_tie_pulls_sides_together_that_stand_apart(name: str) -> None:
    assert slope(name, 0.8, -0.4, p=0.5) > 0.005
    assert slope(name, -0.8, 0.4, p=0.5) < -0.005


@pytest.mark.parametrize("name", LOSSES)
def test_a_doubtful_pick_pulls_less(name: str) -> None:
    pulls = [-slope(name, 0.0, 0.0, p) for p in (0.5, 0.7, 0.9, 0.95, 1.0)]
    assert pulls == sorted(pulls)
    assert pulls[1] == pytest.approx(0.4 * pulls[-1], rel=1e-6)  # 2p - 1


def slope(name: str, chosen: float, rejected: float, p: float) -> float:
    """Of the loss, as the chosen side rises."""
    a, b = sides(chosen, rejected)
    loss = PairLoss(name, BETA, label_smoothing=0.1)(a, b, torch.tensor([p])).sum()
    (gradient,) = torch.autograd.grad(loss, a.score)
    return float(gradient)


def test_likelihood_of_the_chosen_side_is_a_mean_over_tokens() -> None:
    logps = torch.tensor([[0.0, -1.0, -2.0], [0.0, -4.0, 0.0]])
    mask = torch.tensor([[0, 1, 1], [0, 1, 0]])
    one, two = torch.ones(2), torch.tensor([2.0, 1.0])
    assert float(imitation(logps, mask, one, one)) == pytest.approx(7 / 3)
    assert float(imitation(logps, mask, one, two)) == pytest.approx((2 * 3 + 4) / 3)
    tie = torch.tensor([0.5, 1.0])
    assert float(imitation(logps, mask, tie, one)) == pytest.approx(4 / 3)


def test_tokens_beyond_the_shorter_answer_can_count_less() -> None:
    logps = torch.tensor([[-9.0, -1.0, -2.0, -4.0], [-9.0, -3.0, 0.0, 0.0]])
    mask = torch.tensor([[0, 1, 1, 1], [0, 1, 0, 0]])
    shared = torch.tensor([1, 1])
    assert answer_logps(logps, mask, shared, 1.0).tolist() == [-7.0, -3.0]
    assert answer_logps(logps, mask, shared, 0.5).tolist() == [-4.0, -3.0]
    assert answer_logps(logps, mask, shared, 0.0).tolist() == [-1.0, -3.0]
