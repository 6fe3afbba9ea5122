"""When a round starts, what can be asked of the loop, and how runs end that never get to train.

The policy server is real but never started: nothing here reaches vLLM or loads torch."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from store import judgments, pairs, policies, prompts, runs, users
from store.database import Store
from store.judgments import NewJudgment
from store.prompts import NewPrompt
from store.rows import Completion, Conflict, Invalid, NotFound, PrefloopError, Run, Verdict
from tests.stored import add_picks, add_user
from tests.test_adapters import SHAPES, write
from train.base_model import BaseModel
from train.drift import DriftMeter
from train.gate import GateConfig
from train.loop import MOST_WAITING, TrainLoop
from train.plan_words import MESSAGES
from train.policy.adapters import publish
from train.policy.client import Sampling
from train.policy.registry import BASE_POLICY, PolicyRegistry
from train.policy.server import PolicyServer
from train.policy.vllm import PolicyConfig
from train.run_config import TrainConfig
from train.run_folder import RunFolder
from train.runs import RunFailed, Trainer, reconcile
from train.trial import Trial
from train.triggers import LoopConfig

SOON_S = 20.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PolicyServer]:
    base = BaseModel("starter", tmp_path / "no-model", 3_000_000)
    made = PolicyServer(PolicyConfig(max_rank=8), base, tmp_path / "vllm.log")
    yield made
    made.stop()


@pytest.fixture
def trainer(store: Store, server: PolicyServer) -> Trainer:
    return Trainer(store, server, TrainConfig())


@pytest.fixture
def loop(store: Store, server: PolicyServer, trainer: Trainer) -> Iterator[TrainLoop]:
    registry = PolicyRegistry(store, server)
    off = LoopConfig(every_picks=0)
    trial = Trial(store, registry, GateConfig(), Sampling(), off.probes)
    made = TrainLoop(store, registry, trainer, trial, off, on_champion=lambda: None)
    yield made
    made.stop()


def pick(
    store: Store, count: int, verdict: Verdict = "left", texts: tuple[str, str] = ("a", "b")
) -> None:
    """Picks of one annotator on sampled pairs of the base policy."""
    user = users.ensure(store, "ann", "annotator", "human")
    add_base(store)
    prompts.add(
        store, [NewPrompt([{"role": "user", "content": f"{i}?"}]) for i in range(count)], ""
    )
    for prompt in prompts.search(store, None, count):
        a, b = (Completion(f"{text} {prompt.prompt_id}", policy_id=BASE_POLICY) for text in texts)
        pairs.add(store, prompt.prompt_id, [], a, b)
        leased = pairs.lease_next(
            store, user.user_id, lambda n: "ab"[:n], timedelta(minutes=5), ["everything"]
        )
        assert leased is not None
        judgments.judge(store, user, NewJudgment(str(uuid.uuid4()), leased.pair_id, verdict))


def add_base(store: Store, decided: bool = True) -> None:
    if policies.champion(store) is None:
        folder = store.data_dir / "policies"
        source = write(store.data_dir / "identity")
        path, sha256 = publish(source, folder, BASE_POLICY, SHAPES, 4)
        policies.add(
            store,
            BASE_POLICY,
            parent=None,
            run_id=None,
            base_model="starter",
            adapter_path=f"policies/{path.name}",
            adapter_sha256=sha256,
        )
        if decided:
            policies.decide(store, BASE_POLICY, "promote", "To start from.")


def ended(store: Store, run_id: str) -> Run:
    until(lambda: runs.get(store, run_id).status in runs.FINAL)
    return runs.get(store, run_id)


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON_S
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


# --- when ----------------------------------------------------------------------------------------


def test_new_picks_start_one_round_and_not_a_second(
    store: Store, server: PolicyServer, trainer: Trainer
) -> None:
    pick(store, 3)
    registry = PolicyRegistry(store, server)
    config = LoopConfig(every_picks=3)
    trial = Trial(store, registry, GateConfig(), Sampling(), config.probes)
    loop = TrainLoop(store, registry, trainer, trial, config, on_champion=lambda: None)
    loop.start()
    until(lambda: bool(runs.newest(store)))
    ended(store, "run-000001")
    time.sleep(0.3)  # time for a second one, which must not come
    loop.stop()
    (run,) = runs.newest(store)
    assert (run.kind, run.status) == ("round", "failed")
    assert run.config["trigger"] == "picks"


@pytest.mark.parametrize(
    ("trigger", "config"),
    [
        ("interval", LoopConfig(every_picks=0, every_minutes=90)),
        ("cron", LoopConfig(every_picks=0, cron="* * * * *")),
        ("drift", LoopConfig(every_picks=0, drift_below=0.6, drift_picks=50)),
    ],
)
def test_time_or_drift_starts_one_round(
    loop: TrainLoop, store: Store, trigger: str, config: LoopConfig
) -> None:
    """In an app that runs for two hours and has a new pick; of drift there is a measurement."""
    pick(store, 1)
    model = runs.add(store, "rm", {"settings": {}}, None)
    runs.mark(store, model, "done")
    measured = {"accuracy": 0.5, "n": 40, "at": 1, "round": "", "reward_model": model}
    loop.drift.folder.mkdir()
    (loop.drift.folder / "measured.json").write_text(json.dumps(measured))
    loop.drift = DriftMeter(store, loop.trainer)
    loop.config = config
    loop._started = loop._checked = datetime.now(UTC) - timedelta(hours=2)
    loop.start()
    until(lambda: runs.newest(store)[0].kind == "round")
    run = ended(store, runs.newest(store)[0].run_id)
    time.sleep(0.3)  # time for a second one, which must not come
    assert (run.config["trigger"], run.status) == (trigger, "failed")
    assert str(run.reason).startswith("Training needs at least ")
    assert [one.kind for one in runs.newest(store)] == ["round", "rm"]


def test_picks_that_are_not_trained_on_start_no_round(loop: TrainLoop, store: Store) -> None:
    add_base(store)
    loop.config = LoopConfig(every_picks=3)
    loop.trainer.config = TrainConfig(sources=("human",))
    add_picks(store, add_user(store, "bot", source="simulated"), 3)
    assert (loop.new_picks(), loop.outlook()[0].message) == (0, "3 more picks.")
    add_picks(store, add_user(store, "ann"), 1)
    assert (loop.new_picks(), loop.outlook()[0].message) == (1, "2 more picks.")


# --- asking --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "settings", "sentence"),
    [
        ("ppo", {}, "Unknown kind of run 'ppo': choose sft, rm, dpo, kto, round."),
        ("dpo", {"bta": 0.2}, "Unknown setting 'bta': choose learning_rate, epochs, schedule,"),
        ("dpo", {"epochs": "many"}, "epochs must be a value of type int, not 'many'."),
        ("dpo", {"rm.epochs": 1}, "Unknown setting 'rm.epochs'"),
        ("round", {"beta": 0.2}, "Unknown setting 'beta': write rm.NAME=VALUE or dpo.NAME=VALUE."),
        ("round", {"rm.beta": 0.2}, "Unknown setting 'beta'"),
        ("round", {"dpo.rank": 16}, "rank 16 is above policy.max_rank (8)"),
    ],
)
def test_a_request_that_cannot_be_carried_out(
    loop: TrainLoop, store: Store, kind: Any, settings: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(Invalid) as caught:
        loop.request(kind, None, settings)
    assert sentence in str(caught.value)
    assert runs.newest(store) == []


def test_the_queue_is_first_in_first_out_and_has_an_end(loop: TrainLoop, store: Store) -> None:
    asked = [loop.request(kind, None) for kind in ("rm", "dpo", "rm")]
    assert [run.run_id for run in loop.waiting()] == asked
    loop.cancel(asked[0])
    assert [run.run_id for run in loop.waiting()] == asked[1:]
    for _ in range(MOST_WAITING - 2):
        loop.request("sft", None)
    with pytest.raises(Conflict, match="20 runs are waiting already"):
        loop.request("kto", None)


def test_a_run_that_waits_again_goes_to_the_end_of_the_queue(loop: TrainLoop, store: Store) -> None:
    first, second = loop.request("rm", None), loop.request("dpo", None)
    loop.pause(first)
    assert runs.get(store, first).status == "paused"
    assert [run.run_id for run in loop.waiting()] == [second]
    with pytest.raises(Conflict, match=f"{first} is paused, so it cannot be paused"):
        loop.pause(first)
    loop.resume(first)
    assert [run.run_id for run in loop.waiting()] == [second, first]


def test_a_command_leaves_alone_what_the_app_had_queued(loop: TrainLoop, store: Store) -> None:
    queued = loop.request("round", None)
    loop.start(resume=False)
    own = loop.request("rm", None)
    ended(store, own)
    assert runs.get(store, queued).status == "queued"


def test_a_run_whose_end_could_not_be_stored_is_not_trained_again(
    loop: TrainLoop, store: Store
) -> None:
    run_id = loop.request("round", None)
    part = runs.add(store, "rm", {"settings": {}}, None, parent=run_id)
    for left in (run_id, part):
        runs.mark(store, left, "running")
    loop._thread.start()  # start() would reconcile it; this is the same loop going on
    for run in (ended(store, run_id), runs.get(store, part)):
        assert (run.status, run.reason) == (
            "failed",
            "Its end could not be stored. Resume it, or start it again.",
        )


def test_a_queued_run_is_cancelled_at_once(loop: TrainLoop, store: Store) -> None:
    run_id = loop.request("round", None)
    loop.cancel(run_id)
    run = runs.get(store, run_id)
    assert (run.status, run.reason) == ("cancelled", "Cancelled before it started.")
    with pytest.raises(Conflict, match=f"{run_id} is over already"):
        loop.cancel(run_id)
    with pytest.raises(NotFound):
        loop.cancel("run-000099")


# --- ending --------------------------------------------------------------------------------------


def test_a_run_without_enough_picks_fails_with_the_sentence_and_the_loop_goes_on(
    loop: TrainLoop, store: Store
) -> None:
    loop.start()
    for kind in ("round", "rm"):
        run = ended(store, loop.request(kind, None))
        assert run.status == "failed"
        assert run.reason == "There are no picks to train on. Annotate some pairs first."


@pytest.mark.parametrize(
    ("kind", "picks", "reason"),
    [
        ("round", {"verdict": "tie"}, "all_tie"),
        ("dpo", {"verdict": "both_bad"}, "all_both_bad"),
        ("rm", {"texts": ("same", "same")}, "all_identical"),
        ("kto", {"verdict": "both_bad"}, "only_bad"),
    ],
)
def test_picks_that_teach_nothing_fail_the_run_with_one_sentence(
    loop: TrainLoop, store: Store, kind: Any, picks: dict[str, Any], reason: str
) -> None:
    pick(store, 24, **picks)
    loop.start()
    run = ended(store, loop.request(kind, None))
    assert run.status == "failed"
    assert run.reason == MESSAGES[reason].format(answers=36)
    assert [policy.policy_id for policy in policies.everyone(store)] == [BASE_POLICY]


def test_a_fault_of_ours_fails_the_run_and_the_loop_goes_on(loop: TrainLoop, store: Store) -> None:
    pick(store, 40)
    run_id = loop.request("round", None)
    blocked = store.data_dir / "runs" / run_id
    blocked.parent.mkdir(exist_ok=True)
    blocked.write_text("a file where the folder should be")
    loop.start()
    run = ended(store, run_id)
    assert run.status == "failed"
    assert run.reason is not None and run.reason.startswith("Unexpected ")
    blocked.unlink()
    blocked.mkdir()
    loop.cancel(loop.request("round", None))  # it still listens


def test_a_restart_marks_what_was_running(store: Store) -> None:
    lost = runs.add(store, "round", {}, None)
    runs.mark(store, lost, "running")
    part = runs.add(store, "dpo", {}, None, parent=lost)
    runs.mark(store, part, "running")
    unborn = runs.add(store, "dpo", {}, None, parent=lost)  # the app ended before it was started
    waiting = runs.add(store, "rm", {}, None)
    folder = RunFolder(store.data_dir / "runs" / part)
    folder.freeze({})
    assert reconcile(store) == [lost, part, unborn]
    for run_id in (lost, part, unborn):
        run = runs.get(store, run_id)
        assert run.status == "failed"
        assert run.reason == "The app ended while it ran. Resume it, or start it again."
    assert folder.ending() == ("FAILED", "The app ended while it ran.")
    assert runs.get(store, waiting).status == "queued"
    assert reconcile(store) == []


def test_a_stopped_app_leaves_its_mark_in_the_run_folder(trainer: Trainer, store: Store) -> None:
    pick(store, 40)
    run = runs.get(store, runs.add(store, "dpo", {"settings": {"beta": 0.2}}, None))
    config = trainer.prepare(run)["dpo"]
    trainer.stopping.set()
    with pytest.raises(RunFailed, match="The app was stopped while it ran"):
        trainer.train(run, config)
    folder = trainer.folder(run.run_id)
    told = "The app was stopped while it ran. Resume it, or start it again."
    assert folder.ending() == ("FAILED", told)
    assert folder.config() == config
    assert config["settings"]["rank"] == 8  # what policy.max_rank allows
    assert (config["quantization"], config["precision"]) == ("nf4", "nf4")
    assert config["command"] == "prefloop train dpo --set beta=0.2"
    assert config["data"]["rows_train"] == 30 and config["versions"]["trl"]
    assert config["plan"]["sentence"] == "40 picks: 30 pairs, 10 held out"


# --- policies ------------------------------------------------------------------------------------


def test_a_first_start_that_was_cut_short_still_gets_its_champion(
    store: Store, server: PolicyServer
) -> None:
    add_base(store, decided=False)
    assert policies.champion(store) is None
    PolicyRegistry(store, server).prepare()
    champion = policies.champion(store)
    assert champion is not None and champion.policy_id == BASE_POLICY


def test_another_model_is_refused(store: Store, tmp_path: Path) -> None:
    add_base(store)
    other = PolicyServer(PolicyConfig(), BaseModel("org/other", tmp_path, 1), tmp_path / "log")
    with pytest.raises(PrefloopError, match="not org/other"):
        PolicyRegistry(store, other).prepare()
    other.stop()


def test_the_champion_and_the_base_stay(store: Store, server: PolicyServer) -> None:
    add_base(store)
    registry = PolicyRegistry(store, server)
    with pytest.raises(Conflict, match="policy-000000 is needed"):
        registry.retire(BASE_POLICY, "no")
    with pytest.raises(Conflict, match="policy-000000 serves already"):
        registry.promote(BASE_POLICY, "again")
    with pytest.raises(Conflict, match="no earlier champion"):
        registry.rollback("back")
