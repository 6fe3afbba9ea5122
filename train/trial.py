"""Try a candidate: it and the champion answer the same prompts through vLLM, then the gate judges.

The answers come from the combination that would serve: the quantised base with the adapter loaded,
sampled as annotators' pairs are.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from store import policies, prompts
from store.database import Store
from store.rows import Completion, Message
from train import gate
from train.policy.client import GenerationFailed, PromptRefused, Sampling
from train.policy.registry import PolicyRegistry

log = logging.getLogger(__name__)


class Trial:
    def __init__(
        self,
        store: Store,
        registry: PolicyRegistry,
        config: gate.GateConfig,
        sampling: Sampling,
        probes: int,
    ) -> None:
        self.store, self.registry, self.config = store, registry, config
        self.sampling, self.probes = sampling, probes

    def judge(
        self, policy_id: str, metrics: dict[str, Any], still_wanted: Callable[[], None]
    ) -> tuple[gate.Verdict, str]:
        """The verdict on a published policy, which is loaded for it, and the champion's id.

        `still_wanted` raises when the run was cancelled. Raises GenerationFailed when the server is
        at fault and not the candidate.
        """
        self.registry.load(policy_id)
        champion = policies.champion(self.store)
        assert champion is not None
        asked, theirs = self._champion_answers(champion.policy_id, still_wanted)
        mine = self._candidate_answers(policy_id, champion.policy_id, asked, still_wanted)
        rows = metrics.get("rows_decided", metrics["rows_eval"])  # ties decide nothing
        picked = metrics.get("picked_words")  # of few picks there is none
        verdict = gate.judge(metrics["accuracy"], rows, mine, theirs, self.config, picked)
        return verdict, champion.policy_id

    def _champion_answers(
        self, policy_id: str, still_wanted: Callable[[], None]
    ) -> tuple[list[list[Message]], list[Completion]]:
        """Prompts that the champion can answer, with its answers; the others are passed over."""
        asked: list[list[Message]] = []
        answers: list[Completion] = []
        for prompt in prompts.least_sampled(self.store, policy_id, None, 4 * self.probes):
            still_wanted()
            try:
                answers.append(self._answer(policy_id, prompt.messages, len(answers)))
            except PromptRefused:
                continue
            asked.append(prompt.messages)
            if len(asked) == self.probes:
                break
        return asked, answers

    def _candidate_answers(
        self,
        policy_id: str,
        champion_id: str,
        asked: list[list[Message]],
        still_wanted: Callable[[], None],
    ) -> list[Completion]:
        """Empty when it gives no whole answers although the server is well: the gate rejects it."""
        answers: list[Completion] = []
        try:
            for seed, messages in enumerate(asked):
                still_wanted()
                answers.append(self._answer(policy_id, messages, seed))
        except GenerationFailed as error:
            self.registry.server.client.probe(champion_id)  # else the server is at fault
            log.warning("%s gives no whole answers: %s", policy_id, error)
            return []
        return answers

    def _answer(self, policy_id: str, messages: list[Message], seed: int) -> Completion:
        client = self.registry.server.client
        sampled = client.sample(policy_id, messages, n=1, seed=seed, sampling=self.sampling)
        return sampled.completions[0]
