"""The losses of DPO over a batch of pairs, with soft labels and weights. Pure tensors.

Each loss is that of TRL 1.16 for p = 1 and weight = 1 (tests/test_losses.py compares them). A soft
label is the expectation over which side is the better one:

    p * loss(chosen, rejected) + (1 - p) * loss(rejected, chosen)

so a tie (p = 0.5) is flat where both sides stand level, and pulls them together elsewhere; of
apo_zero, whose two terms stand alone, it is 1 everywhere, and a label only scales the gradient.
Scores are log-ratios: log-probability of an answer under the policy minus that under the reference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from train.settings import BY_TOKEN


@dataclass(frozen=True)
class Side:
    """The answers on one side of a batch."""

    score: Tensor  # [rows] log-ratio of the whole answer
    tokens: Tensor  # [rows] tokens of the answer

    @property
    def mean(self) -> Tensor:
        """Log-ratio per token, [rows]."""
        return self.score / self.tokens.clamp(min=1.0)


@dataclass(frozen=True)
class PairLoss:
    """One of the losses with its constants."""

    name: str  # a key of LOSSES
    beta: float
    label_smoothing: float = 0.0  # of robust: the share of flipped picks

    def __call__(self, chosen: Side, rejected: Side, p: Tensor) -> Tensor:
        """Loss of each row, [rows]. `p`: probability that `chosen` is the better one, [rows]."""
        one_way, other_way = self.hard(chosen, rejected), self.hard(rejected, chosen)
        return p * one_way + (1 - p) * other_way

    def reward(self, side: Side) -> Tensor:
        """What the loss compares, [rows]: beta times the log-ratio, or its mean per token."""
        return self.beta * (side.mean if self.name in BY_TOKEN else side.score)

    def hard(self, better: Side, worse: Side) -> Tensor:
        return LOSSES[self.name](self, better, worse)


def _sigmoid(loss: PairLoss, better: Side, worse: Side) -> Tensor:
    """Rafailov et al. 2023, arXiv 2305.18290."""
    return -logsigmoid(loss.beta * (better.score - worse.score))


def _ipo(loss: PairLoss, better: Side, worse: Side) -> Tensor:
    """Azar et al. 2023, arXiv 2310.12036, over the means per token."""
    return (better.mean - worse.mean - 1 / (2 * loss.beta)) ** 2


def _robust(loss: PairLoss, better: Side, worse: Side) -> Tensor:
    """Chowdhury et al. 2024, arXiv 2403.00409: unbiased when a known share of picks is flipped."""
    flipped, margin = loss.label_smoothing, loss.beta * (better.score - worse.score)
    clean = (1 - flipped) * -logsigmoid(margin) - flipped * -logsigmoid(-margin)
    return clean / (1 - 2 * flipped)


def _hinge(loss: PairLoss, better: Side, worse: Side) -> Tensor:
    """Zhao et al. 2023, arXiv 2305.10425."""
    return torch.relu(1 - loss.beta * (better.score - worse.score))


def _apo_zero(loss: PairLoss, better: Side, worse: Side) -> Tensor:
    """D'Oosterlinck et al. 2024, arXiv 2408.06266."""
    return 1 - torch.sigmoid(loss.beta * better.score) + torch.sigmoid(loss.beta * worse.score)


def _sigmoid_norm(loss: PairLoss, better: Side, worse: Side) -> Tensor:
    """DPO over the means per token, as in Tulu 3, arXiv 2411.15124."""
    return -logsigmoid(loss.beta * (better.mean - worse.mean))


LOSSES: dict[str, Callable[[PairLoss, Side, Side], Tensor]] = {
    "sigmoid": _sigmoid,
    "ipo": _ipo,
    "robust": _robust,
    "hinge": _hinge,
    "apo_zero": _apo_zero,
    "sigmoid_norm": _sigmoid_norm,
}


def imitation(logps: Tensor, mask: Tensor, p: Tensor, weight: Tensor) -> Tensor:
    """Mean loss per token of the chosen answers, a scalar. A tie (p = 0.5) pulls up neither side.

    `logps`, `mask`: [rows, tokens] of the chosen answers.
    """
    row = weight * (2 * p - 1)
    return -(logps * mask * row[:, None]).sum() / mask.sum().clamp(min=1)


def answer_logps(logps: Tensor, mask: Tensor, shared: Tensor, alpha: float) -> Tensor:
    """Log-probability of each answer, [rows], with its tokens beyond `shared` weighed by `alpha`.

    LD-DPO, Liu et al. 2024, arXiv 2409.06411. `logps`, `mask`: [rows, tokens]; `shared`: [rows],
    tokens of the shorter answer of the pair; alpha = 1 is the plain sum.
    """
    if alpha == 1:
        return (logps * mask).sum(1)
    beyond = mask.cumsum(1) > shared[:, None]
    return (logps * mask * torch.where(beyond, alpha, 1.0)).sum(1)
