"""What researchers see and do: the state of the loop, runs, policies."""

from __future__ import annotations

from pathlib import Path

from annotate.training_room import TrainingRoom
from annotate.views import Overview
from store import policies, prompts, runs, statistics
from store.agreement import agreement
from store.database import Store
from store.rows import Completion, Message, Policy
from train.loop import TrainLoop
from train.policy.client import Sampling
from train.policy.registry import PolicyRegistry


class Research:
    def __init__(
        self,
        store: Store,
        registry: PolicyRegistry,
        loop: TrainLoop,
        config_file: Path | None = None,
    ) -> None:
        self.store, self.registry, self.loop = store, registry, loop
        self.room = TrainingRoom(store, loop, config_file)

    def overview(self) -> Overview:
        picks, new = statistics.picks(self.store), self.loop.new_picks()
        every = self.loop.config.every_picks
        return Overview(
            server_state=self.registry.server.state,
            server_note=self.registry.server.note,
            champion=self.champion(),
            picks=picks.picks,
            picks_since_round=new,
            annotators=picks.annotators,
            median_seconds=picks.median_seconds,
            agreement=agreement(self.store),
            triggers=self.loop.outlook(),
            round_every=every,
            next_round_in=max(0, every - new),
            prompts=prompts.count(self.store),
            runs=runs.newest_and_open(self.store),
            at_work_s=runs.at_work_s(self.store),
            policies=policies.everyone(self.store),
            imported=picks.imported,
        )

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
