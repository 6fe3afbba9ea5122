"""Hot-load new adapters while eight annotators are picking: load time and failed requests.

    python -m benchmarks.swap [--swaps 5] [--annotators 8]

Picks are made without pause. Each swap promotes an adapter that vLLM has never seen; no pair may
mix two policies. The rival is the other way to change a policy: restarting vLLM with it, measured
once as the time from kill to ready. The ratio is restart over load.
"""

from __future__ import annotations

import argparse
import json
import signal
import tempfile
import threading
import time
import uuid
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from annotate.api_client import ApiClient
from annotate.simulate import Plan, simulate, token_of
from benchmarks.report import write
from store.rows import PrefloopError
from tests.served_app import ServedApp, start_app

PAUSE_S = 4.0  # between swaps, so that each policy serves for a while


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--swaps", type=int, default=5)
    parser.add_argument("--annotators", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        app = start_app(Path(folder) / "data", PREFLOOP_LOOP__EVERY_PICKS="0")
        try:
            with app.client() as admin:
                candidates = train_candidates(admin, options.swaps)
                swaps, failures, requests = swap_under_load(
                    app, admin, candidates, options.annotators
                )
                mixed, by_policy = count_pairs(admin)
                restart_s = restart(app, admin)
        finally:
            app.stop()
    promote_ms = [1000 * swap["promote_s"] for swap in swaps]
    first_ms = [1000 * swap["first_pair_s"] for swap in swaps]
    print(f"{len(swaps)} swaps under load")
    for name, found in (("hot-load and promote", promote_ms), ("first new pick after", first_ms)):
        print(f"{name}   median {median(found):6.0f} ms   worst {max(found):6.0f} ms")
    print(f"failed requests {len(failures)} of {requests}   pairs of mixed policies {mixed}")
    ratio = 1000 * restart_s / median(promote_ms)
    print(f"restarting vLLM instead {restart_s:.1f} s, ratio {ratio:.0f}")
    for failure in failures[:5]:
        print("  ", failure)
    write("swap", {"swaps": swaps, "failed": failures, "requests": requests, "mixed_pairs": mixed,
                   "pairs_by_policy": by_policy, "restart_s": restart_s})  # fmt: skip


def train_candidates(admin: ApiClient, number: int) -> list[str]:
    """Adapters that were published but never loaded: short DPO runs with different seeds."""
    simulate(admin, Plan("concise", picks=40, annotators=4))
    made = []
    for seed in range(number):
        run_id = admin.post("/runs", {"kind": "dpo", "set": {"epochs": 1, "seed": seed}})["run_id"]
        run = list(admin.wait_for_run(run_id))[-1]
        if run["status"] != "done":
            raise PrefloopError(f"{run_id} {run['status']}: {run['reason']}")
        made.append(run["policy_id"])
    return made


def swap_under_load(
    app: ServedApp, admin: ApiClient, candidates: list[str], annotators: int
) -> tuple[list[dict[str, Any]], list[str], int]:
    stop, failures, requests = threading.Event(), list[str](), Counter[str]()
    tokens = [token_of(admin, f"sim-swap-{number}") for number in range(annotators)]
    threads = [
        threading.Thread(target=annotate, args=(app.url, token, stop, failures, requests))
        for token in tokens
    ]
    for thread in threads:
        thread.start()
    time.sleep(PAUSE_S)
    swaps = []
    for policy in candidates:
        begin = time.perf_counter()
        admin.post(f"/policies/{policy}/promote")
        promoted = time.perf_counter()
        shown = first_pair_after(admin, policy)
        swaps.append(
            {"policy": policy, "promote_s": promoted - begin, "first_pair_s": shown - begin}
        )
        time.sleep(PAUSE_S)
    stop.set()
    for thread in threads:
        thread.join()
    return swaps, failures, requests.total()


def annotate(
    url: str, token: str, stop: threading.Event, failures: list[str], requests: Counter[str]
) -> None:
    """Every request counts, every error is a failure; "nothing ready yet" is an answer."""
    with ApiClient(url, token, timeout_s=60) as client:
        while not stop.is_set():
            try:
                requests["next"] += 1
                pair = client.post("/pairs/next")
                if pair is None:
                    time.sleep(0.02)
                    continue
                requests["judge"] += 1
                pick = {"id": str(uuid.uuid4()), "pair_id": pair["pair_id"], "verdict": "left"}
                client.post("/judgments", pick)
            except PrefloopError as error:
                failures.append(str(error))


def first_pair_after(admin: ApiClient, policy: str) -> float:
    """When the first pick on a pair of this policy was stored."""
    while True:
        with admin.lines("/export/jsonl", where=f"source=all,policy={policy}") as rows:
            if next(rows, None):
                return time.perf_counter()
        time.sleep(0.02)


def count_pairs(admin: ApiClient) -> tuple[int, dict[str, int]]:
    mixed, by_policy = 0, Counter[str]()
    with admin.lines("/export/jsonl", where="source=all") as rows:
        for row in filter(None, rows):
            sides = json.loads(row)
            a, b = sides["a"]["policy_id"], sides["b"]["policy_id"]
            mixed += a != b
            by_policy[a] += 1
    return mixed, dict(by_policy)


def restart(app: ServedApp, admin: ApiClient) -> float:
    begin = time.perf_counter()
    for process in psutil.Process(app.process.pid).children(recursive=True):
        if process.name().startswith("VLLM"):
            process.send_signal(signal.SIGKILL)
    while admin.get("/stats")["server"] == "up":
        time.sleep(0.05)
    while admin.get("/stats")["server"] != "up":
        time.sleep(0.05)
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
