"""Opening a data directory: one process at a time, the right schema, and one sentence otherwise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from store.database import Store, StoreBusy, StoreDown
from store.opening import migrate
from tests.stored import add_user

ROOT = Path(__file__).parent.parent


def test_a_second_process_is_told_who_is_in_the_way(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from store.database import Store\n"
    code += "try: Store.open(Path(sys.argv[1]))\nexcept Exception as e: print(type(e).__name__, e)"
    with Store.open(tmp_path) as store:
        add_user(store, "ann")  # so that there is a write-ahead log
        again = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)],
            check=False,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )
        with pytest.raises(StoreBusy):
            Store.open(tmp_path)
    said = f"Another process uses the data directory {tmp_path}."
    assert again.stdout.strip() == f"StoreBusy {said} Stop it, or choose another --data-dir."
    assert again.stderr == ""
    assert not list(tmp_path.glob("*.crash-*")), "the files of a running app are left alone"


def test_the_data_directory_is_for_its_owner_only(tmp_path: Path) -> None:
    """Also one that was there: the database holds password hashes and everybody's picks."""
    there, new = tmp_path / "there", tmp_path / "new"
    there.mkdir()
    there.chmod(0o755)
    for folder in (there, new):
        Store.open(folder).close()
        assert folder.stat().st_mode & 0o777 == 0o700


def test_the_folder_is_free_after_an_open_that_failed(tmp_path: Path) -> None:
    (tmp_path / "prefloop.duckdb").write_bytes(b"not a database" * 1000)
    for _ in range(2):
        with pytest.raises(StoreDown, match=r"cannot be used.*Restore a backup"):
            Store.open(tmp_path)
    (tmp_path / "prefloop.duckdb").unlink()
    Store.open(tmp_path).close()


def test_a_data_directory_that_is_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(StoreDown, match="cannot be used"):
        Store.open(tmp_path / "data")


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        store.write(lambda tx: tx.all("insert into schema_version values (99, 'x', now())"))
    with pytest.raises(StoreDown, match=r"newer prefloop \(schema 99\)\. Upgrade"):
        Store.open(tmp_path)


def test_migrations_are_applied_once_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "migrations"
    folder.mkdir()
    (folder / "0002_more.sql").write_text("alter table t add column b integer default 7;")
    (folder / "0001_start.sql").write_text("create table t (a integer); insert into t values (1);")
    with duckdb.connect(str(tmp_path / "db")) as root:
        for _ in range(2):
            migrate(root, folder)
        assert root.execute("select * from t").fetchall() == [(1, 7)]
        (folder / "0003_last.sql").write_text("insert into t values (2, 2);")
        migrate(root, folder)
        versions = root.execute("select version, name from schema_version order by 1").fetchall()
    assert versions == [(1, "0001_start"), (2, "0002_more"), (3, "0003_last")]


def test_a_failing_migration_leaves_no_trace(tmp_path: Path) -> None:
    folder = tmp_path / "migrations"
    folder.mkdir()
    (folder / "0001_start.sql").write_text("create table t (a integer);")
    (folder / "0002_bad.sql").write_text(
        "create table u (a integer); insert into nowhere values (1)"
    )
    with duckdb.connect(str(tmp_path / "db")) as root, pytest.raises(duckdb.Error, match="nowhere"):
        migrate(root, folder)
    with duckdb.connect(str(tmp_path / "db")) as root:
        assert root.execute("select version from schema_version").fetchall() == [(1,)]
        tables = {name for (name,) in root.execute("show tables").fetchall()}
    assert tables == {"schema_version", "t"}
