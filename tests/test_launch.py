"""The command and the environment of a training process, by launcher."""

from __future__ import annotations

import importlib.util
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from accelerate.commands import launch as accelerate_launch
from accelerate.commands.config import config_args

from store.rows import Invalid
from train.launch import MODULES, OWN_DEFAULTS, LaunchConfig, command, environment, place
from train.on_ray import enough, parsed, ray_settings, reach, surroundings
from train.settings import KINDS

FOLDER = Path("/runs/run-000001")
PYTHON = ["nice", "-n", "10", sys.executable, "-m"]
SCRIPT = ["train.dpo", "/runs/run-000001"]
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is an extra that is not installed"
)


def test_one_process() -> None:
    assert command("dpo", FOLDER, LaunchConfig()) == [*PYTHON, *SCRIPT]
    assert command("rm", FOLDER, LaunchConfig(nice=0))[2:] == [
        "0", sys.executable, "-m", "train.reward", "/runs/run-000001",
    ]  # fmt: skip


def test_every_part_has_a_script() -> None:
    assert MODULES.keys() == KINDS.keys()
    assert all(importlib.util.find_spec(module) for module in MODULES.values())


def test_accelerate_in_several_processes() -> None:
    launch = LaunchConfig(launcher="accelerate", processes=4)
    assert command("dpo", FOLDER, launch) == [
        *PYTHON, "accelerate.commands.launch", "--config_file", str(OWN_DEFAULTS), "--multi_gpu",
        "--num_processes", "4", "--num_machines", "1", "--dynamo_backend", "no",
        "--mixed_precision", "no", "--main_process_port", "0", "-m", *SCRIPT,
    ]  # fmt: skip


@pytest.mark.parametrize("processes", [1, 2])
def test_what_accelerate_is_told_elsewhere_on_the_machine_does_not_count(
    processes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "default_config.yaml"
    other.write_text(
        "{compute_environment: LOCAL_MACHINE, distributed_type: FSDP, gpu_ids: '0', "
        "num_processes: 8, machine_rank: 1, mixed_precision: fp16}"
    )
    monkeypatch.setattr(config_args, "default_config_file", str(other))
    monkeypatch.setattr(accelerate_launch, "default_config_file", str(other))
    begun = command("dpo", FOLDER, LaunchConfig(launcher="accelerate", processes=processes))
    options = accelerate_launch.launch_command_parser().parse_args(begun[6:])
    found, *_ = accelerate_launch._validate_launch_command(options)
    assert (found.gpu_ids, found.num_processes, found.machine_rank) == ("all", processes, 0)
    assert found.multi_gpu == (processes > 1)
    assert not found.use_fsdp and found.mixed_precision == "no"


def test_accelerate_with_a_file_of_its_own() -> None:
    launch = LaunchConfig(launcher="accelerate", processes=2, accelerate_config="fsdp.yaml")
    assert command("dpo", FOLDER, launch) == [
        *PYTHON, "accelerate.commands.launch", "--config_file", "fsdp.yaml",
        "--num_processes", "2", "-m", *SCRIPT,
    ]  # fmt: skip


@needs_ray
def test_ray() -> None:
    launch = LaunchConfig(launcher="ray", processes=2, ray_address="head:6379", device="cpu")
    begun = command("dpo", FOLDER, launch)
    assert begun[:6] == [*PYTHON, "train.on_ray"]
    options = parsed(begun[6:])
    assert (options.processes, options.threads, options.address) == (2, 1, "head:6379")
    assert options.cpu and [options.module, options.folder] == SCRIPT


def test_ray_that_is_not_installed_is_said_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("train.launch.find_spec", lambda name: None)
    with pytest.raises(Invalid, match=r"Ray is not installed\. Run `make ray`"):
        command("dpo", FOLDER, LaunchConfig(launcher="ray", processes=2))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"processes": 0}, "train.processes must be at least 1, not 0."),
        ({"threads": 0}, "train.threads must be at least 1"),
        ({"nice": -5}, "train.nice must be at least 0"),
        ({"processes": 2}, "Set train.launcher to accelerate or ray."),
        ({"device": "cuda:1"}, "train.device lists numbers of GPUs"),
        ({"gpu_sharing": "separate"}, "set train.device to the GPUs to train on"),
        ({"storage": "shared"}, "train.storage must be an absolute path"),
    ],
)
def test_settings_that_cannot_be(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Invalid, match=sentence):
        LaunchConfig(**values)


# --- environment ----------------------------------------------------------------------------------


def test_threads_are_few_and_wait_quietly() -> None:
    env = environment(LaunchConfig(threads=2))
    assert (env["OMP_NUM_THREADS"], env["OMP_WAIT_POLICY"]) == ("2", "PASSIVE")
    assert "CUDA_VISIBLE_DEVICES" not in env and "PYTORCH_CUDA_ALLOC_CONF" not in env


@pytest.mark.parametrize(("device", "seen"), [("1", "1"), ("2,3", "2,3"), ("cpu", "")])
def test_training_sees_its_own_devices(device: str, seen: str) -> None:
    config = LaunchConfig(gpu_sharing="separate", device=device)
    assert environment(config)["CUDA_VISIBLE_DEVICES"] == seen


def test_what_vllm_has_of_a_common_card_stays_free(monkeypatch: pytest.MonkeyPatch) -> None:
    config = LaunchConfig(gpu_sharing="share")
    bound = "per_process_memory_fraction:0.55"
    assert environment(config, 0.4)["PYTORCH_CUDA_ALLOC_CONF"] == bound
    assert "PYTORCH_CUDA_ALLOC_CONF" not in environment(LaunchConfig(gpu_sharing="stop"), 0.4)
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    both = environment(config, 0.4)["PYTORCH_CUDA_ALLOC_CONF"]
    assert both == f"expandable_segments:True,{bound}"


# --- the run's folder -----------------------------------------------------------------------------


def test_a_run_is_below_the_data_directory(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "runs" / "run-1"
    place(folder, LaunchConfig())
    assert folder.is_dir() and not folder.is_symlink()
    place(folder, LaunchConfig())  # it is there already


def test_a_run_on_shared_storage_is_reached_from_the_data_directory(tmp_path: Path) -> None:
    folder, storage = tmp_path / "data" / "runs" / "run-1", tmp_path / "shared"
    config = LaunchConfig(storage=str(storage))
    place(folder, config)
    (folder / "config.json").write_text("{}")
    assert (storage / "run-1" / "config.json").read_text() == "{}"
    assert command("dpo", folder, config)[-1] == str(storage / "run-1")


def test_two_data_directories_do_not_mix_on_one_storage(tmp_path: Path) -> None:
    config = LaunchConfig(storage=str(tmp_path / "shared"))
    place(tmp_path / "one" / "run-1", config)
    with pytest.raises(Invalid, match="already has a run run-1, of another data directory"):
        place(tmp_path / "two" / "run-1", config)


def test_storage_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Invalid, match=r"train\.storage cannot be used: .*: Not a directory"):
        place(tmp_path / "run-1", LaunchConfig(storage=str(tmp_path / "file" / "below")))


# --- Ray ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "flags", "sentence"),
    [
        ({"CPU": 1.0}, [], "has 1 CPUs, and train.processes asks for 2"),
        ({"CPU": 64.0, "GPU": 1.0}, [], "has 1 GPUs, and train.processes asks for 2"),
        ({"CPU": 3.0}, ["--threads", "2"], "asks for 4"),
    ],
)
def test_a_cluster_that_is_too_small_is_told_at_once(
    there: dict[str, float], flags: list[str], sentence: str
) -> None:
    with pytest.raises(Invalid, match=sentence):
        enough(there, parsed(["--processes", "2", *flags, *SCRIPT]))


def test_a_cluster_that_is_large_enough() -> None:
    enough({"CPU": 2.0}, parsed(["--processes", "2", *SCRIPT]))
    enough({"CPU": 2.0, "GPU": 1.0}, parsed(["--processes", "2", "--cpu", *SCRIPT]))


def test_a_cluster_where_nothing_listens_is_told_soon() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        reach(f"127.0.0.1:{port}")
    for found_by_ray in ("auto", "ray://127.0.0.1:1"):
        reach(found_by_ray)


@pytest.mark.parametrize(
    ("environment", "address", "expected"),
    [
        ({}, "", {"RAY_AUTH_TOKEN"}),  # a new one for each run
        ({"RAY_AUTH_TOKEN": "x"}, "head:6379", {"RAY_AUTH_MODE"}),
        ({"RAY_AUTH_TOKEN": "x", "RAY_AUTH_MODE": "disabled"}, "head:6379", set()),
        ({}, "head:6379", set()),
    ],
)
def test_the_token_of_a_cluster_is_sent(
    environment: dict[str, str],
    address: str,
    expected: set[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("train.on_ray.TOKEN", tmp_path / "none")
    flags = ["--address", address] if address else []
    found = ray_settings(environment, parsed(["--processes", "2", *flags, *SCRIPT]))
    assert found.keys() - {"RAY_CHDIR_TO_TRIAL_DIR"} == expected


def test_workers_get_our_settings_and_elsewhere_our_modules(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PREFLOOP_TOKEN", "secret")
    for name, value in environment(LaunchConfig()).items():
        monkeypatch.setenv(name, value)
    options = parsed(["--processes", "2", *SCRIPT])
    here, elsewhere = surroundings(options, ship=False), surroundings(options, ship=True)
    assert here["env_vars"]["OMP_NUM_THREADS"] == "1" and "PYTHONPATH" in here["env_vars"]
    assert "PYTHONPATH" not in elsewhere["env_vars"]
    assert [Path(module).name for module in elsewhere["py_modules"]] == ["train", "store"]
    assert "secret" not in str(here)
    assert "CUDA_VISIBLE_DEVICES" not in here["env_vars"]
    on_cpu = surroundings(parsed(["--processes", "2", "--cpu", *SCRIPT]), ship=True)
    assert on_cpu["env_vars"]["CUDA_VISIBLE_DEVICES"] == ""
