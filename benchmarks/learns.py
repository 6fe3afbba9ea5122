"""Does the policy learn a taste? 200 simulated picks and a round for each, then a blind count.

    python -m benchmarks.learns [TASTE ...] [--picks 200] [--seed 0]

The new policy and policy-000000 answer 100 prompts that were never annotated, through vLLM, and the
taste itself chooses. A tie counts one half for each. The rival is the base model: 50 % means that
nothing was learned.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

from annotate.api_client import ApiClient
from annotate.simulate import Plan, simulate
from annotate.tastes import TASTES, choose
from benchmarks.report import write
from tests.served_app import start_app
from train.interval import wilson

PROMPTS = 100
HEADING = "taste      win rate  95 % interval   won/tied/lost  words        round"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tastes", nargs="*", default=list(TASTES))
    parser.add_argument("--picks", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(HEADING)
    figures = {}
    for taste in options.tastes:
        with tempfile.TemporaryDirectory() as folder:
            figures[taste] = measure(taste, options.picks, options.seed, Path(folder) / "data")
        print(line(taste, figures[taste]), flush=True)
    write("learns", {"picks": options.picks, "seed": options.seed, "tastes": figures})


def measure(taste: str, picks: int, seed: int, data_dir: Path) -> dict[str, Any]:
    app = start_app(data_dir, PREFLOOP_LOOP__EVERY_PICKS="0")
    try:
        with app.client() as admin:
            begin = time.monotonic()
            decided = simulate(admin, Plan(taste, picks, annotators=2, seed=seed))
            picked = time.monotonic()
            run_id = admin.post("/runs", {"kind": "round"})["run_id"]
            run = list(admin.wait_for_run(run_id))[-1]
            trained = time.monotonic()
            if run["verdict"] != "promoted":
                return {"verdict": run["verdict"], "reason": run["reason"], "win_rate": 0.0}
            counted = count(admin, taste, run["policy_id"], fresh_prompts(admin), seed)
            return counted | {
                "verdict": run["verdict"], "decided": decided, "pick_s": picked - begin,
                "round_s": trained - picked, "held_out": run["metrics"]["accuracy"],
            }  # fmt: skip
    finally:
        app.stop()


def fresh_prompts(admin: ApiClient) -> list[dict[str, Any]]:
    """Prompts of the pool that no pick was made on."""
    with admin.lines("/export/jsonl", where="source=all") as rows:
        annotated = {json.loads(row)["prompt_id"] for row in rows if row}
    pool = admin.get("/prompts", limit=100_000)["prompts"]
    fresh = [prompt for prompt in pool if prompt["prompt_id"] not in annotated]
    return Random(0).sample(fresh, PROMPTS)


def count(
    admin: ApiClient, taste: str, policy: str, prompts: list[dict[str, Any]], seed: int
) -> dict[str, Any]:
    won, tied, words = 0, 0, [0, 0]
    for number, prompt in enumerate(prompts):
        sides = [
            answer(admin, who, prompt, 10_000 * (seed + 1) + number)
            for who in (policy, "policy-000000")
        ]
        words = [words[i] + len(sides[i].split()) for i in (0, 1)]
        verdict = choose(TASTES[taste], sides[0], sides[1], 0.0, Random(0))
        won += verdict == "left"
        tied += verdict == "tie"
    rate = (won + tied / 2) / len(prompts)
    low, high = wilson(rate, len(prompts))
    mean_words = [total / len(prompts) for total in words]
    lost = len(prompts) - won - tied
    return {
        "win_rate": rate,
        "low": low,
        "high": high,
        "won": won,
        "tied": tied,
        "lost": lost,
        "words": mean_words,
    }


def answer(admin: ApiClient, policy: str, prompt: dict[str, Any], seed: int) -> str:
    sampled = admin.post(
        f"/policies/{policy}/sample", {"messages": prompt["messages"], "seed": seed}
    )
    return str(sampled["completions"][0]["text"])


def line(taste: str, f: dict[str, Any]) -> str:
    if f["verdict"] != "promoted":
        return f"{taste:<10} {f['reason']}"
    score, interval = f"{f['won']}/{f['tied']}/{f['lost']}", f"{f['low']:.0%} to {f['high']:.0%}"
    lengths = f"{f['words'][0]:.0f} / {f['words'][1]:.0f}"
    rate = f"{f['win_rate']:>9.0%}  {interval:<16}{score:<15}{lengths:<12}"
    return f"{taste:<10}{rate}{f['round_s']:>5.0f}s"


if __name__ == "__main__":
    main()
