"""vLLM asleep on a GPU: its weights wait in the memory of the host while a run has the card.

Adapters outlive a sleep, but one release of vLLM lost them silently, so each adapter answers the
same question before and after, and only the same answer counts as awake.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from store.rows import Completion
from train.policy.client import GenerationFailed, PolicyClient

TOKENS = 8  # of the answer that is compared
TOLERANCE = 0.02  # nats for each token: kernels add up in another order after the cache is rebuilt


@dataclass(frozen=True)
class Asleep:
    """What each adapter said before."""

    answers: dict[str, Completion]  # by name


def fall_asleep(client: PolicyClient, adapters: Iterable[str]) -> Asleep:
    """Returns once the memory is free. Raises GenerationFailed when vLLM cannot sleep."""
    asleep = Asleep({name: client.greedy(name, TOKENS) for name in adapters})
    client.sleep()
    if not client.is_sleeping():
        raise GenerationFailed("The policy server said that it sleeps, but it does not.")
    return asleep


def wake(client: PolicyClient, asleep: Asleep) -> None:
    """Raises GenerationFailed when it does not wake up as it was."""
    get_up(client)
    for name, before in asleep.answers.items():
        if not is_same(before, client.greedy(name, TOKENS)):
            raise GenerationFailed(f"{name} answers otherwise than before it slept.")


def get_up(client: PolicyClient) -> None:
    """Raises GenerationFailed when it still sleeps."""
    client.wake_up()
    if client.is_sleeping():
        raise GenerationFailed("The policy server still sleeps.")


def sleeps(client: PolicyClient) -> bool:
    """False too for a vLLM that has no routes for sleeping."""
    try:
        return client.is_sleeping()
    except GenerationFailed:
        return False


def is_same(before: Completion, after: Completion) -> bool:
    """The same tokens, as likely as before within rounding."""
    if before.logprob_sum is None or after.logprob_sum is None:
        return False
    slack = TOLERANCE * len(before.token_ids)
    as_likely = math.isclose(before.logprob_sum, after.logprob_sum, abs_tol=slack)
    return before.token_ids == after.token_ids and as_likely
