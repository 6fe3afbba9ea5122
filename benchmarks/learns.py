"""Does the policy learn a taste? Win rates against the base, by picks, flipped picks and seeds.

    python -m benchmarks.learns [TASTE ...] [--picks 100 300 1000] [--flips 0 0.2] [--seeds 0 1 2]
                                [--rounds 5] [--set KEY=VALUE ...]

A pick is one with a better side; pairs on which a taste has no say are left out, as training leaves
out ties. The new policy and the base answer 200 prompts that were never annotated, through vLLM,
and the taste itself compares each new answer with three of the base; a tie counts half for each, so
50 % means that nothing was learned.
With --rounds, so many rounds of 100 picks follow each other, each on pairs of the policy that the
one before made champion; the taste's own range of lengths is that of all answers it chose so far.
What is measured is kept at once, in benchmarks/learned.jsonl: a second start goes on where the
first one ended, measures anew what other settings would change, and two starts with other seeds may
run side by side.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

from annotate.tastes import TASTES
from benchmarks.report import RESULTS, hold, write
from benchmarks.taste_lab import (
    Bank,
    Lab,
    Pair,
    bank,
    count,
    judged,
    policy_server,
    prompts,
    words_of,
)
from store.importing import NewPreference
from train.policy.registry import BASE_POLICY
from train.policy.server import PolicyServer
from train.presets import TINY, preset
from train.settings import Part
from train.starter.cache import recipe_hash

EACH_ROUND = 100  # picks
EACH_TEST = 3  # answers of a round's policy to each prompt: a change of 3 points is to be seen
MOST_DRAWS = 6  # of the pairs of a round, from the same prompts
LARGEST_FALL = 0.03  # of the win rate from one round to the next
GOALS = {(100, 0.0): 0.80, (300, 0.0): 0.92, (1000, 0.0): 0.95, (300, 0.2): 0.85}
PARTS: tuple[Part, ...] = ("rm", "dpo")
KEYS = ("taste", "picks", "flips", "round", "seed")  # of a cell
CELLS = Path(__file__).with_name("learned.jsonl")  # part of the repository: they take hours
HEAD = "taste     picks  flipped  seed   win rate (95 %)    won/tied/lost  words (base)  cut  train"
Cell = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tastes", nargs="*", default=list(TASTES))
    parser.add_argument("--picks", type=int, nargs="*", default=[100, 300, 1000])
    parser.add_argument("--flips", type=float, nargs="*", default=[0.0, 0.2])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--set", nargs="*", default=[], help="settings of dpo, key=value")
    options = parser.parse_args()
    settings = dict(pair.split("=") for pair in options.set)
    known = Known(settings)
    print(HEAD)
    place = tempfile.TemporaryDirectory()
    with place as folder, policy_server(vllm_log()) as server:
        for cell in measured(options, settings, known, server, Path(folder)):
            known.add(cell)
            print(line(cell), flush=True)
    report(known, options.tastes)


def vllm_log() -> Path:
    """Outlives a start that fails, to tell why."""
    RESULTS.mkdir(exist_ok=True)
    return RESULTS / f"learns-{os.getpid()}.vllm.log"


class Known:
    """Cells that were measured with these settings, in a file of one line for each."""

    def __init__(self, settings: dict[str, str]) -> None:
        self.settings = settings

    def add(self, cell: Cell) -> None:
        with open(CELLS, "a", encoding="utf-8") as file:
            file.write(json.dumps(cell | {"recipe": recipe(cell, self.settings)}) + "\n")

    def cells(self) -> list[Cell]:
        """Of what was measured twice, as rounds that were broken off are, the last."""
        lines = CELLS.read_text(encoding="utf-8").splitlines() if CELLS.exists() else []
        cells = [json.loads(line) for line in lines]
        known = [cell for cell in cells if cell["recipe"] == recipe(cell, self.settings)]
        return list({tuple(cell.get(key) for key in KEYS): cell for cell in known}.values())

    def has(self, **wanted: Any) -> bool:
        return any(wanted.items() <= cell.items() for cell in self.cells())


def recipe(cell: Cell, changes: dict[str, str]) -> str:
    """Twelve hex digits of what a cell depends on beside itself: the base and the settings."""
    if "round" in cell:
        sizes = range(EACH_ROUND, EACH_ROUND * cell["round"] + 1, EACH_ROUND)
        presets = [preset(part, TINY - 1, n) for n in sizes for part in PARTS]
    else:
        presets = [preset("dpo", TINY - 1, cell["picks"])]
    told = json.dumps([recipe_hash(), [asdict(one) for one in presets], changes], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def measured(
    options: argparse.Namespace,
    settings: dict[str, str],
    known: Known,
    server: PolicyServer,
    folder: Path,
) -> Iterator[Cell]:
    """The cells that are still missing, seed by seed."""
    for seed in options.seeds:
        base = bank(server, RESULTS, seed)
        for flips, picks, taste in product(options.flips, options.picks, options.tastes):
            if not known.has(taste=taste, picks=picks, flips=flips, seed=seed):
                place = folder / f"{taste}-{picks}-{flips}-{seed}"
                yield learned(server, place, base, taste, picks, flips, seed, settings)
        for taste in options.tastes:
            if options.rounds and not known.has(taste=taste, round=options.rounds, seed=seed):
                yield from rounds_in_a_row(
                    server, folder, base, taste, seed, options.rounds, settings
                )


def learned(
    server: PolicyServer,
    folder: Path,
    base: Bank,
    taste: str,
    picks: int,
    flips: float,
    seed: int,
    settings: dict[str, str],
) -> Cell:
    rows, ties = judged(base.pairs, taste, picks, flips, seed)
    lab = Lab(server, folder, seed)
    try:
        lab.pick(rows)
        begun = time.monotonic()
        run = lab.run("dpo", settings | {"report_to": "none", "samples": 0})
        train_s = time.monotonic() - begun
        assert run.policy_id is not None
        found = count(taste, lab.answers(run.policy_id, seed), base.answers)
        cell = {"taste": taste, "picks": picks, "flips": flips, "seed": seed, "ties": ties}
        gap = run.metrics["precision_gap"].get("mean")  # of what is served to what was trained
        return cell | found | {"train_s": train_s, "held_out": run.metrics["accuracy"], "gap": gap}
    finally:
        lab.close()


def rounds_in_a_row(
    server: PolicyServer,
    folder: Path,
    base: Bank,
    taste: str,
    seed: int,
    rounds: int,
    settings: dict[str, str],
) -> Iterator[Cell]:
    """Each round is the whole one: reward model, policy, gate."""
    own = {f"dpo.{key}": value for key, value in settings.items()}
    lab = Lab(server, folder / f"rounds-{taste}-{seed}", seed)
    picked: list[NewPreference] = []
    unseen = iter(range(0, len(prompts()[1]), 3 * EACH_ROUND))
    try:
        champion = BASE_POLICY
        for number, begin in zip(range(1, rounds + 1), unseen, strict=False):
            asked = prompts()[1][begin : begin + 3 * EACH_ROUND]
            drawn = decisive_pairs(lab, champion, asked, taste, 100 * seed + number)
            rows = judged(drawn, taste, len(drawn), 0.0, seed)[0]
            lab.pick(rows)
            picked += rows
            run = lab.run("round", own | {"dpo.report_to": "none", "rm.report_to": "none"})
            if run.verdict == "promoted" and run.policy_id:
                champion = run.policy_id
            cell = {"taste": taste, "round": number, "seed": seed, "verdict": run.verdict}
            cell["picked"] = len(rows)
            found = count(taste, lab.answers(champion, seed, EACH_TEST), base.answers)
            yield cell | found | {"range": words_of(picked), "reason": run.reason}
    finally:
        lab.close()


def decisive_pairs(
    lab: Lab, champion: str, asked: Sequence[str], taste: str, seed: int
) -> list[Pair]:
    """Those of a round. Once a policy has learned a taste most of its pairs are ties, so more are
    drawn; if that does not help, a round has fewer picks."""
    score, found = TASTES[taste], list[Pair]()
    for draw in range(MOST_DRAWS):
        drawn = lab.pairs(champion, asked, seed + 10_000 * draw)
        found += [pair for pair in drawn if score(pair.a) != score(pair.b)]
        if len(found) >= EACH_ROUND:
            break
    return found[:EACH_ROUND]


# --- what it prints -------------------------------------------------------------------------------


def line(cell: Cell) -> str:
    picks = f"round {cell['round']}" if "round" in cell else f"{cell['picks']}"
    flips = "" if "round" in cell else f"{cell['flips']:.0%}"
    rate = f"{cell['win_rate']:.1%} ({cell['low']:.0%} to {cell['high']:.0%})"
    score = f"{cell['won']}/{cell['tied']}/{cell['lost']}"
    words = f"{cell['words']:.0f} ({cell['words_base']:.0f})"
    seconds = f"{cell['train_s']:.0f} s" if "train_s" in cell else cell["verdict"]
    return (
        f"{cell['taste']:<9}{picks:>7}{flips:>8}{cell['seed']:>6}   {rate:<20}{score:<15}"
        f"{words:<13}{cell['cut']:>4.0%}  {seconds}"
    )


def report(known: Known, tastes: list[str]) -> None:
    """Means over tastes and seeds, and whether they are what the README says of all tastes."""
    cells = [cell for cell in known.cells() if cell["taste"] in tastes]
    claims, means = {}, {}
    for picks, flips in sorted({(c["picks"], c["flips"]) for c in cells if "picks" in c}):
        own = [c["win_rate"] for c in cells if (c.get("picks"), c.get("flips")) == (picks, flips)]
        means[f"{picks} picks, {flips:.0%} flipped"] = fmean(own)
        print(f"{picks:>5} picks, {flips:>3.0%} flipped: {fmean(own):.1%} over {len(own)} trials")
        if (goal := GOALS.get((picks, flips))) and set(tastes) == set(TASTES):
            claims[f"{picks} picks with {flips:.0%} flipped give {goal:.0%}"] = fmean(own) >= goal
    falls = list(falls_of(cells))
    if falls:
        print(f"largest fall from round to round: {max(falls):.1%} over {len(falls)} steps")
        claims["no round falls by more than 3 points"] = max(falls) <= LARGEST_FALL
        inside = [c["range"][0] <= c["words"] <= c["range"][1] for c in cells if "round" in c]
        print(f"mean length inside the taste's own range: {sum(inside)} of {len(inside)} rounds")
        claims["the mean length stays in the taste's own range"] = all(inside)
    write("learns", {"means": means, "cells": cells, "claims": claims})
    hold(claims)


def falls_of(cells: list[Cell]) -> Iterator[float]:
    """Win rate of a round minus that of the next one."""
    by_series: dict[tuple[str, int], dict[int, float]] = {}
    for cell in cells:
        if "round" in cell:
            series = by_series.setdefault((cell["taste"], cell["seed"]), {})
            series[cell["round"]] = cell["win_rate"]
    for rates in by_series.values():
        yield from (rates[n] - rates[n + 1] for n in rates if n + 1 in rates)


if __name__ == "__main__":
    main()
