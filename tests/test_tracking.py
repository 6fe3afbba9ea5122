"""trackio, the tracker that is on by default, keeps to this machine: files, and nothing else."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

# As transformers' TrackioCallback calls it. Python reports every socket and process to the hook.
TRACKED = """
import json, sys
seen = []
watched = ("socket.connect", "socket.bind", "socket.getaddrinfo", "subprocess.Popen", "os.fork")
sys.addaudithook(lambda name, found: seen.append(name) if name in watched else None)
import trackio
trackio.init(project="prefloop", name="run-000001", resume="allow")
for step in range(3):
    trackio.log({"train/loss": 1 / (step + 1), "train/global_step": step})
trackio.finish()
print(json.dumps(seen))
"""


def test_trackio_writes_files_and_opens_no_connection(tmp_path: Path) -> None:
    env = os.environ | {"TRACKIO_DIR": str(tmp_path / "trackio"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", TRACKED],
        env=env, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []
    with closing(sqlite3.connect(tmp_path / "trackio" / "prefloop.db")) as database:
        rows = database.execute("select step, metrics from metrics order by step").fetchall()
    assert [json.loads(metrics)["train/loss"] for _, metrics in rows] == [1, 0.5, 1 / 3]
