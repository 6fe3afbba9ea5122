"""How far is the served policy from the trained one, for each way to train and to serve the base?

    python -m benchmarks.precision_gap [--picks 200] [--model starter]

Two DPO runs on the same picks, one on the base in nf4 and one in bf16; then vLLM serves both
adapters on the base in nf4 and in bf16 and scores the held-out answers that the run scored itself.
Differences are absolute, in nats per token; surprise is the mean of minus the log-probabilities.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from benchmarks.frozen_picks import freeze
from benchmarks.report import write
from train.base_model import BaseModel, resolve
from train.launch import LaunchConfig, command, environment
from train.policy.client import PolicyClient
from train.policy.server import PolicyServer
from train.policy.vllm import PolicyConfig
from train.precision import Gap, measure
from train.presets import preset
from train.run_folder import RunFolder
from train.settings import override

HELD_OUT = 64
SERVED: dict[str, Literal["nf4", "none"]] = {"nf4": "nf4", "bf16": "none"}
HEADING = "trained  served  mean    largest  tokens  surprise"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--picks", type=int, default=200)
    parser.add_argument("--model", default="starter")
    options = parser.parse_args()
    base = resolve(options.model)
    figures: dict[str, Any] = {}
    print(HEADING)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        runs = {how: trained(folder / f"run-{how}", base, how, options.picks) for how in SERVED}
        for served, quantization in SERVED.items():
            with serving(base, quantization, runs, folder / f"vllm-{served}.log") as client:
                for how, run in runs.items():
                    begin = time.perf_counter()
                    found = measure(client, f"policy-{how}", run)
                    if found is None:
                        raise SystemExit(f"{run.path} has no scored answers.")
                    took = {"seconds": time.perf_counter() - begin}
                    figures[f"{how} served {served}"] = found.as_dict() | took
                    print(line(how, served, found), flush=True)
        learned = {how: run.metrics() for how, run in runs.items()}
    for how, metrics in learned.items():
        loss, accuracy = metrics["eval_loss"], metrics["accuracy"]
        print(f"trained in {how}: held-out loss {loss:.4f}, accuracy {accuracy:.3f}")
    write("precision_gap", {"picks": options.picks, "model": base.name, "gaps": figures,
                            "learned": learned})  # fmt: skip


def trained(path: Path, base: BaseModel, precision: str, picks: int) -> RunFolder:
    settings = override(
        preset("dpo", base.parameters, picks),
        {"samples": 0, "evaluations": 0, "checkpoints": 0, "report_to": "none"},
    )
    run = freeze(
        path, "dpo", base.path, settings, precision=precision, picks=picks, held_out=HELD_OUT
    )
    config = LaunchConfig()
    with open(run.log, "wb") as log:
        subprocess.run(
            command("dpo", run.path, config),
            env=os.environ | environment(config),
            stdout=log,
            stderr=log,
            check=False,
        )
    if (ending := run.ending()) is None or ending[0] != "DONE":
        raise SystemExit(f"The {precision} run failed: {ending}\n{run.log.read_text()[-3000:]}")
    return run


@contextmanager
def serving(
    base: BaseModel, quantization: Literal["nf4", "none"], runs: dict[str, RunFolder], log: Path
) -> Iterator[PolicyClient]:
    server = PolicyServer(PolicyConfig(quantization=quantization), base, log)
    for how, run in runs.items():
        server.load(f"policy-{how}", run.adapter)  # before the start: it is loaded when up
    server.start()
    try:
        server.wait_up(server.config.start_timeout_s)
        yield server.client
    finally:
        server.stop()


def line(trained_in: str, served_in: str, found: Gap) -> str:
    note = f"  above the bound of {found.bound:.4f}" if found.warning else ""
    figures = f"{found.mean:<7.4f} {found.max:<8.3f} {found.tokens:<7} {found.surprise:.3f}"
    return f"{trained_in:<8} {served_in:<7} {figures}{note}"


if __name__ == "__main__":
    main()
