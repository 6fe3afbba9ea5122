"""The line of a policy: the runs that went on from each other, back to one that began at the base.

A held-out pick says nothing of a policy whose line was trained on that prompt, and new picks move
prompts from one side of the split to the other (store/snapshots.py).
"""

from __future__ import annotations

from store import policies, snapshots
from store.database import Store
from train.run_folder import RunFolder


def trained_prompts(store: Store, policy_id: str) -> frozenset[str]:
    """Ids of the prompts that a policy and those before it in its line were trained on. The line
    ends where a run's files are gone: nobody knows any more."""
    found: set[str] = set()
    line: str | None = policy_id
    while line:
        run_id = policies.get(store, line).run_id
        folder = RunFolder(store.data_dir / "runs" / run_id) if run_id else None
        if folder is None or not (folder.data / "train.parquet").is_file():
            break
        found |= snapshots.trained_prompts(store, folder.data)
        if not (folder.path / "config.json").is_file():
            break
        config = folder.config()
        trained = config.get("parts", {}).get("dpo", config)  # of a round its policy's part
        line = trained["parent_policy"] if trained.get("start_adapter") else None
    return frozenset(found)
