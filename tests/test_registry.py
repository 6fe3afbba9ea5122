"""Which adapters vLLM holds and who serves: restarts, foreign servers, hand and gate at once."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest

from store import policies, prompts
from store.database import Store
from store.prompts import NewPrompt
from store.rows import Conflict, PrefloopError
from tests.test_adapters import SHAPES, write
from tests.vllm_stand_in import StandIn, completion, stand_in
from train.base_model import BaseModel
from train.gate import GateConfig
from train.policy.adapters import publish
from train.policy.client import GenerationFailed, Sampling
from train.policy.registry import BASE_FILE, BASE_POLICY, PolicyRegistry
from train.policy.server import PolicyServer
from train.policy.vllm import PolicyConfig
from train.trial import Trial

BASE = BaseModel("starter", Path("no-model"), 3_000_000, fingerprint="weights-1")
METRICS = {"accuracy": 0.9, "rows_eval": 47, "rows_decided": 40}


@pytest.fixture
def vllm() -> Iterator[StandIn]:
    with stand_in() as made:
        yield made


@pytest.fixture
def server(vllm: StandIn, tmp_path: Path) -> Iterator[PolicyServer]:
    made = PolicyServer(PolicyConfig(url=vllm.url, max_rank=8), BASE, tmp_path / "log")
    yield made
    made.stop()


@pytest.fixture
def registry(store: Store, server: PolicyServer) -> PolicyRegistry:
    for number in range(3):
        add_policy(store, f"policy-00000{number}")
    policies.decide(store, BASE_POLICY, "promote", "first")
    return PolicyRegistry(store, server)


def add_policy(store: Store, policy_id: str) -> None:
    folder = store.data_dir / "policies"
    (store.data_dir / "made").mkdir(exist_ok=True)
    made = write(store.data_dir / "made" / policy_id)
    path, sha256 = publish(made, folder, policy_id, SHAPES, max_rank=8)
    policies.add(
        store,
        policy_id,
        parent=None,
        run_id=None,
        base_model="starter",
        adapter_path=f"policies/{path.name}",
        adapter_sha256=sha256,
    )


def up(registry: PolicyRegistry) -> None:
    registry.prepare()
    registry.server.start()
    registry.server.wait_up(20)


def test_server_that_dies_while_adapters_are_loaded_again_keeps_them_all(
    registry: PolicyRegistry, vllm: StandIn
) -> None:
    vllm.hang_up_on_load = 1
    registry.prepare()
    registry.server.start()
    registry.server.wait_up(20)  # the second attempt
    assert set(vllm.adapters) == {BASE_POLICY}
    registry.server.client.probe(BASE_POLICY)
    assert vllm.log.count(("load", BASE_POLICY)) == 2


def test_external_server_with_another_directorys_adapter_gets_ours(
    registry: PolicyRegistry, vllm: StandIn
) -> None:
    vllm.adapters[BASE_POLICY] = "/somebody/elses/policy-000000"
    up(registry)
    ours = registry.store.data_dir / "policies" / BASE_POLICY
    assert vllm.adapters[BASE_POLICY] == str(ours.resolve())


def test_promotion_waits_for_the_server(registry: PolicyRegistry, vllm: StandIn) -> None:
    up(registry)
    registry.promote("policy-000001", "good")
    assert "policy-000001" in vllm.adapters
    registry.server._set("down", "for this test")
    with pytest.raises(Conflict, match="not up"):
        registry.promote("policy-000002", "too early")
    assert policies.get(registry.store, "policy-000001").status == "champion"


def test_verdict_of_the_gate_is_carried_out(registry: PolicyRegistry, vllm: StandIn) -> None:
    up(registry)
    registry.load("policy-000001")
    assert registry.settle("policy-000001", False, "Rejected: too long.") is False
    assert policies.get(registry.store, "policy-000001").status == "rejected"
    assert "policy-000001" not in vllm.adapters
    assert registry.settle("policy-000002", True, "Promoted: fine.", "policy-000000") is True
    assert policies.get(registry.store, "policy-000002").status == "champion"


def test_promotion_by_hand_during_the_trial_stands(registry: PolicyRegistry, vllm: StandIn) -> None:
    up(registry)
    registry.promote("policy-000001", "by hand")
    assert registry.settle("policy-000001", False, "Rejected: too long.") is True
    assert policies.get(registry.store, "policy-000001").status == "champion"
    assert "policy-000001" in vllm.adapters
    assert registry.settle("policy-000001", True, "Promoted.") is True


def test_a_champion_that_was_changed_by_hand_during_the_trial_stays(
    registry: PolicyRegistry, vllm: StandIn
) -> None:
    up(registry)
    registry.promote("policy-000001", "good")
    registry.load("policy-000002")
    registry.rollback("Rolled back by hand.")
    assert registry.settle("policy-000002", True, "Promoted: fine.", "policy-000001") is False
    champion = policies.champion(registry.store)
    assert champion is not None and champion.policy_id == "policy-000000"
    assert policies.get(registry.store, "policy-000002").status == "candidate"
    assert "policy-000002" not in vllm.adapters


def test_retired_for_good_is_not_promoted_again(registry: PolicyRegistry) -> None:
    up(registry)
    registry.retire("policy-000001", "rude")
    with pytest.raises(Conflict, match="retired for good"):
        registry.promote("policy-000001", "again")


def test_damaged_champion_does_not_keep_the_app_from_starting(
    registry: PolicyRegistry, vllm: StandIn
) -> None:
    policies.decide(registry.store, "policy-000001", "promote", "good")
    weights = registry.store.data_dir / "policies/policy-000001/adapter_model.safetensors"
    weights.write_bytes(b"\0" + weights.read_bytes()[1:])
    up(registry)
    champion = policies.champion(registry.store)
    assert champion is not None and champion.policy_id == BASE_POLICY
    assert "have changed" in (champion.reason or "")


@pytest.mark.parametrize(
    ("base", "config"),
    [
        (replace(BASE, fingerprint="weights-2"), PolicyConfig()),
        (BASE, PolicyConfig(quantization="none")),
    ],
)
def test_other_weights_or_another_quantization_are_refused(
    registry: PolicyRegistry, tmp_path: Path, base: BaseModel, config: PolicyConfig
) -> None:
    folder = registry.store.data_dir / "policies"
    (folder / BASE_FILE).write_text(json.dumps(registry._base_facts()))
    registry.prepare()
    other = PolicyServer(config, base, tmp_path / "log")
    with pytest.raises(PrefloopError, match="belongs to the model starter"):
        PolicyRegistry(registry.store, other).prepare()
    other.stop()


def test_name_of_the_base_does_not_matter(registry: PolicyRegistry, tmp_path: Path) -> None:
    folder = registry.store.data_dir / "policies"
    (folder / BASE_FILE).write_text(json.dumps(registry._base_facts()))
    other = PolicyServer(PolicyConfig(), replace(BASE, name="./models/starter"), tmp_path / "log")
    PolicyRegistry(registry.store, other).prepare()
    other.stop()


# --- the trial of a candidate --------------------------------------------------------------------


@pytest.fixture
def trial(registry: PolicyRegistry) -> Trial:
    asked = [NewPrompt([{"role": "user", "content": f"Question {n}?"}]) for n in range(12)]
    prompts.add(registry.store, asked, "test")
    up(registry)
    return Trial(registry.store, registry, GateConfig(), Sampling(max_tokens=99), probes=4)


def judged(trial: Trial, still_wanted: Callable[[], None] = lambda: None) -> Any:
    verdict, against = trial.judge("policy-000001", METRICS, still_wanted)
    assert against == BASE_POLICY
    return verdict


def test_both_answer_the_same_prompts_as_annotators_see_them(trial: Trial, vllm: StandIn) -> None:
    asked: dict[str, list[Any]] = {BASE_POLICY: [], "policy-000001": []}

    def answer(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        asked[body["model"]].append((body["seed"], body["messages"], body["max_tokens"]))
        return 200, completion(body)

    vllm.answers = answer
    verdict = judged(trial)
    assert verdict.promoted and "of 40 held-out picks" in verdict.reason
    in_order = [sorted(asks, key=itemgetter(0)) for asks in asked.values()]  # they run at once
    assert in_order[0] == in_order[1]
    assert len(asked[BASE_POLICY]) == 4
    assert {limit for _, _, limit in asked[BASE_POLICY]} == {99}


def test_prompts_that_nobody_can_answer_are_passed_over(trial: Trial, vllm: StandIn) -> None:
    def answer(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if body["messages"][0]["content"] in {f"Question {n}?" for n in range(6)}:
            return 400, {"error": {"message": "too long"}}
        return 200, completion(body)

    vllm.answers = answer
    assert judged(trial).promoted


def test_a_candidate_that_refuses_what_the_champion_answers_is_rejected(
    trial: Trial, vllm: StandIn
) -> None:
    def answer(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if body["model"] == "policy-000001" and body["seed"] == 2:
            return 400, {"error": {"message": "too long"}}
        return 200, completion(body)

    vllm.answers = answer
    assert not judged(trial).promoted


def test_probes_share_vllms_batch(trial: Trial, vllm: StandIn) -> None:
    together = threading.Barrier(4)  # as many as there are probes: one alone would break it

    def answer(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        together.wait(timeout=30)
        return 200, completion(body)

    vllm.answers = answer
    assert judged(trial).promoted


def test_candidate_without_whole_answers_is_rejected(trial: Trial, vllm: StandIn) -> None:
    def answer(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if body["model"] == "policy-000001":
            return 500, {"error": {"message": "Out of range float values"}}
        return 200, completion(body)

    vllm.answers = answer
    verdict = judged(trial)
    assert not verdict.promoted
    assert "Rejected" in verdict.reason


def test_fault_of_the_server_is_not_the_candidates(trial: Trial, vllm: StandIn) -> None:
    vllm.answers = lambda body: (500, {"error": {"message": "engine is dead"}})
    with pytest.raises(GenerationFailed, match="engine is dead"):
        judged(trial)


def test_cancel_ends_the_trial(trial: Trial) -> None:
    started = time.monotonic()

    def cancelled() -> None:
        raise PrefloopError("Stopped on request.")

    with pytest.raises(PrefloopError, match="Stopped on request"):
        judged(trial, cancelled)
    assert time.monotonic() - started < 30
