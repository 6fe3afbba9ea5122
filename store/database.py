"""The one door to the DuckDB file: open and repair, migrate, read with cursors, write through one
thread.

One process owns the file. All writes go through `Store.write`: a single thread groups what is
waiting into one
transaction, commits, appends the facts to the journal, and only then answers. That removes write
conflicts as a class
and lets a hundred annotators share one disk sync.
"""

from __future__ import annotations

import logging
import queue
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Generic, TypeVar

import duckdb

from store.journal import JOURNALED, Fact, Journal, read_journal
from store.rows import PrefloopError

log = logging.getLogger(__name__)
T = TypeVar("T")

SETTINGS: dict[str, Any] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "memory_limit": "2GB",
    "threads": 2,
}
MIGRATIONS = Path(__file__).parent / "migrations"
BATCH = 200  # jobs in one transaction
LEAST_FREE_BYTES = (
    64 << 20
)  # below this nothing is accepted: DuckDB's connection does not survive a full disk


class StoreBusy(PrefloopError):
    """Another process holds the database file."""


class StoreDown(PrefloopError):
    """The store cannot write; nothing was acknowledged."""


class Tx:
    """One job's view of the writer's transaction. Facts inserted here also reach the journal."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, next_seq: Callable[[], int]) -> None:
        self._cursor = cursor
        self.next_seq = next_seq
        self.facts: list[Fact] = []

    def all(self, sql: str, params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        return _rows(self._cursor.execute(sql, params or {}))

    def one(self, sql: str, params: dict[str, Any] | None = None) -> dict[str, Any] | None:
        rows = self.all(sql, params)
        return rows[0] if rows else None

    def insert(self, table: str, row: dict[str, Any], *, journal: bool = True) -> None:
        """Append one fact. `table` and the keys of `row` come from code, never from a request."""
        self._cursor.execute(insert_sql(table, tuple(row)), list(row.values()))
        if journal:
            self.also_journal(table, row)

    def also_journal(self, table: str, row: dict[str, Any]) -> None:
        if table in JOURNALED:
            self.facts.append((table, row))


class _Job(Generic[T]):
    def __init__(self, work: Callable[[Tx], T]) -> None:
        self.work = work
        self.answer: Future[T] = Future()


class Store:
    """Open with `Store.open(data_dir)`; close it, or lose only what was never acknowledged."""

    def __init__(
        self, root: duckdb.DuckDBPyConnection, journal: Journal, data_dir: Path, replayed: int
    ) -> None:
        self._root = root
        self._journal = journal
        self.data_dir = data_dir
        self.replayed = replayed  # rows that only the journal still had
        self._seq = _last_seq(root)
        self._jobs: queue.Queue[_Job[Any] | None] = queue.Queue()
        self._broken: str | None = None
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, data_dir: Path) -> Store:
        """Open or create the store; after a crash keep copies, drop a corrupt log and replay the
        journal.

        Raises StoreBusy when another process holds it, StoreDown when the file itself is damaged.
        """
        data_dir.mkdir(parents=True, exist_ok=True)
        path, journal_path = data_dir / "prefloop.duckdb", data_dir / "journal.jsonl"
        clean = _closed_cleanly(path, journal_path)
        root = _connect(path)
        migrate(root)
        root.execute("set lock_configuration = true")
        replayed = 0 if clean else replay(root, journal_path)
        if replayed:
            log.warning(
                "%d rows were missing from the database and came back from the journal", replayed
            )
        _clean_marker(path).unlink(missing_ok=True)
        return cls(root, Journal(journal_path), data_dir, replayed)

    def read(self, sql: str, params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Rows as dicts, from a cursor of its own: any thread may call this."""
        with self._root.cursor() as cursor:
            return _rows(cursor.execute(sql, params or {}))

    def read_one(self, sql: str, params: dict[str, Any] | None = None) -> dict[str, Any] | None:
        rows = self.read(sql, params)
        return rows[0] if rows else None

    def write(self, work: Callable[[Tx], T]) -> T:
        """Run `work` in the writer's transaction; return after commit and journal sync.

        `work` may run twice (alone again when its group failed), so it must touch nothing but the transaction.
        What it raises reaches the caller, and nothing of it is stored.
        """
        if self._broken:
            raise StoreDown(self._broken)
        job = _Job(work)
        self._jobs.put(job)
        return job.answer.result()

    def copy_to(self, path: Path) -> None:
        """A consistent copy of the database; picks go on meanwhile. The name of the copy must not
        exist."""
        with self._root.cursor() as cursor:
            quoted = str(path).replace("'", "''")  # ATTACH takes no parameters
            cursor.execute("attach '" + quoted + "' as copied")
            try:
                cursor.execute("copy from database prefloop to copied")
            finally:
                cursor.execute("detach copied")

    def close(self) -> None:
        self._jobs.put(None)
        self._thread.join()
        if self._broken is None:
            self._root.execute("checkpoint")
            path = self.data_dir / "prefloop.duckdb"
            _clean_marker(path).write_text(str(self._journal.size()))
        self._journal.close()
        self._root.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        with self._root.cursor() as cursor:
            while (job := self._jobs.get()) is not None:
                self._settle(cursor, self._gather(job))

    def _gather(self, first: _Job[Any]) -> list[_Job[Any]]:
        batch = [first]
        while len(batch) < BATCH and not self._jobs.empty():
            if (job := self._jobs.get()) is None:
                self._jobs.put(None)
                break
            batch.append(job)
        return batch

    def _settle(self, cursor: duckdb.DuckDBPyConnection, batch: list[_Job[Any]]) -> None:
        """Answer every job. A job that fails must not take its neighbours along: then each runs
        alone."""
        try:
            results = self._commit(cursor, batch)
        except Exception as error:
            if isinstance(error, duckdb.FatalException):
                self._broken = "The database stopped writing (disk full?). Free some space and restart prefloop."
            if len(batch) == 1 or self._broken:
                for job in batch:
                    job.answer.set_exception(StoreDown(self._broken) if self._broken else error)
                return
            for job in batch:
                self._settle(cursor, [job])
            return
        for job, result in zip(batch, results, strict=True):
            job.answer.set_result(result)

    def _commit(self, cursor: duckdb.DuckDBPyConnection, batch: list[_Job[Any]]) -> list[Any]:
        if shutil.disk_usage(self.data_dir).free < LEAST_FREE_BYTES:
            raise StoreDown(
                "The disk of the data directory is full. Free some space; nothing was stored."
            )
        tx = Tx(cursor, self._next_seq)
        cursor.execute("begin")
        try:
            results = [job.work(tx) for job in batch]
            cursor.execute("commit")
        except BaseException:
            if not self._broken:
                _rollback(cursor)
            raise
        try:
            self._journal.append(tx.facts)
        except OSError as error:  # committed but not journaled: nobody is told "stored", and nothing more is accepted
            self._broken = f"The journal cannot be written ({error.strerror}). Free some space and restart prefloop."
            raise StoreDown(self._broken) from error
        return results

    def _next_seq(self) -> int:
        self._seq += 1  # only the writer thread comes here; gaps after a rollback are fine
        return self._seq


def insert_sql(table: str, columns: tuple[str, ...]) -> str:
    assert all(name.isidentifier() for name in (table, *columns))
    marks = ", ".join("?" * len(columns))
    return " ".join(("insert into", table, "(", ", ".join(columns), ") values (", marks, ")"))


def migrate(root: duckdb.DuckDBPyConnection, folder: Path = MIGRATIONS) -> None:
    """Apply numbered SQL files once each, in its own transaction with its record, then checkpoint.

    Raises StoreDown when the database was written by a newer prefloop.
    """
    root.execute(
        "create table if not exists schema_version (version integer primary key, name varchar, applied timestamp)"
    )
    done = {version for (version,) in root.execute("select version from schema_version").fetchall()}
    files = {int(file.name[:4]): file for file in sorted(folder.glob("[0-9]*_*.sql"))}
    if newer := done - set(files):
        raise StoreDown(
            f"This data directory was written by a newer prefloop (schema {max(newer)}). Upgrade prefloop."
        )
    for version, file in files.items():
        if version in done:
            continue
        root.execute("begin")
        try:
            root.execute(file.read_text(encoding="utf-8"))
            root.execute(
                "insert into schema_version values (?, ?, now()::timestamp)", [version, file.stem]
            )
            root.execute("commit")
        except BaseException:
            root.execute("rollback")
            raise
        root.execute("checkpoint")


def replay(root: duckdb.DuckDBPyConnection, journal_path: Path) -> int:
    """Insert the journal's facts that the database lacks. Returns how many rows came back."""
    back = 0
    root.execute("begin")
    for table, row in read_journal(journal_path):
        if table not in JOURNALED:
            raise StoreDown(
                f"The journal names the unknown table {table!r}; it is not a prefloop journal."
            )
        sql = insert_sql(table, tuple(row)) + " on conflict do nothing returning 1"
        back += len(root.execute(sql, list(row.values())).fetchall())
    root.execute("commit")
    return back


def _connect(path: Path) -> duckdb.DuckDBPyConnection:
    wal = path.with_name(path.name + ".wal")
    if wal.exists():  # the last process did not close: keep what it left before DuckDB touches it
        keep = path.with_name(f"{path.name}.crash-{time.time_ns()}")
        if path.exists():
            shutil.copy2(path, keep)
        shutil.copy2(wal, f"{keep}.wal")
        _keep_newest_crashes(path)
    try:
        return duckdb.connect(str(path), config=SETTINGS)
    except duckdb.IOException as error:
        if "lock" in str(error):
            raise StoreBusy(
                f"Another process uses the data directory {path.parent}. Stop it, or choose another --data-dir."
            ) from None
        if "replaying WAL" not in str(error):
            raise StoreDown(
                f"The database {path} cannot be opened: {_first_line(error)}. Restore a backup."
            ) from None
    except duckdb.Error as error:
        if "replaying WAL" not in str(error):
            raise StoreDown(
                f"The database {path} cannot be opened: {_first_line(error)}. Restore a backup."
            ) from None
    log.warning(
        "the write-ahead log was damaged; it is kept beside the database, the journal brings the picks back"
    )
    wal.unlink()
    return duckdb.connect(str(path), config=SETTINGS)


def _keep_newest_crashes(path: Path, keep: int = 3) -> None:
    copies = sorted(path.parent.glob(path.name + ".crash-*[0-9]"))
    for old in copies[:-keep]:
        old.unlink(missing_ok=True)
        old.with_name(old.name + ".wal").unlink(missing_ok=True)


def _closed_cleanly(path: Path, journal_path: Path) -> bool:
    marker = _clean_marker(path)
    if not (path.exists() and marker.exists() and journal_path.exists()):
        return False
    return marker.read_text() == str(journal_path.stat().st_size)


def _clean_marker(path: Path) -> Path:
    """Holds the journal's size at the last clean close; absent while the store is open."""
    return path.with_name("store.closed")


def _last_seq(root: duckdb.DuckDBPyConnection) -> int:
    tables = root.execute(
        "select table_name from duckdb_columns() where column_name = 'seq' and table_name in "
        "(select table_name from duckdb_tables())"
    ).fetchall()
    return max([root.table(name).max("seq").fetchall()[0][0] or 0 for (name,) in tables], default=0)


def _rows(result: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    if result.description is None:
        return []
    names = [column[0] for column in result.description]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def _rollback(cursor: duckdb.DuckDBPyConnection) -> None:
    try:
        cursor.execute("rollback")
    except duckdb.Error:
        log.exception(
            "rollback failed"
        )  # the transaction is gone already; the first error is the one to report


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
