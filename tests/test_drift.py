"""Which picks are fresh, and how long a measurement of drift counts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from store import runs, snapshots
from store.database import Store
from store.fresh import write_fresh
from store.rows import Run, Source, User
from tests.full_disk import room_for
from tests.stored import add_imports, add_pair, add_picks, add_policy, add_user, pick
from train.base_model import BaseModel
from train.drift import DriftMeter
from train.policy.server import PolicyServer
from train.policy.vllm import PolicyConfig
from train.run_config import TrainConfig
from train.runs import Trainer
from train.triggers import Drift

SOURCES: tuple[Source, ...] = ("human", "simulated", "import")


@pytest.fixture
def ann(store: Store) -> User:
    add_policy(store)
    return add_user(store, "ann")


@pytest.fixture
def meter(store: Store, tmp_path: Path) -> Iterator[DriftMeter]:
    base = BaseModel("starter", tmp_path, 1)
    server = PolicyServer(PolicyConfig(), base, tmp_path / "vllm.log")
    yield DriftMeter(store, Trainer(store, server, TrainConfig()))
    server.stop()


def reward_model(store: Store, parent: str | None = None) -> Run:
    """One that was asked for, and has seen nothing yet."""
    return runs.get(store, runs.add(store, "rm", {"settings": {}}, None, parent=parent))


def finished(store: Store) -> Run:
    model = reward_model(store)
    runs.mark(store, model.run_id, "done")
    return model


def restarted(meter: DriftMeter, text: str) -> DriftMeter:
    """After a restart of the app, with this as the last measurement."""
    meter.folder.mkdir(parents=True, exist_ok=True)
    (meter.folder / "measured.json").write_text(text)
    return DriftMeter(meter.store, meter.trainer)


def measured(model: Run) -> str:
    """What the meter keeps, before any round."""
    return json.dumps(
        {"accuracy": 0.5, "n": 40, "at": 50, "round": "", "reward_model": model.run_id}
    )


def fresh(store: Store, file: Path, model: Run | None = None) -> set[str]:
    written = write_fresh(store, file, SOURCES, model or reward_model(store))
    rows = store.read("select judgment_id from read_parquet($file)", {"file": str(file)})
    assert written == len(rows)
    return {row["judgment_id"] for row in rows}


def test_fresh_are_peoples_picks_after_the_last_round(
    store: Store, ann: User, tmp_path: Path
) -> None:
    file = tmp_path / "drift" / "picks.parquet"
    first = add_picks(store, ann, 2)
    add_imports(store, 3)
    assert fresh(store, file) == set(first)
    round_id = runs.add(store, "round", {"settings": {}}, None)
    assert fresh(store, file) == set(first)  # it waits
    runs.mark(store, round_id, "running")
    assert fresh(store, file) == set()
    later = add_picks(store, ann, 2, "tie")
    runs.add(store, "dpo", {"settings": {}}, None)
    again = runs.add(store, "round", {"settings": {}, "repeat_of": round_id}, None)
    runs.mark(store, again, "running")
    assert fresh(store, file) == set(later)  # a repeated round learned from none of them


def test_a_second_pick_about_a_pair_that_was_trained_on_is_not_fresh(
    store: Store, ann: User, tmp_path: Path
) -> None:
    model, bob = reward_model(store), add_user(store, "bob")
    add_pair(store, wanted=2)
    pick(store, ann)
    snapshots.freeze(store, model.run_id, tmp_path / "data", SOURCES)
    pick(store, bob)
    file = tmp_path / "picks.parquet"
    assert fresh(store, file, model) == set()
    assert len(fresh(store, file)) == 2, "of a model that has seen neither"


def test_what_the_reward_model_was_trained_on_is_not_fresh(
    store: Store, ann: User, tmp_path: Path
) -> None:
    """Also picks that came while its run waited; a part of a round has the round's snapshot."""
    model = reward_model(store)
    add_picks(store, ann, 2)
    snapshots.freeze(store, model.run_id, tmp_path / "data", SOURCES)
    later = add_picks(store, ann, 2)
    assert fresh(store, tmp_path / "picks.parquet", model) == set(later)
    round_id = runs.add(store, "round", {"settings": {}}, None)
    part = reward_model(store, round_id)
    add_picks(store, ann, 1)
    snapshots.freeze(store, round_id, tmp_path / "more", SOURCES)
    last = add_picks(store, ann, 1)
    assert fresh(store, tmp_path / "picks.parquet", part) == set(last)


def test_a_measurement_counts_until_the_next_round(store: Store, meter: DriftMeter) -> None:
    assert meter.measured() is None
    meter = restarted(meter, measured(finished(store)))
    assert meter.measured() == Drift(0.5, 40, 50)
    runs.mark(store, runs.add(store, "round", {"settings": {}}, None), "running")
    assert meter.measured() is None
    assert restarted(meter, "{cut sho").measured() is None


def test_a_measurement_counts_until_the_next_reward_model(store: Store, meter: DriftMeter) -> None:
    meter = restarted(meter, measured(finished(store)))
    newer = reward_model(store)
    assert meter.measured() == Drift(0.5, 40, 50), "it is not trained yet"
    runs.mark(store, newer.run_id, "done")
    assert meter.measured() is None


def test_without_fresh_picks_no_model_is_loaded(store: Store, meter: DriftMeter) -> None:
    """As after a reward model that was trained on all of them."""
    folder = meter.trainer.folder(finished(store).run_id)
    folder.freeze({"base": "none", "precision": {}, "settings": {}})
    folder.finish({})
    meter.measure(50)
    assert meter.measured() == Drift(1.0, 0, 50)
    assert not (meter.folder / "log.txt").exists()


def test_what_fails_is_told_in_the_log_and_not_as_zero_picks(
    meter: DriftMeter, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    finished(store)  # its folder is lost
    meter.measure(50)
    assert meter.measured() == Drift(1.0, None, 50)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "drift could not be measured" in caplog.text


def test_on_a_full_disk_it_is_not_measured_again_and_again(
    meter: DriftMeter, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    folder = meter.trainer.folder(finished(store).run_id)
    folder.freeze({"base": "none", "precision": {}, "settings": {}})
    folder.finish({})
    with room_for(100):
        meter.measure(50)
    assert meter.measured() == Drift(1.0, None, 50), "as many new picks come first"
    assert "drift could not be measured (IOException" in caplog.text
    assert restarted(meter, "").measured() is None
