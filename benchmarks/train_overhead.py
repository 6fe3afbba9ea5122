"""What our training scripts cost on top of plain TRL: the same pairs through both, in turns.

    python -m benchmarks.train_overhead [dpo rm] [--picks 200] [--rounds 3] [--bare]

A is `python -m train.dpo` (or train.reward) as the app starts it, with everything that is on by
default: progress, samples, checkpoints, trackio, scored answers. B is benchmarks/plain_trl.py with
the same model in nf4, LoRA, rows, order, seed and evaluations, and none of the rest. Wall
time is that of the whole process, imports included. `--bare` turns samples, checkpoints and trackio
of A off, which shows what those cost. The ratio of wall times must be at most 1.10 and the held-out
losses equal within 2 %; the ratio of processor times says the same on a machine that is not idle.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.frozen_picks import freeze
from benchmarks.report import hold, write
from train.base_model import STARTER, resolve
from train.launch import LaunchConfig, command, environment
from train.presets import preset
from train.run_folder import RunFolder
from train.settings import AnySettings, Part, override

HELD_OUT = 32
LARGEST_RATIO, LARGEST_DIFFERENCE = 1.10, 0.02
Took = tuple[float, float]  # seconds on the wall, and of a processor
BARE = {"samples": 0, "checkpoints": 0, "report_to": "none"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["dpo", "rm"])
    parser.add_argument("--picks", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bare", action="store_true")
    options = parser.parse_args()
    figures, claims = {}, {}
    for part in options.parts:
        figures[part] = found = measure(part, options.picks, options.rounds, options.bare)
        print(line(part, found), flush=True)
        claims[f"{part}: wall time at most {LARGEST_RATIO} of plain TRL"] = (
            found["ratio"] <= LARGEST_RATIO
        )
        claims[f"{part}: held-out loss within {LARGEST_DIFFERENCE:.0%}"] = (
            found["difference"] <= LARGEST_DIFFERENCE
        )
    write("train_overhead", {"picks": options.picks, "bare": options.bare, "parts": figures})
    hold(claims)


def measure(part: Part, picks: int, rounds: int, bare: bool) -> dict[str, Any]:
    base = resolve(STARTER)
    # Plain TRL knows no strengths, and takes rows in random order.
    plainly = {"strength": "ignore", "batching": "random"} | (BARE if bare else {})
    settings = override(preset(part, base.parameters, picks), plainly)
    ours, theirs, losses = list[Took](), list[Took](), list[tuple[float, float]]()
    for number in range(rounds):
        seeded = replace(settings, seed=number)
        with tempfile.TemporaryDirectory() as scratch:
            run = freeze(
                Path(scratch) / f"run-{number:06}", part, base.path, seeded,
                picks=picks, held_out=HELD_OUT,
            )  # fmt: skip
            first = (prefloop, plain) if number % 2 == 0 else (plain, prefloop)
            took = {way: way(part, run) for way in first}
            ours.append(took[prefloop])
            theirs.append(took[plain])
            rival = json.loads((run.path / "plain.json").read_text())
            losses.append((run.metrics()["eval_loss"], rival["eval_loss"]))
    # Neighbours on the machine come and go: the fastest of some runs is the least disturbed one.
    return {
        "ours": ours,
        "plain": theirs,
        "ratio": best(ours, 0) / best(theirs, 0),
        "processor_ratio": best(ours, 1) / best(theirs, 1),
        "losses": losses,
        "difference": max(abs(a - b) / b for a, b in losses),
        "settings": settings_of(settings),
    }


def best(took: list[Took], which: int) -> float:
    return min(one[which] for one in took)


def prefloop(part: Part, run: RunFolder) -> Took:
    config = LaunchConfig()
    tracked = {"TRACKIO_DIR": str(run.path.parent / "trackio")}
    return timed(command(part, run.path, config), environment(config) | tracked, run.log)


def plain(part: Part, run: RunFolder) -> Took:
    config = LaunchConfig()
    script = [sys.executable, "-m", "benchmarks.plain_trl", str(run.path)]
    nice = ["nice", "-n", str(config.nice)]
    return timed([*nice, *script], environment(config), run.path / "plain.log")


def timed(command: list[str], env: dict[str, str], log: Path) -> Took:
    """One process from its start to its end. Ends the benchmark if it fails."""
    begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    with open(log, "wb") as out:
        code = subprocess.run(
            command, env=os.environ | env, stdout=out, stderr=out, check=False
        ).returncode
    if code != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{log.read_text()[-3000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - begin, processor


def settings_of(settings: AnySettings) -> dict[str, Any]:
    kept = ("learning_rate", "epochs", "batch", "evaluations", "checkpoints", "samples")
    known = asdict(settings)  # a reward model has no samples
    return {key: known[key] for key in (*kept, "report_to") if key in known}


def line(part: str, found: dict[str, Any]) -> str:
    pairs = ", ".join(f"{a:.4f}/{b:.4f}" for a, b in found["losses"])
    return (
        f"{part}  ours {best(found['ours'], 0):.1f} s  plain TRL {best(found['plain'], 0):.1f} s  "
        f"ratio {found['ratio']:.3f} (processor {found['processor_ratio']:.3f})  "
        f"held-out loss {pairs} (at most {found['difference']:.1%} apart)"
    )


if __name__ == "__main__":
    main()
