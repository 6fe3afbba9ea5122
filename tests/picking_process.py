"""Stores picks until it is killed: `python -m tests.picking_process DATA_DIR`.

Prints each id after the store acknowledged it. Four annotators work at once.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from store import users
from store.database import Store
from store.rows import User
from tests.stored import add_pair, add_policy, judge, show


def main(data_dir: Path) -> None:
    store = Store.open(data_dir)
    if store.read_one("select 1 from policy") is None:
        add_policy(store)
    people = [users.ensure(store, f"user-{n}", "annotator", "human") for n in range(4)]
    threads = [threading.Thread(target=pick_on, args=(store, user)) for user in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def pick_on(store: Store, user: User) -> None:
    number = 0
    while True:
        add_pair(store, f"Question {number % 50} of {user.name}?")
        number += 1
        if pair_id := show(store, user):
            sys.stdout.write(judge(store, user, pair_id, comment="ü" * 100) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
