"""A copy of a store that is in use."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from store.backup import backup
from store.database import Store
from store.journal import read_journal
from store.rows import Invalid
from tests.stored import add_picks, add_policy, add_user, count


def test_a_backup_made_while_picks_go_on_opens_with_all_of_them(
    store: Store, tmp_path: Path
) -> None:
    add_policy(store)
    ann, bob = add_user(store, "ann"), add_user(store, "bob")
    before = set(add_picks(store, ann, 5))
    stop, during = threading.Event(), list[str]()

    def annotate() -> None:
        while not stop.is_set():
            during.extend(add_picks(store, bob, 1))

    thread = threading.Thread(target=annotate)
    thread.start()
    names = [backup(store, tmp_path / f"copy-{number}") for number in range(3)]
    stop.set()
    thread.join(30)
    assert during, "somebody picked meanwhile"
    assert names == [["journal.jsonl", "prefloop.duckdb"]] * 3
    everyone = before | set(during)
    for number in range(3):
        with Store.open(tmp_path / f"copy-{number}") as copied:
            found = {row["judgment_id"] for row in copied.read("select * from judgment")}
            assert before <= found <= everyone
            assert copied.replayed == 0
        journal = read_journal(tmp_path / f"copy-{number}" / "journal.jsonl")
        assert {row["judgment_id"] for table, row in journal if table == "judgment"} == found
    assert {row["judgment_id"] for row in store.read("select * from judgment")} == everyone


def test_a_backup_of_a_quiet_store_has_the_same_counts(store: Store, tmp_path: Path) -> None:
    add_policy(store)
    add_picks(store, add_user(store, "ann"), 5)
    (store.data_dir / "policies" / "policy-000000").mkdir(parents=True)
    (store.data_dir / "policies" / "policy-000000" / "weights").write_text("w")
    (store.data_dir / "runs" / "run-000001" / "trainer").mkdir(parents=True)
    out = tmp_path / "it's a copy"
    assert backup(store, out) == ["journal.jsonl", "policies", "prefloop.duckdb", "runs"]
    assert (out / "policies" / "policy-000000" / "weights").read_text() == "w"
    assert not (out / "runs" / "run-000001" / "trainer").exists(), "scratch of a trainer"
    with Store.open(out) as copied:
        for table in ("judgment", "pair", "prompt", "policy", "app_user", "annotator_event"):
            assert count(copied, table) == count(store, table)


def test_a_failed_backup_leaves_nothing_and_the_next_one_works(
    store: Store, tmp_path: Path
) -> None:
    add_picks(store, add_user(store, "ann"), 0)
    policies = store.data_dir / "policies"
    policies.mkdir()
    (policies / "gone").symlink_to(tmp_path / "nowhere")  # a file that vanished meanwhile
    out = tmp_path / "backups" / "copy"
    with pytest.raises(OSError, match="gone"):
        backup(store, out)
    assert list(out.parent.iterdir()) == []
    (policies / "gone").unlink()
    for name in ("read.json.tmp", ".policy-000001.tmp"):
        (policies / name).write_text("half")
    assert backup(store, out) == ["journal.jsonl", "policies", "prefloop.duckdb"]
    assert list(out.parent.iterdir()) == [out]
    assert list((out / "policies").iterdir()) == []


def test_a_backup_takes_no_folder_that_is_there(store: Store, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="exists already"):
        backup(store, tmp_path)
    with pytest.raises(Invalid, match="inside the data directory"):
        backup(store, store.data_dir / "copy")


def test_only_its_owner_can_read_a_data_directory(tmp_path: Path) -> None:
    """Database, journal and copies hold the hashes of passwords."""
    with Store.open(tmp_path / "data") as store:
        backup(store, tmp_path / "copy")
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("data", "copy")] == [0o700] * 2
