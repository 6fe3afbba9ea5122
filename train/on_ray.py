"""Train on a Ray cluster: each worker runs the script that one process would run alone.

    python -m train.on_ray --processes N [--address HOST:PORT] MODULE RUN_DIR

Without an address, Ray runs on this machine for as long as this process. The run folder must be
the same folder on every machine; so must the model's. Workers number themselves by RANK, as under
accelerate, and the first of them writes the folder's files.
"""

from __future__ import annotations

import argparse
import importlib
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from store.rows import Invalid, PrefloopError
from train.process import ROOT
from train.run_folder import RunFolder
from train.script import is_main, run_script

TOKEN = Path("~/.ray/auth_token")  # where Ray keeps that of a cluster
CONNECT_S = 10.0  # Ray itself tries for minutes
OBJECTS_BYTES = 100 << 20  # of Ray's shared memory; nothing large goes through it
PASSED_ON = (
    "OMP_",
    "HF_",
    "TOKENIZERS_",
    "PYTHON",
    "PYTORCH_",
    "TRACKIO_",
    "TENSORBOARD_",
    "WANDB_",
    "MLFLOW_",
)


def main(options: argparse.Namespace) -> int:
    """Exit code 0 when the script ended well on all workers, else 1; the folder says why."""
    run = RunFolder(Path(options.folder))
    os.environ |= ray_settings(os.environ, options)
    scratch = tempfile.mkdtemp(prefix="ray-")  # short: it holds sockets
    try:
        connect(options, scratch)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # Ray's own handler cleans nothing up
        carry_out(options)
    except PrefloopError as error:
        run.end("FAILED", str(error))
        return 1
    except WorkersFailed as error:
        print(error, file=sys.stderr, flush=True)
        return 1  # the folder says why, unless a worker was killed
    finally:
        import ray

        ray.shutdown()
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.rmtree(run.path / "ray", ignore_errors=True)
    return 0


def ray_settings(environment: Mapping[str, str], options: argparse.Namespace) -> dict[str, str]:
    """What Ray reads from the environment, before it is imported."""
    plain = {"RAY_CHDIR_TO_TRIAL_DIR": "0"}  # trackers write below the folder we run in
    if not options.address:
        return plain | {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
    known = "RAY_AUTH_TOKEN" in environment or "RAY_AUTH_TOKEN_PATH" in environment
    if "RAY_AUTH_MODE" not in environment and (known or TOKEN.expanduser().exists()):
        return plain | {"RAY_AUTH_MODE": "token"}  # a driver sends none otherwise
    return plain


class WorkersFailed(Exception):
    """At least one worker did not reach the end of the script."""


def connect(options: argparse.Namespace, scratch: str) -> None:
    """Raises Invalid when there is no such cluster, or it is too small."""
    import ray
    from ray.exceptions import AuthenticationError

    if options.address:
        try:
            reach(options.address)
            around = surroundings(options, ship=True)
            ray.init(options.address, runtime_env=around, log_to_driver=False)
        except (OSError, ValueError, AuthenticationError) as error:
            raise Invalid(
                f"No Ray cluster takes us at {options.address} ({type(error).__name__}). Start one "
                "there with `ray start --head`, give us its token (RAY_AUTH_TOKEN), or leave "
                "train.ray_address empty."
            ) from None
    else:
        ray.init(
            "local",
            num_cpus=options.processes * options.threads,
            include_dashboard=False,
            object_store_memory=OBJECTS_BYTES,
            runtime_env=surroundings(options, ship=False),
            log_to_driver=False,  # Ray's own words; the first worker writes to the run's log
            _temp_dir=scratch,
        )
    enough(ray.cluster_resources(), options)


def reach(address: str) -> None:
    """Raises OSError when nothing listens there. `auto` and client addresses are Ray's to find."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()


def surroundings(options: argparse.Namespace, ship: bool) -> dict[str, Any]:
    """Of a worker. `ship`: send our own modules along; libraries must be there already."""
    env = {
        key: value
        for key, value in os.environ.items()
        if key.startswith(PASSED_ON) and not (ship and key == "PYTHONPATH")
    }
    env["RAY_TRAIN_ENABLE_PRINT_PATCH"] = "0"  # else each line of the log comes twice
    if options.cpu:
        env["CUDA_VISIBLE_DEVICES"] = ""  # Ray leaves a worker that asks for no GPU all of them
    modules = [str(ROOT / "train"), str(ROOT / "store")]
    return {"env_vars": env} | ({"py_modules": modules} if ship else {})


def on_gpu(there: dict[str, float], options: argparse.Namespace) -> bool:
    return not options.cpu and there.get("GPU", 0) > 0


def enough(there: dict[str, float], options: argparse.Namespace) -> None:
    """Ray waits without end for what the cluster does not have. Raises Invalid."""
    kind = "GPU" if on_gpu(there, options) else "CPU"
    wanted = options.processes * (1 if kind == "GPU" else options.threads)
    if there.get(kind, 0) < wanted:
        raise Invalid(
            f"The Ray cluster has {there.get(kind, 0):.0f} {kind}s, and train.processes asks for "
            f"{wanted}. Lower train.processes, or add machines to the cluster."
        )


def carry_out(options: argparse.Namespace) -> None:
    """Raises WorkersFailed."""
    import ray
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    gpu = on_gpu(ray.cluster_resources(), options)
    each = {"GPU": 1} if gpu else {"CPU": options.threads}
    trainer = TorchTrainer(
        work,
        train_loop_config={"module": options.module, "folder": options.folder},
        scaling_config=ScalingConfig(
            num_workers=options.processes, use_gpu=gpu, resources_per_worker=each
        ),
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
        run_config=RunConfig(name="run", storage_path=str(Path(options.folder) / "ray")),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        raise WorkersFailed(str(error)) from None


def work(task: dict[str, str]) -> None:
    """On each worker."""
    folder = Path(task["folder"])
    if not (folder / "config.json").exists():
        raise RuntimeError(f"{folder} is not on this machine: set train.storage to a shared folder")
    if is_main():
        with open(RunFolder(folder).log, "ab") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
    try:
        run_script(importlib.import_module(task["module"]).main, folder)
    except SystemExit as end:
        if end.code:
            raise RuntimeError("this worker failed; the run folder says why") from None


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, required=True)
    parser.add_argument("--threads", type=int, default=1, help="CPUs of each process")
    parser.add_argument("--address", default="", help="of a cluster; by default Ray starts here")
    parser.add_argument("--cpu", action="store_true", help="also where there are GPUs")
    parser.add_argument("module")
    parser.add_argument("folder")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(parsed(sys.argv[1:])))
