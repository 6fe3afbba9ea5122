"""What a crash, a damaged file or a full disk leaves: every acknowledged pick, in both files."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from store import (
    users,
)
from store.database import Store, StoreDown
from tests.past import history, journaled_ids, make_history, stored_ids
from tests.stored import (
    add_pair,
    add_picks,
    add_policy,
    add_user,
    count,
    pick,
)

ROOT = Path(__file__).parent.parent


def kill_while_picking(data_dir: Path, after_s: float) -> set[str]:
    """kill -9 a process that stores picks. Returns the ids it acknowledged."""
    command = [sys.executable, "-m", "tests.picking_process", str(data_dir)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()  # it runs
        time.sleep(after_s)
        process.kill()
        lines = [first, *process.stdout]
    assert first, "the process ended before its first pick"
    return {line.strip() for line in lines if line.endswith("\n")}


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str]]:
    """What a killed process left, with its write-ahead log, and what it had acknowledged."""
    data_dir = tmp_path_factory.mktemp("killed")
    acknowledged = kill_while_picking(data_dir, 0.5)
    assert (data_dir / "prefloop.duckdb.wal").stat().st_size > 1000
    return data_dir, acknowledged


def test_kill_9_at_any_moment_loses_no_acknowledged_pick(tmp_path: Path) -> None:
    draw, acknowledged = random.Random(9), set[str]()
    for _ in range(4):
        acknowledged |= kill_while_picking(tmp_path, draw.uniform(0, 0.4))
        with Store.open(tmp_path) as store:
            stored = stored_ids(store)
            assert len(stored) == len(set(stored))
            assert acknowledged <= set(stored)
            assert journaled_ids(tmp_path) == set(stored)
    assert len(acknowledged) > 10


@pytest.mark.parametrize("damage", ["flip", "flip header", "cut", "missing", "zeros"])
def test_a_damaged_write_ahead_log_loses_no_acknowledged_pick(
    killed: tuple[Path, set[str]], tmp_path: Path, damage: str
) -> None:
    left, acknowledged = killed
    draw = random.Random(damage)
    for attempt in range(4):
        data_dir = tmp_path / str(attempt)
        shutil.copytree(left, data_dir)
        wal = data_dir / "prefloop.duckdb.wal"
        content = bytearray(wal.read_bytes())
        if damage.startswith("flip"):
            at = draw.randrange(40 if damage == "flip header" else len(content))
            content[at] ^= draw.randrange(1, 256)
        elif damage == "cut":
            del content[draw.randrange(len(content)) :]
        elif damage == "zeros":
            at = draw.randrange(len(content) - 500)
            content[at : at + 500] = bytes(500)
        wal.write_bytes(content)
        if damage == "missing":
            wal.unlink()
        with Store.open(data_dir) as store:
            assert acknowledged <= set(stored_ids(store))
            assert store.read("select * from preference") is not None
            assert pick_goes_on(store)


def pick_goes_on(store: Store) -> bool:
    user = users.named(store, "user-0")
    add_pair(store, "And now?")
    return pick(store, user) in stored_ids(store)


def test_what_a_crash_left_is_kept_beside_the_database(
    killed: tuple[Path, set[str]], tmp_path: Path
) -> None:
    data_dir = tmp_path / "data"
    shutil.copytree(killed[0], data_dir)
    database, log = ((data_dir / f"prefloop.duckdb{end}").read_bytes() for end in ("", ".wal"))
    Store.open(data_dir).close()
    (kept_log,) = data_dir.glob("prefloop.duckdb.crash-*.wal")
    assert kept_log.read_bytes() == log
    assert kept_log.with_suffix("").read_bytes() == database


def test_only_the_newest_crashes_are_kept(killed: tuple[Path, set[str]], tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    shutil.copytree(killed[0], data_dir)
    for _ in range(5):
        shutil.copy2(killed[0] / "prefloop.duckdb.wal", data_dir)
        Store.open(data_dir).close()
    assert len(list(data_dir.glob("*.crash-*"))) == 2 * 3


@pytest.mark.parametrize("gone", ["database", "database but not its log"])
def test_a_lost_database_is_rebuilt_from_the_journal(tmp_path: Path, gone: str) -> None:
    data_dir = tmp_path / "data"
    with Store.open(data_dir) as store:
        make_history(store)
        before = history(store)
        if "not its log" in gone:
            shutil.copy2(data_dir / "prefloop.duckdb.wal", tmp_path)
    (data_dir / "prefloop.duckdb").unlink()
    if "not its log" in gone:
        shutil.copy2(tmp_path / "prefloop.duckdb.wal", data_dir)
    with Store.open(data_dir) as store:
        assert history(store) == before
        there = 1  # the pool that a new database starts with
        assert store.replayed == sum(len(rows) for rows in before.values()) - there
        assert next_seq(store) > max(row["seq"] for rows in before.values() for row in rows)
    with Store.open(data_dir) as store:
        assert store.replayed == 0


def next_seq(store: Store) -> int:
    return store.write(lambda tx: tx.next_seq())


def test_a_rebuilt_database_lets_no_disabled_user_in(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        users.set_access(store, add_user(store, "ann").user_id, active=False)
    (tmp_path / "prefloop.duckdb").unlink()
    with Store.open(tmp_path) as store:
        assert not users.named(store, "ann").active


def test_a_lost_journal_is_written_again(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        make_history(store)
        before = history(store)
    (tmp_path / "journal.jsonl").unlink()
    Store.open(tmp_path).close()
    (tmp_path / "prefloop.duckdb").unlink()
    with Store.open(tmp_path) as store:
        assert history(store) == before


def test_an_older_copy_of_the_database_catches_up(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with Store.open(data_dir) as store:
        add_policy(store)
        ann = add_user(store, "ann")
        add_picks(store, ann, 3)
    shutil.copy2(data_dir / "prefloop.duckdb", tmp_path / "older")
    with Store.open(data_dir) as store:
        add_picks(store, ann, 4)
    shutil.copy2(tmp_path / "older", data_dir / "prefloop.duckdb")
    with Store.open(data_dir) as store:
        assert count(store, "judgment_live") == 7


def test_a_clean_close_leaves_nothing_to_replay(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        make_history(store)
    assert not (tmp_path / "prefloop.duckdb.wal").exists()
    with Store.open(tmp_path) as store:
        assert store.replayed == 0


def test_a_damaged_database_is_one_sentence_and_the_journal_brings_the_picks_back(
    tmp_path: Path,
) -> None:
    with Store.open(tmp_path) as store:
        make_history(store)
        before = history(store)
    database = tmp_path / "prefloop.duckdb"
    content = bytearray(database.read_bytes())
    content[5000] ^= 0xFF
    database.write_bytes(content)
    with pytest.raises(StoreDown) as refused:
        Store.open(tmp_path)
    assert "\n" not in str(refused.value) and "move the file away" in str(refused.value)
    database.rename(tmp_path / "damaged")
    with Store.open(tmp_path) as store:
        assert history(store) == before
