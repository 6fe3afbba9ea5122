"""What researchers see and do: the state of the loop, runs, policies."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from annotate.views import Overview
from store import policies, prompts, runs, statistics
from store.database import Store
from store.rows import Completion, Message, Policy
from train.loop import TrainLoop
from train.policy.client import Sampling
from train.policy.registry import PolicyRegistry
from train.run_folder import RunFolder


class Research:
    def __init__(self, store: Store, registry: PolicyRegistry, loop: TrainLoop) -> None:
        self.store, self.registry, self.loop = store, registry, loop

    def overview(self) -> Overview:
        picks = statistics.picks(self.store)
        every = self.loop.config.every_picks
        return Overview(
            server_state=self.registry.server.state,
            server_note=self.registry.server.note,
            champion=self.champion(),
            picks=picks.picks,
            picks_since_round=picks.picks_since_round,
            annotators=picks.annotators,
            median_seconds=picks.median_seconds,
            agreement=None,  # shown once pairs are judged by several people
            round_every=every,
            next_round_in=max(0, every - picks.picks_since_round),
            prompts=prompts.count(self.store),
            runs=runs.newest(self.store),
            policies=policies.everyone(self.store),
            statistics=asdict(picks),
        )

    def progress(self, run_id: str) -> list[dict[str, Any]]:
        """Progress lines; of a round those of its parts, each with its `part`. Raises NotFound."""
        run = runs.get(self.store, run_id)
        if run.kind != "round":
            return self._lines(run.run_id)
        parts = runs.children(self.store, run_id)
        return [line | {"part": part.kind} for part in parts for line in self._lines(part.run_id)]

    def start_run(self, kind: str, user_id: str, settings: dict[str, Any] | None = None) -> str:
        return self.loop.request(kind, user_id, settings)  # type: ignore[arg-type]  # checked there

    def cancel_run(self, run_id: str, user_id: str) -> None:
        self.loop.cancel(run_id)

    def promote(self, policy_id: str, user_id: str) -> None:
        self.registry.promote(policy_id, "Promoted by hand.", user_id)
        self.loop.on_champion()

    def rollback(self, user_id: str) -> str:
        policy = self.registry.rollback("Rolled back by hand.", user_id)
        self.loop.on_champion()
        return policy.policy_id

    def retire(self, policy_id: str, user_id: str) -> None:
        self.registry.retire(policy_id, "Retired by hand.", user_id)

    def champion(self) -> Policy | None:
        return policies.champion(self.store)

    def policy(self, policy_id: str) -> Policy:
        return policies.get(self.store, policy_id)

    def sample(
        self, policy_id: str, messages: list[Message], n: int, seed: int, sampling: Sampling
    ) -> list[Completion]:
        """Answers of any published policy. Raises NotFound, GenerationFailed."""
        self.registry.load(policy_id)
        return self.registry.server.client.sample(
            policy_id, messages, n=n, seed=seed, sampling=sampling
        ).completions

    def _lines(self, run_id: str) -> list[dict[str, Any]]:
        return RunFolder(self.store.data_dir / "runs" / run_id).progress()
