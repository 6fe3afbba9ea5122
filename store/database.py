"""The one door to the DuckDB file: read with cursors, write through one thread.

One process owns the file. All writes go through `Store.write`: a single thread groups what is
waiting into one transaction, commits, appends the facts to the journal, and only then answers.
That removes write conflicts as a class and lets a hundred annotators share one disk sync.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Generic, TypeVar

import duckdb

from store import opening
from store.ids import uuid7
from store.journal import JOURNALED, Fact, Journal, as_lines
from store.rows import StoreBusy, StoreDown

__all__ = ["Read", "Store", "StoreBusy", "StoreDown", "Tx"]

log = logging.getLogger(__name__)
T = TypeVar("T")
# `Store.read` or `Tx.all`: what only reads runs outside and inside a transaction.
Read = Callable[[str, dict[str, Any]], list[dict[str, Any]]]

BATCH = 200  # jobs in one transaction
# Below this nothing is accepted: DuckDB's connection does not survive a full disk.
LEAST_FREE_BYTES = 64 << 20
STOPPING = "prefloop is stopping; ask again when it is back."
READS_END_S = 5.0  # what reads for longer when the store closes is interrupted


class Tx:
    """One group's view of the writer's transaction. Facts inserted here also reach the journal."""

    def __init__(
        self,
        cursor: duckdb.DuckDBPyConnection,
        next_seq: Callable[[], int],
        memo: dict[str, Any],
    ) -> None:
        self._cursor = cursor
        self.next_seq = next_seq
        # Kept from one transaction to the next. One may be rolled back, so it holds hints only.
        self.memo = memo
        self.facts: list[Fact] = []

    def all(self, sql: str, params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        return _rows(self._cursor.execute(sql, params or {}))

    def one(self, sql: str, params: dict[str, Any] | None = None) -> dict[str, Any] | None:
        rows = self.all(sql, params)
        return rows[0] if rows else None

    def insert(self, table: str, row: dict[str, Any], *, journal: bool = True) -> None:
        """Append one fact. `table` and the keys of `row` come from code, never from a request."""
        self._cursor.execute(_insert_sql(table, tuple(row)), list(row.values()))
        if journal:
            self.also_journal(table, row)

    def insert_all(self, table: str, rows: Sequence[dict[str, Any]]) -> None:
        """Like `insert` for rows of equal keys, many times faster."""
        for start in range(0, len(rows), 5000):
            opening.insert_rows(self._cursor, table, rows[start : start + 5000])
        for row in rows:
            self.also_journal(table, row)

    def update(self, table: str, key: str, row: dict[str, Any]) -> None:
        """Put `row`, which has all columns and a new seq, in the place of the one of its key."""
        columns = tuple(row)
        assert all(name.isidentifier() for name in (table, key, *columns))
        sets = ", ".join(f"{name} = ?" for name in columns)
        sql = f"update {table} set {sets} where {key} = ?"
        self._cursor.execute(sql, [*row.values(), row[key]])
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
        self,
        root: duckdb.DuckDBPyConnection,
        journal: Journal,
        data_dir: Path,
        replayed: int,
        held: contextlib.ExitStack,
    ) -> None:
        self._root = root
        self._journal = journal
        self.data_dir = data_dir
        self.replayed = replayed  # rows that only the journal still had
        self._held = held
        self._seq = _last_seq(root)
        self._memo: dict[str, Any] = {}
        self._jobs: queue.Queue[_Job[Any] | None] = queue.Queue()
        self._gate = threading.Condition()  # nothing enters the queue after its closing None
        self._reading: set[duckdb.DuckDBPyConnection] = set()
        self._closed = False
        self._broken: str | None = None
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, data_dir: Path) -> Store:
        """Open or create the store; after a crash bring database and journal together.

        Copies of what the crash left stay beside the database, a corrupt write-ahead log is
        dropped, and the journal is replayed. Raises StoreBusy when another process holds the
        folder, StoreDown when the database file itself is damaged.
        """
        path, journal_path = data_dir / "prefloop.duckdb", data_dir / "journal.jsonl"
        with contextlib.ExitStack() as held:
            held.enter_context(opening.hold(data_dir))
            root = held.enter_context(opening.connect(path))
            try:
                opening.migrate(root)
                root.execute("set lock_configuration = true")
                clean = _marker(data_dir).exists() and _marker(data_dir).read_text() == _mark(
                    root, journal_path
                )
                _marker(data_dir).unlink(missing_ok=True)
                replayed = 0 if clean else opening.replay(root, journal_path)
                journal = held.enter_context(contextlib.closing(Journal(journal_path)))
                for facts in () if clean else opening.not_journaled(root):
                    journal.append(as_lines(facts))
            except duckdb.Error as error:
                raise opening.damaged(path, error) from None
            if replayed:
                log.warning("%d rows were missing and came back from the journal", replayed)
            return cls(root, journal, data_dir, replayed, held.pop_all())

    def read(self, sql: str, params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Rows as dicts, from a cursor of its own: any thread may call this."""
        with self._cursor() as cursor:
            return _rows(cursor.execute(sql, params or {}))

    def read_one(self, sql: str, params: dict[str, Any] | None = None) -> dict[str, Any] | None:
        rows = self.read(sql, params)
        return rows[0] if rows else None

    def write(self, work: Callable[[Tx], T]) -> T:
        """Run `work` in the writer's transaction; return after commit and journal sync.

        `work` may run twice (alone again when its group failed), so it must touch nothing but the
        transaction and its hints. What it raises reaches the caller, and nothing of it is stored.
        """
        job = _Job(work)
        with self._gate:
            if self._closed:
                raise StoreDown("prefloop is stopping; nothing was stored.", "stopping")
            self._jobs.put(job)
        return job.answer.result()

    @contextlib.contextmanager
    def _cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """One to read with; `close()` waits for it. Raises StoreDown while the store closes."""
        with self._gate:
            if self._closed:
                raise StoreDown(STOPPING, "stopping")
            cursor = self._root.cursor()
            self._reading.add(cursor)
        try:
            with cursor:
                yield cursor
        except duckdb.InterruptException:
            raise StoreDown(STOPPING, "stopping") from None
        finally:
            with self._gate:
                self._reading.remove(cursor)
                self._gate.notify_all()

    def copy_to(self, path: Path) -> None:
        """A consistent copy of the database; picks go on meanwhile. `path` must not exist."""
        alias = "copy_" + uuid7().replace("-", "")  # attached names are shared by all cursors
        quoted = str(path).replace("'", "''")  # ATTACH takes no parameters
        with self._cursor() as cursor:
            cursor.execute(f"attach '{quoted}' as {alias}")
            try:
                cursor.execute(f"copy from database prefloop to {alias}")
            finally:
                cursor.execute(f"detach {alias}")

    def close(self) -> None:
        """Settle what is waiting, then let the folder go. A second call does nothing."""
        with self._gate:
            if self._closed:
                return
            self._closed = True
            self._jobs.put(None)
        self._thread.join()
        self._end_reads()
        with self._held:
            if self._broken is None:
                self._root.execute("checkpoint")
                _marker(self.data_dir).write_text(_mark(self._root, self._journal.path))

    def _end_reads(self) -> None:
        """DuckDB refuses to close a connection while a cursor of it is at work."""
        with self._gate:
            if not self._gate.wait_for(lambda: not self._reading, READS_END_S):
                for cursor in self._reading:
                    cursor.interrupt()
                self._gate.wait_for(lambda: not self._reading, READS_END_S)

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
        """Answer every job. One that fails must not take its neighbours along: each runs alone."""
        try:
            results = self._commit(cursor, batch)
        # Whatever a job raises belongs to its caller, and the writer must outlive it: this is the
        # edge of the thread.
        except Exception as error:  # noqa: BLE001
            if isinstance(error, duckdb.FatalException):
                self._broken = (
                    "The database stopped writing (disk full?). Free some space and restart "
                    "prefloop."
                )
            if self._broken:
                error = StoreDown(self._broken, "store_broken")
            elif len(batch) > 1:
                for job in batch:
                    self._settle(cursor, [job])
                return
            for job in batch:
                job.answer.set_exception(error)
        else:
            for job, result in zip(batch, results, strict=True):
                job.answer.set_result(result)

    def _commit(self, cursor: duckdb.DuckDBPyConnection, batch: list[_Job[Any]]) -> list[Any]:
        """Run the jobs in one transaction and journal their facts. Raises what a job raises."""
        if self._broken:
            raise StoreDown(self._broken, "store_broken")
        if shutil.disk_usage(self.data_dir).free < LEAST_FREE_BYTES:
            raise StoreDown(
                "The disk of the data directory is full. Free some space; nothing was stored.",
                "disk_full",
            )
        tx = Tx(cursor, self._next_seq, self._memo)
        cursor.execute("begin")
        try:
            results = [job.work(tx) for job in batch]
            lines = as_lines(tx.facts)  # what cannot be journaled must fail before the commit
            cursor.execute("commit")
        except BaseException:
            _rollback(cursor)
            raise
        try:
            self._journal.append(lines)
        except (OSError, ValueError) as error:
            # Committed but not journaled. A job that ran again now would find its own row, call it
            # stored and leave the journal without it, so nothing more is accepted; the next start
            # brings the journal up to the database.
            said = error.strerror if isinstance(error, OSError) else str(error)
            self._broken = (
                f"The journal cannot be written ({said}). Free some space and restart prefloop."
            )
            raise
        return results

    def _next_seq(self) -> int:
        self._seq += 1  # only the writer thread comes here; gaps after a rollback are fine
        return self._seq


def _insert_sql(table: str, columns: tuple[str, ...]) -> str:
    assert all(name.isidentifier() for name in (table, *columns))
    marks = ", ".join("?" * len(columns))
    return f"insert into {table} ({', '.join(columns)}) values ({marks})"


def _marker(data_dir: Path) -> Path:
    """Tells the state at the last clean close; absent while the store is open."""
    return data_dir / "store.closed"


def _mark(root: duckdb.DuckDBPyConnection, journal_path: Path) -> str:
    """Bytes of the journal and the last seq: an older copy put in place of either is noticed."""
    size = journal_path.stat().st_size if journal_path.exists() else -1
    return f"{size} {_last_seq(root)}"


def _last_seq(root: duckdb.DuckDBPyConnection) -> int:
    tables = root.execute(
        "select table_name from duckdb_columns() where column_name = 'seq' and table_name in "
        "(select table_name from duckdb_tables())"
    ).fetchall()
    every = " union all ".join(f"select max(seq) as seq from {name}" for (name,) in tables)
    return int(root.execute(f"select coalesce(max(seq), 0) from ({every})").fetchall()[0][0])


def _rows(result: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    if result.description is None:
        return []
    names = [column[0] for column in result.description]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def _rollback(cursor: duckdb.DuckDBPyConnection) -> None:
    try:
        cursor.execute("rollback")
    except duckdb.Error:  # the transaction is gone already; the first error is the one to report
        log.exception("rollback failed")
