"""From a pick to the next pair, over the HTTP API, with one annotator.

    python -m benchmarks.next_pair [--picks 200] [--pause 1.0]

Measured: POST /judgments and POST /pairs/next one after the other, the buffer warm (a pause between
picks as a fast person makes it). The rival is the same product without a buffer: the pick, then two
completions sampled on demand by the same vLLM, as tools do that sample when the page is opened. The
ratio is rival over prefloop.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

from annotate.api_client import ApiClient
from annotate.simulate import token_of
from benchmarks.report import percentiles_ms, write
from tests.served_app import start_app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--picks", type=int, default=200)
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between picks")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        app = start_app(Path(folder) / "data", PREFLOOP_LOOP__EVERY_PICKS="0")
        try:
            with app.client() as admin, app.client(token_of(admin, "sim-clock")) as annotator:
                buffered, waited = measure(annotator, options.picks, options.pause)
                on_demand = measure_on_demand(admin, annotator, options.picks // 4, options.pause)
        finally:
            app.stop()
    ours, rival = percentiles_ms(buffered), percentiles_ms(on_demand)
    for name, found in (("with the buffer", ours), ("without", rival)):
        print(
            f"{name:<16} p50 {found['p50']:6.1f} ms   p95 {found['p95']:6.1f} ms   n {found['n']}"
        )
    ratio = [rival[name] / ours[name] for name in ("p50", "p95")]
    print(f"{'ratio':<16} p50 {ratio[0]:6.1f}      p95 {ratio[1]:6.1f}")
    print(f"{waited} times no pair was ready at once")
    write(
        "next_pair",
        {"buffer": ours, "on_demand": rival, "not_ready": waited, "pause_s": options.pause},
    )


def measure(annotator: ApiClient, picks: int, pause_s: float) -> tuple[list[float], int]:
    """Seconds from sending a pick to having the next pair; how often none was ready at once."""
    seconds, waited = [], 0
    pair = first_pair(annotator)
    for _ in range(picks):
        time.sleep(pause_s)
        begin = time.perf_counter()
        annotator.post("/judgments", pick_of(pair))
        pair = annotator.post("/pairs/next")
        if pair is None:
            waited += 1
            pair = first_pair(annotator)
        seconds.append(time.perf_counter() - begin)
    return seconds, waited


def measure_on_demand(
    admin: ApiClient, annotator: ApiClient, picks: int, pause_s: float
) -> list[float]:
    seconds = []
    prompts = admin.get("/prompts", limit=picks)["prompts"]
    for seed, prompt in enumerate(prompts):
        pair = first_pair(annotator)
        time.sleep(pause_s)
        begin = time.perf_counter()
        annotator.post("/judgments", pick_of(pair))
        admin.post(
            "/policies/policy-000000/sample",
            {"messages": prompt["messages"], "n": 2, "seed": 2 * seed},
        )
        seconds.append(time.perf_counter() - begin)
    return seconds


def first_pair(annotator: ApiClient) -> dict[str, Any]:
    while (pair := annotator.post("/pairs/next")) is None:
        time.sleep(0.02)
    return dict(pair)


def pick_of(pair: dict[str, Any]) -> dict[str, str]:
    return {"id": str(uuid.uuid4()), "pair_id": pair["pair_id"], "verdict": "left"}


if __name__ == "__main__":
    main()
