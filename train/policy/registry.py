"""Policy versions: which one is champion, and its adapter in vLLM before anybody is sent to it."""

from __future__ import annotations

import json
import logging
import shutil
import sys
import tempfile
import threading
from pathlib import Path

from store import policies
from store.database import Store
from store.rows import Conflict, Policy, PrefloopError
from train.policy.adapters import SHAPES, BadAdapter, publish, read_shapes, verify
from train.policy.server import PolicyServer
from train.process import ChildProcess, import_path

log = logging.getLogger(__name__)
BASE_POLICY = "policy-000000"
BASE_FILE = "base.json"  # in the policies folder: the weights that all adapters there belong to
KEPT_LOADED = 4  # champions of the past that a rollback reaches without loading


class PolicyRegistry:
    """Decisions about versions are made one at a time: each reads the status it acts on."""

    def __init__(self, store: Store, server: PolicyServer) -> None:
        self.store, self.server = store, server
        self._deciding = threading.RLock()

    def prepare(self) -> None:
        """Make policy-000000 at the first start, then register what must be served.

        Raises PrefloopError.
        """
        everyone = policies.everyone(self.store)
        if everyone:
            self._check_base(everyone[-1])
        else:
            self._make_base_policy()
        champion = policies.champion(self.store)
        if champion is None:  # the first start; also one that was cut short
            reason = "The base model, to start from."
            policies.decide(self.store, BASE_POLICY, "promote", reason)
        self._load_champion(champion.policy_id if champion else BASE_POLICY)
        self.load(BASE_POLICY)
        past_champions = [
            policy
            for policy in everyone
            if policy.status == "retired" and not policy.retired_for_good
        ]
        for past in past_champions[:KEPT_LOADED]:
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
        """Load first, then send annotators to it.

        Raises Conflict when it serves already, was retired for good, or vLLM is not up to load it.
        """
        with self._deciding:
            policy = policies.get(self.store, policy_id)
            if policy.status == "champion":
                raise Conflict(f"{policy_id} serves already.", "serves_already", policy=policy_id)
            if policy.retired_for_good:
                raise Conflict(
                    f"{policy_id} was retired for good. Promote another policy.",
                    "retired",
                    policy=policy_id,
                )
            if self.server.started and self.server.state != "up":
                raise Conflict(
                    "The policy server is not up. Promote it once the server is back.",
                    "server_down",
                )
            self.load(policy_id)
            policies.decide(self.store, policy_id, "promote", reason, user_id)

    def rollback(self, reason: str, user_id: str | None = None) -> Policy:
        """Back to the champion before. Raises Conflict when there is none."""
        with self._deciding:
            previous = policies.previous_champion(self.store)
            if previous is None:
                raise Conflict("There is no earlier champion to go back to.", "no_earlier")
            self.load(previous.policy_id)
            policies.decide(self.store, previous.policy_id, "rollback", reason, user_id)
            return policies.get(self.store, previous.policy_id)

    def retire(self, policy_id: str, reason: str, user_id: str | None = None) -> None:
        """Take a version out of use for good. Raises Conflict for the champion and the base."""
        with self._deciding:
            policy = policies.get(self.store, policy_id)
            if policy.status == "champion" or policy_id == BASE_POLICY:
                raise Conflict(
                    f"{policy_id} is needed: promote another policy first; the base always stays."
                )
            policies.decide(self.store, policy_id, "retire", reason, user_id)
            self.server.unload(policy_id)

    def settle(self, policy_id: str, promoted: bool, reason: str, against: str = "") -> bool:
        """Carry out the gate's verdict; True when annotators are sent to the policy now.

        `against`: the champion that it was held against. What a person decided meanwhile stands: a
        candidate promoted by hand serves, and one that was held against a champion that serves no
        more stays a candidate.
        """
        with self._deciding:
            if policies.get(self.store, policy_id).status == "champion":
                return True
            champion = policies.champion(self.store)
            if promoted and champion and champion.policy_id != against:
                self.set_aside(policy_id)
                return False
            if promoted:
                self.promote(policy_id, reason)
            else:
                policies.decide(self.store, policy_id, "reject", reason)
                self.server.unload(policy_id)
            return promoted

    def set_aside(self, policy_id: str) -> None:
        """Unload a candidate until somebody asks for it, unless it was promoted meanwhile."""
        with self._deciding:
            if policies.get(self.store, policy_id).status == "candidate":
                self.server.unload(policy_id)

    def _load_champion(self, policy_id: str) -> None:
        """A champion whose files are damaged must not keep the app from starting."""
        try:
            self.load(policy_id)
        except BadAdapter as error:
            if policy_id == BASE_POLICY:
                raise
            log.error("%s The base serves instead.", error)
            policies.decide(self.store, BASE_POLICY, "rollback", f"{error} The base serves.")

    def _check_base(self, first: Policy) -> None:
        """Raises PrefloopError when the adapters here were trained on other weights.

        Names do not decide: one folder has several, and the starter's weights change with versions.
        """
        file = self.store.data_dir / "policies" / BASE_FILE
        now = self._base_facts()
        # Without the file only the name is known: the journal alone brought the rows back.
        made_for = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        if made_for and made_for == now | {"name": made_for["name"]}:
            return
        if not made_for and first.base_model == now["name"]:
            return
        raise PrefloopError(
            f"This data directory belongs to the model {first.base_model} "
            f"({made_for.get('quantization', 'as it was')}), not {now['name']} "
            f"({now['quantization']}) as it is now. "
            "Start with that --model and policy.quantization, or choose another --data-dir."
        )

    def _base_facts(self) -> dict[str, str]:
        base = self.server.base
        quantization = self.server.config.quantization
        return {"name": base.name, "fingerprint": base.fingerprint, "quantization": quantization}

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
            (folder / BASE_FILE).write_text(json.dumps(self._base_facts()), encoding="utf-8")
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
