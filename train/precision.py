"""How far the policy that is served is from the policy that was trained, per token.

At its end a training script writes some held-out answers with the log-probabilities that the
trained policy gives their tokens (RUN/scored.jsonl). vLLM scores the same tokens with the published
adapter. Both should say the same; where the base is trained in one precision and served in another
they do not, and people then judge a policy that nobody trained (docs/precision.md). No torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from store.rows import Invalid
from train.outlook import SENTENCES
from train.policy.client import PolicyClient, PromptRefused
from train.run_folder import SCORED, RunFolder

# Share of the answers' mean surprise: rounding shows where a model is unsure, so the same fault is
# a larger difference on text that it finds hard. docs/precision.md has what lies on either side.
LARGEST_GAP = 0.015
LEAST_BOUND = 0.005  # nats per token, for answers that the policy knows nearly by heart


@dataclass(frozen=True)
class Scored:
    """A held-out answer as the trainer sees it: a log-probability for each of its tokens."""

    prompt_ids: list[int]
    answer_ids: list[int]
    logprobs: list[float]

    def __post_init__(self) -> None:
        if len(self.answer_ids) != len(self.logprobs):
            raise Invalid(
                f"{SCORED} has {len(self.logprobs)} log-probabilities for an answer of "
                f"{len(self.answer_ids)} tokens."
            )


@dataclass(frozen=True)
class Gap:
    """Absolute differences of log-probabilities, in nats."""

    mean: float
    max: float
    tokens: int
    surprise: float  # mean of minus the trained policy's log-probabilities
    bound: float  # of the mean: the largest difference may be that of one rare token

    @property
    def warning(self) -> str | None:
        if self.mean <= self.bound:
            return None
        return SENTENCES["precision_gap"].format(mean=f"{self.mean:.3f}", bound=f"{self.bound:.3f}")

    def as_dict(self) -> dict[str, Any]:
        """As it stands in a run's metrics."""
        return asdict(self) | {"warning": self.warning}


def measure(
    client: PolicyClient, policy_id: str, run: RunFolder, largest: float = LARGEST_GAP
) -> Gap | None:
    """None when there is no answer to compare. The policy must be loaded.

    Raises GenerationFailed when vLLM does not score.
    """
    with client.traffic.alone():  # once for all answers: see PolicyClient.score
        return gap(_served_too(client, policy_id, read_scored(run)), largest)


def gap(
    answers: Iterable[tuple[Sequence[float], Sequence[float]]], largest: float = LARGEST_GAP
) -> Gap | None:
    """Over all tokens of all answers: (trained, served) log-probabilities of each answer."""
    tokens = [pair for trained, served in answers for pair in zip(trained, served, strict=True)]
    if not tokens:
        return None
    apart = [abs(trained - served) for trained, served in tokens]
    surprise = -math.fsum(trained for trained, _ in tokens) / len(tokens)
    bound = max(LEAST_BOUND, largest * surprise)
    return Gap(math.fsum(apart) / len(apart), max(apart), len(apart), surprise, bound)


def read_scored(run: RunFolder) -> list[Scored]:
    """Empty when the script held nothing out, or was stopped before it scored."""
    return [Scored(**line) for line in run.scored()]


def _served_too(
    client: PolicyClient, policy_id: str, rows: Iterable[Scored]
) -> Iterable[tuple[list[float], list[float]]]:
    """One request after the other."""
    for row in rows:
        try:
            served = client.score(policy_id, row.prompt_ids, row.answer_ids)
        except PromptRefused:  # it fills the whole context; vLLM wants to add a token
            continue
        yield row.logprobs, served
