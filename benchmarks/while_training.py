"""From a pick to the next pair, while nothing else runs and while a run trains, on one machine.

    python -m benchmarks.while_training [--picks 60] [--pause 1.0] [--kind dpo]

On CPU one core often belongs to the training process and one to vLLM, the pages and the store. The
run has a low priority (train.nice) and one thread (train.threads), so that the next pair comes
within half a second at the 95th percentile. The run is a real one of the starter, made too long to
end by itself; it is cancelled afterwards.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from annotate.api_client import ApiClient
from annotate.simulate import Plan, simulate, token_of
from benchmarks.next_pair import measure
from benchmarks.report import hold, percentiles_ms, write
from tests.served_app import start_app

PICKS_TO_TRAIN_ON = 100
EPOCHS = 150  # about 900 steps: some minutes, and a progress line each 18 steps
BOUND_MS = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--picks", type=int, default=60)
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between picks")
    parser.add_argument("--kind", default="dpo", choices=["sft", "rm", "dpo", "kto"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        app = start_app(Path(folder) / "data", PREFLOOP_LOOP__EVERY_PICKS="0")
        try:
            with app.client() as admin, app.client(token_of(admin, "sim-clock")) as annotator:
                simulate(admin, Plan("concise", picks=PICKS_TO_TRAIN_ON, annotators=2))
                idle, waited_idle = measure(annotator, options.picks, options.pause)
                run_id = start_training(admin, options.kind)
                training, waited = measure(annotator, options.picks, options.pause)
                steps, at_work = steps_of(admin, run_id), status_of(admin, run_id) == "running"
                if at_work:
                    admin.post(f"/runs/{run_id}/cancel")
        finally:
            app.stop()
    before, during = percentiles_ms(idle), percentiles_ms(training)
    for name, found in (("idle", before), ("while training", during)):
        print(
            f"{name:<16} p50 {found['p50']:6.1f} ms   p95 {found['p95']:6.1f} ms   n {found['n']}"
        )
    ratio = {name: during[name] / before[name] for name in ("p50", "p95")}
    print(f"{'ratio':<16} p50 {ratio['p50']:6.2f}      p95 {ratio['p95']:6.2f}")
    print(f"no pair was ready at once: {waited_idle} times idle, {waited} while training")
    print(f"the run made {steps} steps")
    write(
        "while_training",
        {
            "idle": before,
            "training": during,
            "ratio": ratio,
            "not_ready": {"idle": waited_idle, "training": waited},
            "steps": steps,
            "pause_s": options.pause,
        },
    )
    hold(
        {
            "the run was at work the whole time": at_work,
            f"p95 of the next pair below {BOUND_MS} ms while training": during["p95"] < BOUND_MS,
        }
    )


def start_training(admin: ApiClient, kind: str) -> str:
    """A run that is at its steps, and does not end by itself while it is measured."""
    settings = {"epochs": EPOCHS, "evaluations": 0, "checkpoints": 0, "report_to": "none"}
    run_id = str(admin.post("/runs", {"kind": kind, "set": settings})["run_id"])
    while not steps_of(admin, run_id):
        if (status := status_of(admin, run_id)) not in ("queued", "running"):
            raise SystemExit(f"The run is {status}: {admin.get(f'/runs/{run_id}')['reason']}")
        time.sleep(0.5)
    return run_id


def status_of(admin: ApiClient, run_id: str) -> str:
    return str(admin.get(f"/runs/{run_id}")["status"])


def steps_of(admin: ApiClient, run_id: str) -> int:
    lines = admin.get(f"/runs/{run_id}/progress")["progress"]
    return max((int(line["step"]) for line in lines), default=0)


if __name__ == "__main__":
    main()
