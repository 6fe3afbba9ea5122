"""What a run would do, told before it starts: settings, counted rows, the command, its faults."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from store import judgments, policies, runs
from store.database import Store
from store.importing import NewPreference, add_preferences
from store.rows import Invalid, Message
from tests.stored import LEASE, add_imports, add_picks, add_policy, add_user
from tests.test_adapters import SHAPES, write
from train.base_model import BaseModel
from train.launch import LaunchConfig, place
from train.planning import PartPlan, Planner, parts_of, precision_of, settings_for
from train.policy.adapters import SHAPES as SHAPES_FILE
from train.policy.adapters import BadAdapter, publish
from train.policy.vllm import PolicyConfig
from train.run_config import RunConfigs
from train.run_folder import RunFolder
from train.settings import DpoSettings, RewardSettings
from train.space import adapter_weights, check_space, needed_bytes

SOURCES = ("human", "simulated", "import")


@pytest.fixture
def planner(store: Store) -> Planner:
    add_policy(store)  # the base serves
    base = BaseModel("starter", store.data_dir / "no-model", 3_000_000)
    return Planner(store, base, PolicyConfig(max_rank=8), SOURCES, seed=7)


@pytest.fixture
def picks(store: Store, planner: Planner) -> Iterator[None]:
    """24 preferences and 4 ties."""
    add_imports(store, 24)
    add_picks(store, add_user(store, "ann"), 4, "tie")
    return


def one(parts: list[PartPlan]) -> PartPlan:
    (part,) = parts
    return part


# --- settings -------------------------------------------------------------------------------------


def test_a_preset_fits_the_model_the_picks_and_what_is_served(planner: Planner) -> None:
    settings = planner.preset("dpo", 100)
    assert (settings.learning_rate, settings.epochs, settings.seed) == (1e-3, 4, 7)
    assert (settings.rank, settings.max_length) == (8, 1024)  # policy.max_rank, policy.context
    assert planner.preset("rm", 100).rank == 16  # is not served
    assert planner.settings("dpo", {"epochs": "2"}, 100).epochs == 2


def test_a_preset_is_fitted_to_rows(planner: Planner, store: Store) -> None:
    """Ties teach DPO nothing by its preset, so they are none of its many picks."""
    add_imports(store, 300)
    add_picks(store, add_user(store, "ann"), 500, "tie")
    assert one(planner.preview("dpo", {})).settings.epochs == 4
    assert one(planner.preview("dpo", {"ties": "soft"})).settings.epochs == 4, "as the form shows"
    assert next(f.default for f in planner.form("dpo") if f.name == "epochs") == 4
    assert planner.rows("kto", planner.picks_now()[0]) == 2 * planner.rows(
        "dpo", planner.picks_now()[0]
    )


def test_settings_are_kept_as_their_types(planner: Planner) -> None:
    given = {"dpo.gradient_checkpointing": "false", "rm.epochs": "2", "rm.samples": "3"}
    typed = {"dpo.gradient_checkpointing": False, "rm.epochs": 2}
    assert planner.check("round", given) == typed  # a reward model has no samples any more
    assert planner.check("rm", {"samples": 3}) == {}


@pytest.mark.parametrize(
    ("kind", "settings", "sentence"),
    [
        ("dpo", {"bta": 0.2}, "Unknown setting 'bta': choose learning_rate"),
        (
            "sft",
            {"rank": 16},
            "rank 16 is above policy.max_rank (8), which vLLM serves. Lower rank,",
        ),
        ("kto", {"dpo.beta": 1}, "Unknown setting 'dpo.beta': write kto.NAME=VALUE."),
        ("round", {"beta": 1}, "Unknown setting 'beta': write rm.NAME=VALUE or dpo.NAME=VALUE."),
    ],
)
def test_settings_that_cannot_be(
    planner: Planner, kind: Any, settings: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(Invalid) as caught:
        planner.preview(kind, settings)
    assert sentence in str(caught.value)


def test_settings_reach_the_part_that_they_are_meant_for() -> None:
    given = {"rm.epochs": 2, "dpo.beta": 0.2, "dpo.epochs": 3}
    assert settings_for("rm", "round", given) == {"epochs": 2}
    assert settings_for("dpo", "round", given) == {"beta": 0.2, "epochs": 3}
    assert settings_for("dpo", "dpo", {"beta": 0.2, "dpo.epochs": 3}) == {"beta": 0.2, "epochs": 3}
    assert parts_of("round") == ("rm", "dpo") and parts_of("kto") == ("kto",)


@pytest.mark.parametrize(
    ("asked", "served", "precision"),
    [
        ("served", "nf4", "nf4"),
        ("served", "none", "bf16"),
        ("bf16", "nf4", "bf16"),
        ("nf4", "none", "nf4"),
    ],
)
def test_precision(asked: str, served: Any, precision: str) -> None:
    settings = DpoSettings(precision=asked)
    assert precision_of(settings, PolicyConfig(quantization=served)) == precision


# --- rows and the command -------------------------------------------------------------------------


@pytest.mark.usefixtures("picks")
def test_a_plan_counts_the_rows_and_names_what_was_changed(planner: Planner) -> None:
    parts = planner.preview("dpo", {"beta": "0.2", "ties": "soft", "epochs": "5"})
    told = one(parts).as_dict()
    assert told["plan"]["sentence"] == "28 picks: 18 pairs, 3 ties at 50 %, 7 held out"
    assert told["changed"] == ["epochs", "beta", "ties"]
    assert told["preset"]["epochs"] == 4 and told["settings"]["epochs"] == 5
    assert told["rule"]["ties"] == "A tie is a label of 50 %."
    assert told["problem"] is None
    assert planner.command("dpo", parts) == (
        "prefloop train dpo --set epochs=5 --set beta=0.2 --set ties=soft"
    )


@pytest.mark.usefixtures("picks")
@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ("none", None),
        ("trackio,wandb", "The tracker wandb is not installed. Run `pip install wandb`, or "),
        ("tensorboard", "The tracker tensorboard is not installed. Run `pip install tensorboard`,"),
        ("wanbd", "report_to knows no tracker 'wanbd': write azure_ml, clearml, "),
    ],
)
def test_trackers_that_cannot_be_used_are_told_before_the_start(
    planner: Planner, names: str, problem: str | None
) -> None:
    told = one(planner.preview("dpo", {"report_to": names})).problem
    assert told is None if problem is None else str(told).startswith(problem)


@pytest.mark.usefixtures("picks")
def test_the_command_of_a_round_names_the_part(planner: Planner) -> None:
    parts = planner.preview("round", {"rm.epochs": 1, "dpo.gradient_checkpointing": "true"})
    assert planner.command("round", parts) == (
        "prefloop train round --set rm.epochs=1 --set dpo.gradient_checkpointing=true"
    )
    assert [part.plan.sentence for part in parts] == [
        "28 picks: 18 pairs, 3 ties at 50 %, 7 held out",
        "28 picks: 18 pairs, 4 ties dropped, 6 held out",
    ]


def test_a_plan_sees_new_picks_and_those_taken_back(planner: Planner, store: Store) -> None:
    user = add_user(store, "ann")
    done = add_picks(store, user, 3)
    assert one(planner.preview("rm", {})).plan.picks == 3
    first = planner.picks_now()
    assert planner.picks_now() is first  # nothing new: not read again
    judgments.retract(store, user, done[0], LEASE)
    assert one(planner.preview("rm", {})).plan.picks == 2


# --- faults ---------------------------------------------------------------------------------------


def test_picks_that_do_not_suffice_are_told_before_the_start(
    planner: Planner, store: Store
) -> None:
    def problem() -> str | None:
        return one(planner.preview("dpo", {})).problem

    assert problem() == "There are no picks to train on. Annotate some pairs first."
    user = add_user(store, "ann")
    add_picks(store, user, 2, "tie")
    assert problem() == (
        "Every pick is a tie, so none says which answer is better. Annotate some more."
    )
    add_imports(store, 3)
    assert "at least 8 picks with a better side; there are 3" in str(problem())
    add_imports(store, 20)
    assert problem() is None


def test_too_few_prompts_to_hold_some_out(planner: Planner, store: Store) -> None:
    question: list[Message] = [{"role": "user", "content": "The same question?"}]
    rows = [NewPreference(question, f"Yes {number}.", f"No {number}.") for number in range(12)]
    add_preferences(store, rows)
    assert "come from too few prompts to hold some out" in str(
        one(planner.preview("dpo", {})).problem
    )


def test_one_sided_picks_are_a_warning(planner: Planner, store: Store) -> None:
    add_picks(store, add_user(store, "ann"), 12)
    part = one(planner.preview("dpo", {}))
    assert part.problem is None
    assert "one_sided_left" in [warning["key"] for warning in part.warnings]


# --- going on from the champion -------------------------------------------------------------------


def serve(
    store: Store,
    policy_id: str,
    base: dict[str, list[int]] = SHAPES,
    run_id: str | None = None,
) -> None:
    """A champion with a real adapter of rank 2 for SHAPES. `base`: the shapes of what is served."""
    folder = store.data_dir / "policies"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SHAPES_FILE).write_text(json.dumps(base))
    source = write(store.data_dir / f"made-{policy_id}")
    path, sha256 = publish(source, folder, policy_id, SHAPES, 8)
    policies.add(
        store,
        policy_id,
        parent=None,
        run_id=run_id,
        base_model="starter",
        adapter_path=f"policies/{path.name}",
        adapter_sha256=sha256,
    )
    policies.decide(store, policy_id, "promote", "because")


@pytest.mark.usefixtures("picks")
def test_the_base_as_champion_means_to_start_from_the_base(planner: Planner) -> None:
    part = one(planner.preview("dpo", {"start": "champion"}))
    assert (part.champion, part.problem) == (None, None)
    assert part.warnings[0]["key"] == "champion_is_base"


@pytest.mark.usefixtures("picks")
def test_a_run_from_the_champion_keeps_its_rank(planner: Planner, store: Store) -> None:
    serve(store, "policy-000001")
    part = one(planner.preview("kto", {"start": "champion"}))
    assert part.champion is not None and part.problem is None
    assert (part.champion.policy_id, part.champion.rank, part.settings.rank) == (
        "policy-000001",
        2,
        2,
    )
    other = one(planner.preview("dpo", {"start": "champion", "rank": 8}))
    assert other.problem is not None and "policy-000001 has rank 2" in other.problem
    assert one(planner.preview("dpo", {"rank": 8})).champion is None


@pytest.mark.usefixtures("picks")
def test_what_the_line_was_trained_on_is_not_measured_on(planner: Planner, store: Store) -> None:
    """The policy of a round that went on from that of a run; the first began at the base."""
    held_out = planner.picks_now()[1]
    decided = [pick.prompt_id for pick in held_out if pick.better is not None]
    configs: dict[str, dict[str, Any]] = {
        "run-000001": {"parent_policy": "policy-000000", "start_adapter": None},
        "run-000002": {
            "parts": {"dpo": {"parent_policy": "policy-000001", "start_adapter": "/there"}}
        },
    }
    for number, (run_id, config) in enumerate(configs.items()):
        run = RunFolder(store.data_dir / "runs" / run_id)
        run.freeze(config)
        run.data.mkdir()
        prompts = [decided[number], "another prompt"]
        parquet.write_table(pa.table({"prompt_id": prompts}), run.data / "train.parquet")
        serve(store, f"policy-{number + 1:06}", run_id=run_id)
    part = one(planner.preview("dpo", {"start": "champion"}))
    assert set(part.known) == set(decided[:2])
    assert part.plan.held_out_picks == len(decided) - 2
    told = next(one for one in part.warnings if one["key"] == "known_held_out")
    assert told["message"].startswith(f"2 of {len(held_out)} held-out picks are left out: ")
    (store.data_dir / "runs" / "run-000001" / "data" / "train.parquet").unlink()
    assert one(planner.preview("dpo", {"start": "champion"})).known == [decided[1]]
    fresh = one(planner.preview("dpo", {}))
    assert (fresh.known, fresh.plan.held_out_picks) == ([], len(decided))


@pytest.mark.usefixtures("picks")
def test_on_shared_storage_a_run_has_its_start_beside_it(
    planner: Planner, store: Store, tmp_path: Path
) -> None:
    """Other machines of a cluster see nothing else of the data directory."""
    serve(store, "policy-000001")
    champion = store.data_dir.resolve() / "policies" / "policy-000001"
    for storage, start in (
        ("", champion),
        (str(tmp_path / "shared"), tmp_path / "shared" / "run-000002" / "start" / "policy-000001"),
    ):
        configs = RunConfigs(planner, LaunchConfig(storage=storage))
        run_id = runs.add(store, "dpo", {"settings": {"start": "champion"}}, None)
        place(configs.folder(run_id).path, configs.launch)
        assert configs.of(runs.get(store, run_id))["start_adapter"] == str(start)
    assert {file.name: file.read_bytes() for file in start.iterdir()} == {
        file.name: file.read_bytes() for file in champion.iterdir()
    }


@pytest.mark.usefixtures("picks")
def test_an_adapter_of_another_base_is_no_start(planner: Planner, store: Store) -> None:
    serve(store, "policy-000001", base={name: [60, 40] for name in SHAPES})
    part = one(planner.preview("dpo", {"start": "champion"}))
    assert part.problem is not None
    assert (
        part.problem.startswith("The adapter is not valid: ") and "the base wants" in part.problem
    )


@pytest.mark.usefixtures("picks")
def test_an_adapter_that_was_changed_is_no_start(planner: Planner, store: Store) -> None:
    serve(store, "policy-000001")
    (store.data_dir / "policies" / "policy-000001" / "adapter_config.json").write_text("{}")
    part = one(planner.preview("dpo", {"start": "champion"}))
    assert part.problem is not None and "have changed since it was published" in part.problem


@pytest.mark.usefixtures("picks")
def test_a_frozen_run_is_checked_again_before_it_goes_on(
    planner: Planner, store: Store, tmp_path: Path
) -> None:
    serve(store, "policy-000001")
    configs = RunConfigs(planner, LaunchConfig())
    run_id = runs.add(store, "dpo", {"settings": {"start": "champion"}}, None)
    place(configs.folder(run_id).path, configs.launch)
    config = configs.of(runs.get(store, run_id))
    configs.check(config)
    with pytest.raises(BadAdapter, match="policy-000001, from which the run goes on, is not at "):
        configs.check(config | {"start_adapter": str(tmp_path / "moved")})
    with pytest.raises(Invalid, match=r"has rank 9, which is above policy.max_rank \(8\) now"):
        configs.check(config | {"settings": config["settings"] | {"rank": 9}})
    (Path(config["start_adapter"]) / "adapter_config.json").write_text("{}")
    with pytest.raises(BadAdapter, match="have changed since it was published"):
        configs.check(config)


@pytest.mark.parametrize(
    ("part", "processes", "problem"),
    [
        ("dpo", 3, "3 processes cannot share a step of 8 x 1 rows."),
        ("kto", 16, "KTO compares the rows of a batch: set batch to 2 or more for each process."),
        ("dpo", 2, None),
    ],
)
@pytest.mark.usefixtures("picks")
def test_processes_that_cannot_share_a_step_are_told_before(
    planner: Planner, part: Any, processes: int, problem: str | None
) -> None:
    planner.processes = processes
    found = one(planner.preview(part, {})).problem
    assert found is None if problem is None else (found or "").startswith(problem)


# --- the disk -------------------------------------------------------------------------------------


def test_room_for_a_run() -> None:
    """Three checkpoints, for a moment, and the adapter twice: in the run and published."""
    weights = adapter_weights([(64, 32), (32, 32)], rank=8)
    assert weights == 8 * (96 + 64)
    needed = needed_bytes([(weights, RewardSettings())], data=1000)
    assert needed == 3 * 12 * weights + 8 * weights + 4000 + 128 * 2**20
    careful = DpoSettings(start="champion", patience=2)
    both = needed_bytes([(weights, RewardSettings()), (weights, careful)], data=1000)
    assert both - needed == (3 * 4 + 8) * weights + 8 * weights
    check_space(needed, needed, Path("/data/runs"))
    with pytest.raises(Invalid) as caught:
        check_space(50 * 2**20, needed, Path("/data/runs"))
    assert str(caught.value) == (
        "The disk of /data/runs has 50 MB free, and this run may need 128 MB. "
        "Free some space, then start it again."
    )
