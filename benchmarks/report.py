"""What every benchmark prints and keeps: figures as JSON, and the machine's load beside them."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any

RESULTS = Path(__file__).parent / "results"


def percentiles_ms(seconds: list[float]) -> dict[str, float]:
    cuts = quantiles(seconds, n=100, method="inclusive")
    return {"p50": 1000 * median(seconds), "p95": 1000 * cuts[94], "n": len(seconds)}


def write(name: str, figures: dict[str, Any]) -> None:
    """Keep the figures as results/NAME.json."""
    machine = {"cores": len(os.sched_getaffinity(0)), "load": os.getloadavg(), "time": time.time()}
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{name}.json"
    file.write_text(json.dumps({"machine": machine, **figures}, indent=1) + "\n")
    load = ", ".join(f"{value:.1f}" for value in machine["load"])
    print(
        f"machine: {machine['cores']} cores, load {load}; figures in {file.relative_to(Path.cwd())}"
    )


def hold(claims: dict[str, bool]) -> None:
    """Ends with an error that names the claims which these figures do not bear out."""
    if broken := [claim for claim, holds in claims.items() if not holds]:
        raise SystemExit("Does not hold here: " + "; ".join(broken))
