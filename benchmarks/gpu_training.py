"""Tokens a second and peak memory of DPO on a model of 7B shape, in nf4 and in bf16, on this GPU.

    python -m benchmarks.gpu_training [--shape 7b] [--picks 48] [--words 448]

Our script as the app starts it against stock TRL settings (benchmarks/plain_trl.py --stock: the
same rows and LoRA, TRL's own adapter precision and gradient checkpointing), on the first card that
is visible. Random weights, made on the card where they fit and on the CPU otherwise, which takes
16 GB of memory and some minutes; they need 20 GB of disk (TMPDIR says where). `make gpu-check` runs
this as a test; without a GPU only the tiny shape is sensible.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path

from benchmarks.frozen_picks import freeze
from benchmarks.report import write
from train.base_model import count_parameters
from train.launch import LaunchConfig, command, environment
from train.presets import preset
from train.run_folder import RunFolder
from train.settings import DpoSettings, override

PRECISIONS = ("nf4", "bf16")
NEEDED_GB = {"7b": {"nf4": 12, "bf16": 20, "disk": 20}, "tiny": {"nf4": 0, "bf16": 0, "disk": 0}}
HEADING = "         ours: tokens/s  memory MiB   stock TRL: tokens/s  memory MiB   ratio"


@dataclass(frozen=True)
class Figures:
    tokens_per_second: float  # from the end of the first step on
    memory_mb: float  # peak that was allocated on the GPU; of the process on a CPU


@dataclass(frozen=True)
class Comparison:
    ours: Figures
    stock: Figures

    @property
    def ratio(self) -> float:
        """Above 1 we are faster."""
        return self.ours.tokens_per_second / self.stock.tokens_per_second

    def line(self, precision: str) -> str:
        ours, stock = self.ours, self.stock
        return (
            f"{precision:<8} {ours.tokens_per_second:>14,.0f} {ours.memory_mb:>11,.0f} "
            f"{stock.tokens_per_second:>21,.0f} {stock.memory_mb:>11,.0f} {self.ratio:>7.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=list(NEEDED_GB), default="7b")
    parser.add_argument("--picks", type=int, default=48)
    parser.add_argument("--words", type=int, default=448)
    options = parser.parse_args()
    figures = {}
    print(HEADING)
    with tempfile.TemporaryDirectory() as scratch:
        base = made_model(Path(scratch), options.shape)
        for precision in PRECISIONS:
            found = compare(base, precision, options.picks, options.words)
            figures[precision] = asdict(found) | {"ratio": found.ratio}
            print(found.line(precision), flush=True)
    write("gpu_training", {"shape": options.shape, "picks": options.picks, **figures})


def made_model(folder: Path, shape: str) -> Path:
    """Raises SystemExit when the disk is too small for it."""
    free_gb = shutil.disk_usage(folder).free / 1e9
    if free_gb < NEEDED_GB[shape]["disk"]:
        raise SystemExit(
            f"{folder} has {free_gb:.0f} GB free, and the weights need "
            f"{NEEDED_GB[shape]['disk']} GB. Set TMPDIR to a larger disk."
        )
    done(["benchmarks.random_model", str(folder / "model"), shape], folder / "model.log")
    return folder / "model"


def compare(base: Path, precision: str, picks: int, words: int) -> Comparison:
    """One run of each, on the same picks; answers of about `words` words."""
    run = freeze(
        base.parent / f"run-{precision}", "dpo", base, settings_for(base, picks),
        precision=precision, picks=picks, held_out=4, lengthen=lambda text: repeated(text, words),
    )  # fmt: skip
    config = LaunchConfig()
    code = run_to_end(command("dpo", run.path, config), run.log)
    if (ending := run.ending()) != ("DONE", ""):
        raise SystemExit(f"Our run ended with {code}: {ending}\n{tail(run.log)}")
    done(["benchmarks.plain_trl", str(run.path), "--stock"], run.path / "plain.log")
    stock = json.loads((run.path / "plain.json").read_text())
    return Comparison(of(run), Figures(stock["tokens_per_second"], stock["memory_mb"]))


def settings_for(base: Path, picks: int) -> DpoSettings:
    """The preset for this size, in shorter steps, and without what is not training."""
    settings = preset("dpo", count_parameters(base), picks)
    assert isinstance(settings, DpoSettings)
    brief = {"epochs": 1, "batch": 2, "accumulate": 2, "gradient_checkpointing": True}
    silent = {"evaluations": 0, "checkpoints": 0, "samples": 0, "report_to": "none"}
    return override(settings, brief | silent)


def repeated(text: str, words: int) -> str:
    return " ".join(islice(cycle(text.split()), words))


def of(run: RunFolder) -> Figures:
    steps = [line for line in run.progress() if "loss" in line]
    first, last = steps[0], steps[-1]
    speed = (last["tokens"] - first["tokens"]) / max(last["seconds"] - first["seconds"], 1e-9)
    return Figures(speed, last["memory_mb"])


def done(module: list[str], log: Path) -> None:
    if run_to_end([sys.executable, "-m", *module], log) != 0:
        raise SystemExit(f"{module[0]} failed:\n{tail(log)}")


def run_to_end(command: list[str], log: Path) -> int:
    with open(log, "wb") as out:
        env = os.environ | environment(LaunchConfig()) | one_card(os.environ)
        return subprocess.run(command, env=env, stdout=out, stderr=out, check=False).returncode


def one_card(environment: Mapping[str, str]) -> dict[str, str]:
    """Both sides see the first card only: one process of TRL refuses several."""
    seen = environment.get("CUDA_VISIBLE_DEVICES", "0")
    return {"CUDA_VISIBLE_DEVICES": seen.split(",")[0]}


def tail(log: Path) -> str:
    return log.read_text(errors="replace")[-3000:]


if __name__ == "__main__":
    main()
