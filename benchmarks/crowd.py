"""Many API annotators at a steady pace: the load beside a measurement, or what is measured.

    PREFLOOP_TOKEN=... python -m benchmarks.crowd URL --annotators 200 --every 10 --seconds 60

Each annotator starts at a moment of its own within the first interval, picks the pair it holds, and
gets the next one with the answer. The report goes to standard output as one JSON object. It is a
process of its own, so that the load does not share an interpreter with the one who measures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import httpx

from annotate.api_client import ApiClient
from annotate.simulate import token_of

VERDICTS = ("left", "right", "left", "right", "tie", "both_bad")


@dataclass
class Report:
    picks: int = 0
    store_s: list[float] = field(default_factory=list)  # POST /judgments with the next pair, each
    errors: Counter[str] = field(default_factory=Counter)
    empty: int = 0  # picks whose answer held no next pair


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--annotators", type=int, required=True)
    parser.add_argument("--every", type=float, required=True, help="seconds between picks of one")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--warm", type=float, default=180, help="longest wait for a full buffer")
    options = parser.parse_args()
    with ApiClient(options.url, os.environ["PREFLOOP_TOKEN"], timeout_s=60) as admin:
        tokens = [token_of(admin, f"crowd-{n}") for n in range(options.annotators)]
    report = asyncio.run(_crowd(options.url, tokens, options.every, options.seconds, options.warm))
    print(json.dumps(asdict(report)))


def start(
    url: str, token: str, annotators: int, every: float, seconds: float
) -> subprocess.Popen[str]:
    """The crowd as a child process; it writes "picking" to stderr when the first pick begins."""
    numbers = {"annotators": annotators, "every": every, "seconds": seconds}
    flags = [text for name, value in numbers.items() for text in (f"--{name}", str(value))]
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.crowd", url, *flags],
        env=os.environ | {"PREFLOOP_TOKEN": token},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_picking(crowd: subprocess.Popen[str]) -> None:
    assert crowd.stderr is not None
    said = []
    for line in crowd.stderr:
        if line.strip() == "picking":
            return
        said.append(line)
    raise SystemExit("The crowd ended before its first pick: " + "".join(said[-20:]))


@contextmanager
def ending(crowd: subprocess.Popen[str]) -> Iterator[None]:
    """The crowd picks on while the block runs and is ended with it."""
    try:
        yield
        if crowd.poll() is not None:
            raise SystemExit("The crowd ended before the measurement did.")
    finally:
        crowd.kill()
        crowd.communicate()


def report_of(crowd: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = crowd.communicate(timeout=600)
    if crowd.returncode:
        raise SystemExit(f"The crowd failed: {err[-2000:]}")
    return dict(json.loads(out))


async def _crowd(url: str, tokens: list[str], every: float, seconds: float, warm: float) -> Report:
    report = Report()
    limits = httpx.Limits(max_connections=len(tokens), max_keepalive_connections=len(tokens))
    async with httpx.AsyncClient(base_url=url, timeout=30, limits=limits) as http:
        held = await _first_pairs(http, tokens, warm)
        await _wait_full(http, warm)
        print("picking", file=sys.stderr, flush=True)
        end = time.monotonic() + seconds
        await asyncio.gather(
            *(_annotate(http, token, held[token], every, end, report) for token in tokens)
        )
    return report


async def _first_pairs(
    http: httpx.AsyncClient, tokens: list[str], warm: float
) -> dict[str, dict[str, Any] | None]:
    """Everybody asks once, so that the sampler counts them; then until each has a pair."""
    held: dict[str, dict[str, Any] | None] = dict.fromkeys(tokens)
    end = time.monotonic() + warm
    while None in held.values() and time.monotonic() < end:
        for token in (token for token, pair in held.items() if pair is None):
            held[token] = await _next_pair(http, token)
        await asyncio.sleep(0.5)
    return held


async def _wait_full(http: httpx.AsyncClient, warm: float) -> None:
    """Until no more pairs are being made ahead."""
    end, before = time.monotonic() + warm, -1
    while time.monotonic() < end:
        metrics = (await http.get("/metrics")).text
        ready = int(metrics.split("\nprefloop_ready_pairs ")[1].split()[0])
        if ready == before:
            return
        before = ready
        await asyncio.sleep(5)


async def _annotate(
    http: httpx.AsyncClient,
    token: str,
    pair: dict[str, Any] | None,
    every: float,
    end: float,
    report: Report,
) -> None:
    chance = random.Random(token)
    due = time.monotonic() + chance.uniform(0, every)
    while due < end:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        due += every
        try:
            pair = pair or await _next_pair(http, token)
            if pair is not None:
                pair = await _pick(http, token, pair["pair_id"], chance.choice(VERDICTS), report)
        except httpx.HTTPError as error:
            report.errors[type(error).__name__] += 1
            pair = None


async def _pick(
    http: httpx.AsyncClient, token: str, pair_id: str, verdict: str, report: Report
) -> dict[str, Any] | None:
    body = {"id": str(uuid.uuid4()), "pair_id": pair_id, "verdict": verdict}
    begin = time.perf_counter()
    answer = await http.post(
        "/api/v1/judgments", params={"next": True}, json=body, headers=_bearer(token)
    )
    report.store_s.append(time.perf_counter() - begin)
    if answer.status_code != 201:
        report.errors[f"HTTP {answer.status_code}"] += 1
        return None
    report.picks += 1
    following: dict[str, Any] | None = answer.json()["next"]
    report.empty += following is None
    return following


async def _next_pair(http: httpx.AsyncClient, token: str) -> dict[str, Any] | None:
    answer = await http.post("/api/v1/pairs/next", headers=_bearer(token))
    answer.raise_for_status()
    return None if answer.status_code == 204 else dict(answer.json())


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


if __name__ == "__main__":
    main()
