"""Open the DuckDB file: lock the folder, survive a crash, migrate, compare with the journal."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import duckdb

from store.journal import JOURNALED, Fact, read_journal
from store.rows import NOT_SAMPLED, StoreBusy, StoreDown

log = logging.getLogger(__name__)

SETTINGS: dict[str, Any] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "memory_limit": "2GB",
    "threads": 2,
}
MIGRATIONS = Path(__file__).parent / "migrations"
# Tables whose rows change. A change gives the row a new `seq`, so the newer of two lines is known.
CHANGED = ("app_user", "pool", "practice_item", "conversation")
KEPT_CRASHES = 3
CHUNK = 1000  # journal lines compared at once


def hold(data_dir: Path) -> IO[bytes]:
    """The data directory for this process alone, until the file is closed. Raises StoreBusy.

    DuckDB locks its file too, but only once it opens it: before that, what a crash left behind is
    copied aside, and that must not happen to the files of a running app.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(PermissionError):  # somebody else's folder, or no such bits here
            data_dir.chmod(0o700)  # it holds password hashes
        file = open(data_dir / "store.lock", "ab")  # noqa: SIM115 - held until close()
    except OSError as error:
        raise StoreDown(
            f"The data directory {data_dir} cannot be used: {error.strerror}."
        ) from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise _busy(data_dir) from None
    return file


def connect(path: Path) -> duckdb.DuckDBPyConnection:
    """The database, without its write-ahead log when that is damaged or of another time.

    Raises StoreBusy when another program has the file open, StoreDown when it is damaged.
    """
    wal = path.with_name(path.name + ".wal")
    if wal.exists():  # the last process did not close: keep what it left before DuckDB touches it
        _copy_aside(path, wal)
    if not path.exists():
        wal.unlink(missing_ok=True)  # the log of a database that is gone
    try:
        return duckdb.connect(str(path), config=SETTINGS)
    except duckdb.Error as error:
        if "Could not set lock" in str(error):
            raise _busy(path.parent) from None
        if not any(words in str(error) for words in ("replaying WAL", "This WAL was created")):
            raise damaged(path, error) from None
    log.warning("the write-ahead log does not fit: it is kept beside the database and left out")
    wal.unlink()
    try:
        return duckdb.connect(str(path), config=SETTINGS)
    except duckdb.Error as error:
        raise damaged(path, error) from None


def damaged(path: Path, error: Exception) -> StoreDown:
    said = f"The database {path} cannot be used: {str(error).splitlines()[0].rstrip('.')}."
    if any(words in said for words in ("No space left", "Permission denied", "Read-only file")):
        return StoreDown(said)
    return StoreDown(
        f"{said} Restore a backup, or move the file away: the journal brings back every pick."
    )


def migrate(root: duckdb.DuckDBPyConnection, folder: Path = MIGRATIONS) -> None:
    """Apply numbered SQL files once each, in its own transaction with its record, then checkpoint.

    Raises StoreDown when the database was written by a newer prefloop.
    """
    root.execute(
        "create table if not exists schema_version "
        "(version integer primary key, name varchar, applied timestamp)"
    )
    done = {version for (version,) in root.execute("select version from schema_version").fetchall()}
    files = {int(file.name[:4]): file for file in sorted(folder.glob("[0-9]*_*.sql"))}
    if newer := done - set(files):
        raise StoreDown(
            f"This data directory was written by a newer prefloop (schema {max(newer)}). "
            "Upgrade prefloop."
        )
    for version in sorted(files.keys() - done):
        file = files[version]
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
    """Insert the journal's facts that the database lacks. Returns how many rows came back.

    The keys of the journal stay in the temporary table `journaled`, for `not_journaled`.
    """
    root.execute("create or replace temp table journaled (name varchar, key varchar, seq bigint)")
    facts = read_journal(journal_path)
    back = 0
    while chunk := list(itertools.islice(facts, CHUNK)):
        tables: dict[str, dict[str, dict[str, Any]]] = {}
        for table, row in chunk:
            tables.setdefault(table, {})[row[JOURNALED[table]]] = row
        back += sum(_bring_back(root, table, rows) for table, rows in tables.items())
    if back:
        for sql in MENDING:
            root.execute(sql)
    return back


MENDING = (
    # Lines of schema 1 name the left side only.
    "update judgment set shown_order = if(left_side = 'a', 'ab', 'ba') where shown_order is null",
    # Leases are not in the journal: what a pick ended would run on. One too many ended here costs
    # nothing, its pair comes back from the queue.
    """
    insert into annotator_event
    select uuid()::varchar, max(j.seq), e.user_id, 'ended', e.pair_id, e.shown_order,
        e.lease_expires, max(j.created)
    from annotator_event e join judgment j on j.pair_id = e.pair_id and j.seq > e.seq
    where e.kind <> 'ended' and e.lease_expires > make_timestamp(epoch_us(now()))
    group by e.user_id, e.pair_id, e.shown_order, e.lease_expires
    """,
)


def not_journaled(root: duckdb.DuckDBPyConnection) -> Iterator[list[Fact]]:
    """Facts that the database has and the journal lacks, after `replay`.

    A process that dies between commit and journal leaves such rows. Nobody was told that they are
    stored, but the next request with the same id will be, so the journal must get them.
    """
    for table, key in JOURNALED.items():
        # A pair that nobody judged can be sampled again: it is journaled with its judgment.
        judged = " and pair_id in (select pair_id from judgment)" if table == "pair" else ""
        missing = root.execute(
            f"select * from {table} t where not exists (select 1 from journaled j "
            f"where j.name = '{table}' and j.key = t.{key}::varchar and j.seq >= t.seq)"
            f"{judged} order by seq"
        )
        names = [column[0] for column in missing.description or ()]
        while rows := missing.fetchmany(CHUNK):
            yield [(table, dict(zip(names, row, strict=True))) for row in rows]
    root.execute("drop table journaled")


def insert_rows(
    cursor: duckdb.DuckDBPyConnection, table: str, rows: Sequence[dict[str, Any]], tail: str = ""
) -> None:
    """Append rows of equal keys in one statement. `table` and the keys never come from requests."""
    columns = tuple(rows[0])
    assert all(name.isidentifier() for name in (table, *columns))
    values = ", ".join(f"unnest(${number})" for number in range(1, len(columns) + 1))
    sql = f"insert into {table} ({', '.join(columns)}) select {values} {tail}"
    cursor.execute(sql, [[row[name] for row in rows] for name in columns])


def _bring_back(
    root: duckdb.DuckDBPyConnection, table: str, rows: dict[str, dict[str, Any]]
) -> int:
    """Insert what is missing of these rows. Returns their number."""
    key = JOURNALED[table]
    keys = list(rows)
    seqs = [row["seq"] for row in rows.values()]
    root.execute("insert into journaled select ?, unnest(?), unnest(?)", [table, keys, seqs])
    sql = f"select {key} from {table} where {key} in (select unnest(?))"
    known = {one for (one,) in root.execute(sql, [keys]).fetchall()}
    before = _count(root, table)
    missing = [row for one, row in rows.items() if one not in known]
    for _, group in itertools.groupby(missing, key=tuple):  # older lines may have fewer columns
        alike = list(group)
        try:
            insert_rows(root, table, alike)
        except duckdb.ConstraintException:  # a name or a content that the database has otherwise
            # One by one: among several rows of one statement DuckDB 2.0 takes NULL in a unique
            # column for a conflict.
            for row in alike:
                insert_rows(root, table, [row], "on conflict do nothing")
    _change(root, table, list(rows.values()))
    return _count(root, table) - before


def _change(root: duckdb.DuckDBPyConnection, table: str, rows: list[dict[str, Any]]) -> None:
    """Rows that the journal holds in a newer state than the database."""
    if table in CHANGED:
        key = JOURNALED[table]
        for row in rows:
            columns = tuple(row)
            sets = " = ?, ".join(columns)
            # Not `<`: before schema 3 a change kept its seq. The later line is the newer one.
            sql = f"update {table} set {sets} = ? where {key} = ? and seq <= ?"
            root.execute(sql, [*row.values(), row[key], row["seq"]])
    if table == "prompt" and (pool := [r for r in rows if r["source"] not in NOT_SAMPLED]):
        root.execute(
            "update prompt set source = n.source from (select unnest(?) as id, unnest(?) as source)"
            " n where prompt_id = n.id and list_contains(?, prompt.source)",
            [[r["prompt_id"] for r in pool], [r["source"] for r in pool], list(NOT_SAMPLED)],
        )


def _count(root: duckdb.DuckDBPyConnection, table: str) -> int:
    return int(root.execute(f"select count(*) from {table}").fetchall()[0][0])


def _copy_aside(path: Path, wal: Path) -> None:
    keep = path.with_name(f"{path.name}.crash-{time.time_ns()}")
    if path.exists():
        shutil.copy2(path, keep)
    shutil.copy2(wal, f"{keep}.wal")
    for old in sorted(path.parent.glob(path.name + ".crash-*.wal"))[:-KEPT_CRASHES]:
        old.unlink()
        old.with_suffix("").unlink(missing_ok=True)


def _busy(data_dir: Path) -> StoreBusy:
    return StoreBusy(
        f"Another process uses the data directory {data_dir}. "
        "Stop it, or choose another --data-dir."
    )
