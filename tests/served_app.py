"""`prefloop serve` as a real child process, for slow tests and benchmarks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from annotate.api_client import ApiClient

ROOT = Path(__file__).parent.parent
START_S = 240.0  # app and vLLM on two busy cores


@dataclass
class ServedApp:
    """`prefloop serve` as a child process on a free port."""

    data_dir: Path
    process: subprocess.Popen[bytes]
    url: str
    token: str

    def client(self, token: str | None = None) -> ApiClient:
        return ApiClient(self.url, token or self.token, timeout_s=60)

    def link(self, name: str = "admin") -> str:
        with self.client() as client:
            return self.url + client.post(f"/users/{name}/link")["path"]

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)

    def kill(self) -> None:
        """As a crash does it: nothing is cleaned up."""
        self.process.kill()
        self.process.wait(60)


def start_app(data_dir: Path, *flags: str, wait_up: bool = True, **env: str) -> ServedApp:
    """Start the real command and wait until its policy server is up. Raises AssertionError."""
    data_dir.mkdir(parents=True, exist_ok=True)
    (data_dir / "app.json").unlink(missing_ok=True)
    command = [sys.executable, "app.py", "serve", "--data-dir", str(data_dir), "--port", "0"]
    with open(data_dir / "console.log", "ab") as console:
        process = subprocess.Popen(
            [*command, "--no-browser", *flags],
            cwd=ROOT,
            env={**os.environ, **env},
            stdout=console,
            stderr=subprocess.STDOUT,
        )
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert process.poll() is None, (data_dir / "console.log").read_text()
        if found := _announced(data_dir):
            served = ServedApp(data_dir, process, found["url"], found["token"])
            if not wait_up or _is_up(served):
                return served
        time.sleep(0.2)
    process.kill()
    raise AssertionError("the app did not come up: " + (data_dir / "console.log").read_text())


def _announced(data_dir: Path) -> dict[str, str] | None:
    try:
        found: dict[str, str] = json.loads((data_dir / "app.json").read_text())
    except (OSError, ValueError):
        return None
    return found


def _is_up(served: ServedApp) -> bool:
    with served.client() as client:
        return bool(client.get("/stats")["server"] == "up")
