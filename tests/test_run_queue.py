"""Runs that pause, go on, are repeated or were lost: what the loop makes of their folders.

Nothing here trains: a run's folder is put into the state in which its process would leave it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from duckdb import IOException

from store import policies, runs
from store.database import Store
from store.rows import Conflict, Invalid, Run
from tests.full_disk import room_for
from tests.stored import add_imports, add_picks, add_user
from tests.test_adapters import SHAPES, write
from tests.test_loop import add_base, ended, until
from train.base_model import BaseModel
from train.gate import GateConfig
from train.loop import TrainLoop
from train.policy.adapters import SHAPES as SHAPES_FILE
from train.policy.client import Sampling
from train.policy.registry import PolicyRegistry
from train.policy.server import PolicyServer
from train.policy.vllm import PolicyConfig
from train.rounds import DISK_FULL, how_it_ends
from train.run_config import TrainConfig
from train.run_folder import RunFolder
from train.runs import RunCancelled, RunPaused, Trainer, reconcile
from train.trial import Trial
from train.triggers import LoopConfig

METRICS = {"accuracy": 0.75, "rows_train": 18, "rows_eval": 6}


@pytest.fixture
def loop(store: Store, tmp_path: Path) -> Iterator[TrainLoop]:
    """Not started; 24 picks are there."""
    add_base(store)
    add_imports(store, 24)
    base = BaseModel("starter", tmp_path / "no-model", 3_000_000)
    server = PolicyServer(PolicyConfig(max_rank=8), base, tmp_path / "vllm.log")
    registry = PolicyRegistry(store, server)
    trial = Trial(store, registry, GateConfig(), Sampling(), 4)
    trainer = Trainer(store, server, TrainConfig())
    made = TrainLoop(store, registry, trainer, trial, LoopConfig(every_picks=0), lambda: None)
    yield made
    made.stop()
    server.stop()


def begun(loop: TrainLoop, kind: Any = "dpo", **settings: Any) -> Run:
    """A run at work, with its data frozen."""
    run_id = loop.request(kind, None, settings)
    runs.mark(loop.store, run_id, "running")
    run = runs.get(loop.store, run_id)
    loop.trainer.prepare(run)
    return run


def add_checkpoint(folder: RunFolder, step: int) -> None:
    checkpoint = folder.checkpoints / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    (checkpoint / "trainer_state.json").write_text('{"global_step": 1}')


def status(loop: TrainLoop, run_id: str) -> str:
    return runs.get(loop.store, run_id).status


# --- what is asked of a run -----------------------------------------------------------------------


def test_a_running_run_is_asked_and_a_waiting_one_acted_on(loop: TrainLoop) -> None:
    run = begun(loop)
    loop.trainer.check(run)
    loop.pause(run.run_id)
    assert status(loop, run.run_id) == "running"  # until its process has ended
    with pytest.raises(RunPaused, match="Paused on request"):
        loop.trainer.check(run)
    loop.trainer.check(run, pausable=False)
    loop.cancel(run.run_id)
    loop.pause(run.run_id)  # takes nothing back
    with pytest.raises(RunCancelled):
        loop.trainer.check(run, pausable=False)

    waiting = loop.request("rm", None)
    loop.pause(waiting)
    assert status(loop, waiting) == "paused"
    loop.cancel(waiting)
    ended = runs.get(loop.store, waiting)
    assert (ended.status, ended.reason) == ("cancelled", "Cancelled while it was paused.")


@pytest.mark.parametrize(
    ("how", "error", "ending"),
    [
        ("cancel", RunCancelled, ("CANCELLED", "Stopped on request.")),
        ("pause", RunPaused, ("PAUSED", "Paused on request.")),
    ],
)
def test_what_was_asked_while_vllm_made_room_starts_no_process(
    loop: TrainLoop, how: Any, error: type[Exception], ending: tuple[str, str]
) -> None:
    run = begun(loop)
    loop.trainer.ask_to_end(run.run_id, how)
    folder = loop.trainer.folder(run.run_id)
    with pytest.raises(error):
        loop.trainer.train(run, folder.config())
    assert not folder.log.exists() and folder.ending() == ending


def test_what_was_asked_before_a_resume_is_forgotten(loop: TrainLoop) -> None:
    run = begun(loop)
    loop.pause(run.run_id)
    runs.mark(loop.store, run.run_id, "paused", reason="Paused after step 7.")
    loop.resume(run.run_id)
    loop.trainer.check(run)
    runs.mark(loop.store, run.run_id, "done")
    assert not runs.get(loop.store, run.run_id).reason


def test_a_part_is_steered_as_its_round(loop: TrainLoop) -> None:
    run = begun(loop, "round")
    part = runs.add(loop.store, "rm", {"settings": {}}, None, parent=run.run_id)
    runs.mark(loop.store, part, "running")
    loop.pause(part)
    with pytest.raises(RunPaused):
        loop.trainer.check(run)
    with pytest.raises(RunPaused):
        loop.trainer.check(runs.get(loop.store, part))
    runs.mark(loop.store, part, "paused")
    runs.mark(loop.store, run.run_id, "paused")
    assert not loop.can_resume(runs.get(loop.store, part))
    loop.cancel(part)
    assert status(loop, part) == status(loop, run.run_id) == "cancelled"


@pytest.mark.parametrize(
    ("how", "frozen", "checkpoint", "resumable"),
    [
        ("paused", True, True, True),
        ("paused", False, False, True),  # in the queue
        ("failed", True, False, True),  # before its first checkpoint: it starts over
        ("failed", False, False, False),  # its picks did not suffice
        ("cancelled", True, True, True),
        ("cancelled", True, False, False),
        ("done", True, False, False),
        ("running", True, False, False),
        ("queued", False, False, False),
    ],
)
def test_what_can_go_on(
    loop: TrainLoop, how: Any, frozen: bool, checkpoint: bool, resumable: bool
) -> None:
    run_id = begun(loop).run_id if frozen else loop.request("dpo", None)
    if checkpoint:
        add_checkpoint(loop.trainer.folder(run_id), 3)
    runs.mark(loop.store, run_id, how)
    assert loop.can_resume(runs.get(loop.store, run_id)) is resumable
    if resumable:
        loop.resume(run_id)
        assert status(loop, run_id) == "queued"
    else:
        with pytest.raises(Conflict, match=f"{run_id} is {how} and has nothing to go on from"):
            loop.resume(run_id)


def test_a_lost_run_can_go_on_with_the_data_and_settings_that_it_had(loop: TrainLoop) -> None:
    run = begun(loop, beta=0.3)
    folder = loop.trainer.folder(run.run_id)
    before = (folder.path / "config.json").read_text()
    assert reconcile(loop.store) == [run.run_id]
    assert folder.ending() == ("FAILED", "The app ended while it ran.")
    add_imports(loop.store, 30)  # picks that came later are not part of it
    loop.resume(run.run_id)
    config = loop.trainer.prepare(runs.get(loop.store, run.run_id))["dpo"]
    assert (folder.path / "config.json").read_text() == before
    assert config["settings"]["beta"] == 0.3 and config["data"]["rows_train"] == 18
    assert folder.ending() is None


# --- parts that are done --------------------------------------------------------------------------


def finish(loop: TrainLoop, run_id: str, metrics: dict[str, Any] = METRICS) -> None:
    """As the script does it, with an adapter that can be published."""
    folder = loop.trainer.folder(run_id)
    write(folder.adapter)
    folder.finish(metrics)
    (loop.store.data_dir / "policies" / SHAPES_FILE).write_text(json.dumps(SHAPES))


@pytest.mark.parametrize("kind", ["dpo", "sft", "kto"])
def test_a_run_that_ended_unnoticed_is_not_trained_again(loop: TrainLoop, kind: Any) -> None:
    run = begun(loop, kind)
    finish(loop, run.run_id)
    reconcile(loop.store)  # the app was killed before it had seen DONE
    loop.resume(run.run_id)
    loop.start()
    done = ended(loop.store, run.run_id)
    assert (done.status, done.policy_id) == ("done", "policy-000001")
    assert done.metrics["precision_gap"] == {"missing": "The policy server is not up."}
    assert done.metrics["accuracy"] == 0.75 and done.metrics["picks"]["left"] == 24
    assert policies.get(loop.store, "policy-000001").status == "candidate"


def test_a_round_goes_on_with_the_part_that_is_unfinished(loop: TrainLoop) -> None:
    run = begun(loop, "round", **{"dpo.beta": 0.3})
    configs = loop.trainer.prepare(run)
    parts = [
        runs.add(loop.store, part, {"settings": {}}, None, parent=run.run_id)
        for part in ("rm", "dpo")
    ]
    for part, config in zip(parts, configs.values(), strict=True):
        loop.trainer.folder(part).freeze(config | {"run_id": part})
        finish(loop, part)
    runs.mark(loop.store, parts[0], "done", metrics=METRICS)
    runs.mark(loop.store, parts[1], "running")
    reconcile(loop.store)
    loop.resume(run.run_id)
    loop.start()
    # Both parts are done without a process; what is left waits for a policy server.
    until(lambda: policies.everyone(loop.store)[0].policy_id == "policy-000001")
    loop.cancel(run.run_id)
    cut = ended(loop.store, run.run_id)
    assert cut.status == "cancelled"
    assert [part.status for part in runs.children(loop.store, run.run_id)] == ["done", "done"]
    rejected = policies.get(loop.store, "policy-000001")
    assert (rejected.status, rejected.reason) == ("rejected", "Not judged: Stopped on request.")


def test_an_adapter_of_another_base_is_never_published(loop: TrainLoop) -> None:
    run = begun(loop)
    finish(loop, run.run_id)
    other = {name: [60, 40] for name in SHAPES}
    (loop.store.data_dir / "policies" / SHAPES_FILE).write_text(json.dumps(other))
    reconcile(loop.store)
    loop.resume(run.run_id)
    loop.start()
    failed = ended(loop.store, run.run_id)
    assert failed.status == "failed"
    assert str(failed.reason).startswith("The adapter is not valid: ")
    assert [policy.policy_id for policy in policies.everyone(loop.store)] == ["policy-000000"]


def test_a_disk_that_fills_up_while_a_policy_is_published(loop: TrainLoop) -> None:
    """Once there is room the run goes on, which is only to publish."""
    run = begun(loop)
    finish(loop, run.run_id)
    config = loop.trainer.folder(run.run_id).adapter / "adapter_config.json"
    config.write_text(config.read_text() + " " * (24 << 20))  # more than the store's own files
    reconcile(loop.store)
    loop.resume(run.run_id)
    with room_for(16 << 20):
        loop.start()
        failed = ended(loop.store, run.run_id)
    assert (failed.status, failed.reason) == ("failed", DISK_FULL)
    folder = loop.store.data_dir / "policies"
    assert not [path for path in folder.iterdir() if "policy-000001" in path.name]
    loop.resume(run.run_id)
    done = ended(loop.store, run.run_id)
    assert (done.status, done.policy_id) == ("done", "policy-000001")


def test_a_candidate_from_before_the_app_was_killed_is_taken_up(loop: TrainLoop) -> None:
    """Killed while it was judged; a kill between the copy and its row leaves a folder alone."""
    run = begun(loop)
    finish(loop, run.run_id)
    (loop.store.data_dir / "policies" / "policy-000001").mkdir()
    assert loop.rounds._publish(run, run.run_id) == "policy-000002"
    reconcile(loop.store)
    loop.resume(run.run_id)
    loop.start()
    assert ended(loop.store, run.run_id).policy_id == "policy-000002"
    assert len(policies.everyone(loop.store)) == 2  # with the base


def test_a_disk_that_is_full_before_the_data_is_frozen(loop: TrainLoop) -> None:
    """There is nothing to go on from then: the run is started again."""
    run_id = loop.request("dpo", None)
    run = runs.get(loop.store, run_id)
    with room_for(3000), pytest.raises(IOException) as caught:  # the store's own type
        loop.trainer.prepare(run)
    assert how_it_ends(caught.value) == ("failed", DISK_FULL)
    assert list(loop.trainer.prepare(run)) == ["dpo"]  # the half file is no hindrance


def test_a_paused_round_keeps_other_rounds_from_starting(loop: TrainLoop) -> None:
    paused = loop.request("round", None)
    loop.pause(paused)
    loop.config = LoopConfig(every_picks=1)
    add_picks(loop.store, add_user(loop.store, "someone"), 2)
    loop.start()
    time.sleep(0.3)  # time for a round, which must not come
    assert [run.run_id for run in runs.newest(loop.store)] == [paused]
    assert loop.outlook()[0].message == f"Waits: {paused} is paused."


# --- once more ------------------------------------------------------------------------------------


def test_a_repeated_run_has_the_same_picks_and_settings(loop: TrainLoop) -> None:
    run = begun(loop, learning_rate=3e-4, seed=11)
    runs.mark(loop.store, run.run_id, "done")
    add_imports(loop.store, 30)
    again = runs.get(loop.store, loop.repeat(run.run_id, None))
    before = loop.trainer.folder(run.run_id)
    config = loop.trainer.prepare(again)["dpo"]
    assert config["repeat_of"] == run.run_id and config["versions_differ"] == {}
    assert config["machine_differs"] == {}
    for key in ("settings", "plan", "rule", "data", "seed", "base", "precision", "command"):
        assert config[key] == before.config()[key], key
    for split in ("train", "eval"):
        name = f"{split}.parquet"
        first, second = (before.data / name, loop.trainer.folder(again.run_id).data / name)
        assert first.samefile(second)
    shared = loop.store.read("select sha256, rows_train from snapshot order by seq")
    assert len(shared) == 2 and shared[0] == shared[1]


def test_a_part_of_a_round_is_repeated_alone(loop: TrainLoop) -> None:
    run = begun(loop, "round")
    part = runs.add(loop.store, "rm", {"settings": {}}, None, parent=run.run_id)
    folder = loop.trainer.folder(part)
    loop.trainer.configs.share_data(run.run_id, part)
    folder.freeze(loop.trainer.folder(run.run_id).config()["parts"]["rm"] | {"run_id": part})
    runs.mark(loop.store, part, "done")
    again = runs.get(loop.store, loop.repeat(part, None))
    assert list(loop.trainer.prepare(again)) == ["rm"]
    shared = loop.store.read("select run_id, sha256 from snapshot order by seq")
    assert [row["run_id"] for row in shared] == [run.run_id, again.run_id]


def test_a_repeated_round_has_its_parts(loop: TrainLoop) -> None:
    run = begun(loop, "round", **{"rm.epochs": 1})
    began = run.changed
    runs.mark(loop.store, run.run_id, "done")
    again = runs.get(loop.store, loop.repeat(run.run_id, None))
    runs.mark(loop.store, again.run_id, "running")
    configs = loop.trainer.prepare(again)
    assert list(configs) == ["rm", "dpo"]
    assert configs["rm"]["settings"]["epochs"] == 1
    assert {config["run_id"] for config in configs.values()} == {again.run_id}
    assert runs.last_round(loop.store) == began  # it learns from no new picks


def test_what_cannot_be_repeated(loop: TrainLoop) -> None:
    never = loop.request("dpo", None)
    loop.cancel(never)
    with pytest.raises(Conflict, match=f"{never} never began"):
        loop.repeat(never, None)
    run = begun(loop)
    runs.mark(loop.store, run.run_id, "done")
    again = runs.get(loop.store, loop.repeat(run.run_id, None))
    data = loop.trainer.folder(run.run_id).data / "train.parquet"
    data.unlink()
    data.write_bytes(b"other")
    with pytest.raises(Invalid, match=f"The frozen picks of {run.run_id} have changed"):
        loop.trainer.prepare(again)


def test_other_versions_are_named(loop: TrainLoop) -> None:
    run = begun(loop)
    folder = loop.trainer.folder(run.run_id)
    config = folder.config()
    folder.freeze(config | {"versions": config["versions"] | {"trl": "0.0.1"}})
    runs.mark(loop.store, run.run_id, "done")
    again = runs.get(loop.store, loop.repeat(run.run_id, None))
    differ = loop.trainer.prepare(again)["dpo"]["versions_differ"]
    assert differ == {"trl": ["0.0.1", config["versions"]["trl"]]}


def test_another_machine_is_named(loop: TrainLoop) -> None:
    run = begun(loop)
    folder = loop.trainer.folder(run.run_id)
    folder.freeze(folder.config() | {"launcher": "ray", "processes": 4, "device": "0,1"})
    runs.mark(loop.store, run.run_id, "done")
    again = runs.get(loop.store, loop.repeat(run.run_id, None))
    config = loop.trainer.prepare(again)["dpo"]
    assert config["versions_differ"] == {}
    now = {"launcher": "local", "processes": 1, "device": config["device"]}
    assert config["machine_differs"] == {
        "device": ["0,1", now["device"]],
        "launcher": ["ray", "local"],
        "processes": [4, 1],
    }
    assert config | now == config  # it runs as this machine does
