"""app.json: how a command finds the app that runs on a data directory."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from store import users
from store.database import Store

ADMIN = "admin"  # the local user of the console link and of our own commands


@contextmanager
def announced(data_dir: Path, url: str, store: Store) -> Iterator[str]:
    """Write app.json for as long as the app runs; yields its token, an admin's, new each time."""
    admin = users.ensure(store, ADMIN, "admin", "human")
    users.end_tokens(store, admin.user_id, "app.json")
    token = users.issue(store, admin.user_id, "api", "app.json")
    path = data_dir / "app.json"
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump({"url": url, "pid": os.getpid(), "token": token}, file)
    try:
        yield token
    finally:
        path.unlink(missing_ok=True)


def running_app(data_dir: Path) -> dict[str, Any] | None:
    """What app.json says, when an app of that address answers."""
    try:
        found: dict[str, Any] = json.loads((data_dir / "app.json").read_text())
        httpx.get(found["url"] + "/healthz", timeout=5).raise_for_status()
    except (OSError, ValueError, KeyError, httpx.HTTPError):
        return None  # none was started, or it was killed and left the file
    return found


def as_typed() -> str:
    """How the console script of this environment is called from here."""
    script = Path(sys.executable).parent / "prefloop"
    return os.path.relpath(script) if script.exists() else "prefloop"
