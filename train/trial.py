"""Try a candidate: it and the champion answer the same prompts through vLLM, then the gate judges.

The answers come from the combination that would serve: the quantised base with the adapter loaded,
sampled as annotators' pairs are.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from store import policies, prompts
from store.database import Store
from store.rows import Completion, Message
from train import gate
from train.policy.client import GenerationFailed, PromptRefused, Sampling
from train.policy.registry import PolicyRegistry

log = logging.getLogger(__name__)
AT_ONCE = 8  # probes in vLLM's batch: annotators' requests have room beside them


class Probe(NamedTuple):
    """The same for champion and candidate."""

    seed: int
    messages: list[Message]


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
    ) -> tuple[list[Probe], list[Completion]]:
        """Probes that the champion can answer, with its answers; the others are passed over."""
        found = prompts.least_sampled(self.store, policy_id, None, 4 * self.probes)
        spare = [Probe(seed, prompt.messages) for seed, prompt in enumerate(found)]
        asked: list[Probe] = []
        answers: list[Completion] = []
        while spare and len(asked) < self.probes:
            missing = self.probes - len(asked)
            batch, spare = spare[:missing], spare[missing:]
            said = self._answers(policy_id, batch, still_wanted)
            for probe, answer in zip(batch, said, strict=True):
                if answer is not None:
                    asked.append(probe)
                    answers.append(answer)
        return asked, answers

    def _candidate_answers(
        self,
        policy_id: str,
        champion_id: str,
        asked: list[Probe],
        still_wanted: Callable[[], None],
    ) -> list[Completion]:
        """Empty when it gives no whole answers although the server is well: the gate rejects it."""
        try:
            answers = self._answers(policy_id, asked, still_wanted)
        except GenerationFailed as error:
            self.registry.server.client.probe(champion_id)  # else the server is at fault
            log.warning("%s gives no whole answers: %s", policy_id, error)
            return []
        whole = [answer for answer in answers if answer is not None]
        return whole if len(whole) == len(asked) else []  # the champion could answer them all

    def _answers(
        self, policy_id: str, asked: Sequence[Probe], still_wanted: Callable[[], None]
    ) -> list[Completion | None]:
        """One to each probe, in their order; None where the prompt cannot be answered."""
        pool = ThreadPoolExecutor(AT_ONCE)
        waiting = [pool.submit(self._answer, policy_id, probe) for probe in asked]
        answers = []
        try:
            for one in waiting:
                still_wanted()
                answers.append(one.result())
        finally:
            pool.shutdown(cancel_futures=True)  # waits for those that are being written
        return answers

    def _answer(self, policy_id: str, probe: Probe) -> Completion | None:
        client = self.registry.server.client
        try:
            sampled = client.sample(
                policy_id, probe.messages, n=1, seed=probe.seed, sampling=self.sampling
            )
        except PromptRefused:
            return None
        return sampled.completions[0]
