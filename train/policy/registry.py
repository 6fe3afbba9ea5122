"""Policy versions: which one is champion, and its adapter in vLLM before anybody is sent to it."""

from __future__ import annotations

import logging
import shutil
import sys
import tempfile
from pathlib import Path

from store import policies
from store.database import Store
from store.rows import Conflict, Policy, PrefloopError
from train.policy.adapters import SHAPES, BadAdapter, publish, read_shapes, verify
from train.policy.server import PolicyServer
from train.process import ChildProcess, import_path

log = logging.getLogger(__name__)
BASE_POLICY = "policy-000000"
KEPT_LOADED = 4  # champions of the past that a rollback reaches without loading


class PolicyRegistry:
    def __init__(self, store: Store, server: PolicyServer) -> None:
        self.store, self.server = store, server

    def prepare(self) -> None:
        """Make policy-000000 at the first start, then register what must be served.

        Raises PrefloopError.
        """
        everyone = policies.everyone(self.store)
        if strangers := {p.base_model for p in everyone} - {self.server.base.name}:
            raise PrefloopError(
                f"This data directory belongs to the model {strangers.pop()}, "
                f"not {self.server.base.name}. "
                "Start with that --model, or choose another --data-dir."
            )
        if not everyone:
            self._make_base_policy()
        champion = policies.champion(self.store)
        if champion is None:  # the first start; also one that was cut short
            reason = "The base model, to start from."
            policies.decide(self.store, BASE_POLICY, "promote", reason)
        self.load(champion.policy_id if champion else BASE_POLICY)
        self.load(BASE_POLICY)
        for past in [policy for policy in everyone if policy.status == "retired"][:KEPT_LOADED]:
            try:
                self.load(past.policy_id)
            except BadAdapter as error:
                log.warning("%s", error)  # it does not serve, so the app can; a rollback says why

    def load(self, policy_id: str) -> None:
        """Have the published adapter in vLLM. Raises NotFound, BadAdapter or AdapterRefused."""
        policy = policies.get(self.store, policy_id)
        folder = self.store.data_dir / policy.adapter_path
        verify(folder, policy.adapter_sha256)
        self.server.load(policy_id, folder)

    def promote(self, policy_id: str, reason: str, user_id: str | None = None) -> None:
        """Load first, then send annotators to it. Raises Conflict when it serves already."""
        policy = policies.get(self.store, policy_id)
        if policy.status == "champion":
            raise Conflict(f"{policy_id} serves already.")
        self.load(policy_id)
        policies.decide(self.store, policy_id, "promote", reason, user_id)

    def rollback(self, reason: str, user_id: str | None = None) -> Policy:
        """Back to the champion before. Raises Conflict when there is none."""
        previous = policies.previous_champion(self.store)
        if previous is None:
            raise Conflict("There is no earlier champion to go back to.")
        self.load(previous.policy_id)
        policies.decide(self.store, previous.policy_id, "rollback", reason, user_id)
        return policies.get(self.store, previous.policy_id)

    def retire(self, policy_id: str, reason: str, user_id: str | None = None) -> None:
        """Take a version out of use for good. Raises Conflict for the champion and the base."""
        policy = policies.get(self.store, policy_id)
        if policy.status == "champion" or policy_id == BASE_POLICY:
            raise Conflict(
                f"{policy_id} is needed: promote another policy first, and the base always stays."
            )
        policies.decide(self.store, policy_id, "retire", reason, user_id)
        self.server.unload(policy_id)

    def _make_base_policy(self) -> None:
        """policy-000000: the base behind an all-zero adapter; torch works in a child process."""
        folder = self.store.data_dir / "policies"
        with tempfile.TemporaryDirectory() as scratch:
            made, rank = Path(scratch) / "identity", self.server.config.max_rank
            arguments = [str(self.server.base.path), str(made), str(rank)]
            log_path = self.store.data_dir / "logs" / "identity.log"
            command = [sys.executable, "-m", "train.policy.identity", *arguments]
            process = ChildProcess(command, log_path, import_path())
            code = process.wait(600)
            process.stop()
            if code != 0:
                end = process.tail(5)
                raise PrefloopError(
                    f"The base adapter could not be made; the end of {log_path}:\n{end}"
                )
            folder.mkdir(parents=True, exist_ok=True)
            # A first start that was cut short may have left a folder without a row.
            shutil.rmtree(folder / BASE_POLICY, ignore_errors=True)
            shutil.copy2(made / SHAPES, folder / SHAPES)
            path, sha256 = publish(made, folder, BASE_POLICY, read_shapes(folder), rank)
        policies.add(
            self.store,
            BASE_POLICY,
            parent=None,
            run_id=None,
            base_model=self.server.base.name,
            adapter_path=f"policies/{path.name}",
            adapter_sha256=sha256,
        )
