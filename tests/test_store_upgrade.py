"""A data directory of schema 1: opened by this version, with everything that stood in it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from store import judgments, pairs, pools, users
from store.database import Store
from store.exporting import rows, select
from store.journal import JOURNALED
from store.judgments import NewJudgment
from store.opening import MIGRATIONS, migrate
from tests.stored import LEASE, show

# ann judged pair 1 and took her pick of pair 2 back; pair 3 is on her screen, pair 5 an import.
ROWS = """
insert into app_user values
    ('user-1', 1, 'ann', 'annotator', 'human', true, '2026-03-01 12:30:15.25'),
    ('user-2', 2, 'import', 'annotator', 'import', true, '2026-03-01 12:30');
insert into api_token values ('hash', 'user-1', 'label', 'api', '2026-03-01 12:30', null, null);
insert into prompt values
    ('prompt-1', 3, '[{"role": "user", "content": "Why?"}]', ['t'], 'starter', 'h', '2026-03-01');
insert into pair
select 'pair-' || n, 3 + n, 'prompt-1', 'sampled', [7],
    'a' || n || ' ü', [1, 2], -1.5, 2, 'stop', 'policy-000000', 1, '{}',
    'b' || n || ' ü', [1, 2], -1.5, 2, 'length', 'policy-000000', 2, '{}', null, '2026-03-01'
from range(1, 5) numbers (n);
insert into pair (pair_id, seq, prompt_id, source, a_text, b_text, import_key, created)
values ('pair-5', 8, 'prompt-1', 'import', 'a5 ü', 'b5 ü', 'key', '2026-03-01');
insert into annotator_event
select 'event-' || n, 8 + n, 'user-1', 'shown', 'pair-' || n, if(n = 2, 'a', 'b'),
    make_timestamp(epoch_us(now())) + interval 1 hour, '2026-03-01'
from range(1, 4) numbers (n);
insert into annotator_event values
    ('event-4', 21, 'user-1', 'reopened', 'pair-2', 'a', '2026-03-01', '2026-03-01');
insert into judgment values
    ('judgment-1', 12, 'pair-1', 'user-1', 'left', 'b', 'b', 2, ['short'], 'ü', 'edit', 900,
     'human', '2026-03-01'),
    ('judgment-2', 13, 'pair-2', 'user-1', 'tie', null, 'a', null, [], null, null, 900,
     'human', '2026-03-01'),
    ('judgment-5', 14, 'pair-5', 'user-2', 'left', 'a', 'a', null, [], null, null, null,
     'import', '2026-03-01');
insert into retraction values ('retraction-1', 15, 'judgment-2', 'user-1', '2026-03-01');
insert into policy values
    ('policy-000000', 16, null, null, 'base', 'policies/policy-000000', '0', '2026-03-01');
insert into promotion values
    ('promotion-1', 17, 'policy-000000', 'promote', 'first', null, '2026-03-01');
insert into run values ('run-000001', 18, 'rm', null, null, '{}', '2026-03-01');
insert into run_event values
    ('event-9', 19, 'run-000001', 'done', null, null, null, '{}', '2026-03-01');
insert into snapshot values
    ('snapshot-1', 20, 'run-000001', 'folder', '0', 1, 1, '{}', 14, 'query', 1, '2026-03-01');
"""
Rows = dict[str, list[dict[str, Any]]]


def read_all(root: duckdb.DuckDBPyConnection) -> Rows:
    found: Rows = {}
    for (table,) in root.execute("select table_name from duckdb_tables()").fetchall():
        result = root.execute(f"select * from {table} order by all")
        names = [column[0] for column in result.description or ()]
        found[table] = [dict(zip(names, row, strict=True)) for row in result.fetchall()]
    return found


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Rows]:
    """Database and journal as the first version left them, and what stood in the tables."""
    data_dir = tmp_path_factory.mktemp("schema-1")
    first = data_dir / "migrations"
    first.mkdir()
    shutil.copy2(MIGRATIONS / "0001_facts.sql", first)
    with duckdb.connect(str(data_dir / "prefloop.duckdb")) as root:
        migrate(root, first)
        root.execute(ROWS)
        before = read_all(root)
    facts = [(table, row) for table in JOURNALED for row in before.get(table, ())]
    lines = [json.dumps({"table": table, "row": row}, default=str) + "\n" for table, row in facts]
    (data_dir / "journal.jsonl").write_text("".join(lines))
    del before["schema_version"]
    return data_dir, before


@pytest.fixture(params=["both", "journal only", "database only"])
def upgraded(
    written: tuple[Path, Rows], tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Store]:
    data_dir = tmp_path / "data"
    shutil.copytree(written[0], data_dir)
    gone = {"journal only": "prefloop.duckdb", "database only": "journal.jsonl"}
    (data_dir / gone.get(request.param, "migrations/0001_facts.sql")).unlink()
    with Store.open(data_dir) as store:
        yield store


def test_every_row_of_schema_1_is_there(upgraded: Store, written: tuple[Path, Rows]) -> None:
    rebuilt = not upgraded.read("select * from run")
    for table, before in written[1].items():
        if rebuilt and table not in JOURNALED:
            continue
        for row in before:
            key, value = next(iter(row.items()))
            found = upgraded.read_one(f"select * from {table} where {key} = $key", {"key": value})
            assert found is not None, row
            same = row.keys() & found.keys()
            assert {name: found[name] for name in same} == {name: row[name] for name in same}
            assert row.keys() - same <= {"left_side"}
    ends = upgraded.read("select pair_id from annotator_event where kind = 'ended' order by all")
    assert rebuilt or [row["pair_id"] for row in ends] == ["pair-1", "pair-2"]


def test_sides_and_verdicts_mean_what_they_meant(upgraded: Store) -> None:
    exported = list(rows(upgraded, "jsonl", select(where="source=all")))
    shown = [(row["verdict"], row["shown_left"], row["shown_order"]) for row in exported]
    assert shown == [("left", "b", "ba"), ("left", "a", "ab")]
    assert (exported[0]["edit"], exported[0]["c"], exported[0]["best"]) == ("edit", None, None)
    preferences = upgraded.read("select * from preference order by seq")
    found = [(row["chosen"], row["rejected"], row["cut"], row["comparison"]) for row in preferences]
    assert found == [("b1 ü", "a1 ü", True, 0), ("a5 ü", "b5 ü", False, 0)]


def test_work_goes_on_where_it_was(upgraded: Store) -> None:
    ann = users.named(upgraded, "ann")
    assert [pool.pool_id for pool in pools.everyone(upgraded)] == ["everything"]
    held = pairs.held_by(upgraded, ann.user_id)
    if upgraded.read_one("select 1 from annotator_event"):
        assert held is not None and (held.pair_id, held.order) == ("pair-3", "ba")
        assert held.texts == ("b3 ü", "a3 ü")
    else:  # leases are not in the journal
        assert held is None
    done = []
    for _ in range(3):  # 3 and 4 of the pairs, and 2, whose pick was taken back
        pair_id = show(upgraded, ann)
        assert pair_id is not None
        assert judgments.judge(upgraded, ann, NewJudgment(f"new {pair_id}", pair_id, "right"))
        done.append(pair_id)
    assert sorted(done) == ["pair-2", "pair-3", "pair-4"]
    assert show(upgraded, ann) is None
    undone = judgments.undo(upgraded, ann, LEASE)
    assert undone is not None and undone.pair_id == done[-1]


def test_the_journal_of_both_versions_rebuilds_it(
    written: tuple[Path, Rows], tmp_path: Path
) -> None:
    data_dir = tmp_path / "data"
    shutil.copytree(written[0], data_dir)
    with Store.open(data_dir) as store:
        ann = users.named(store, "ann")
        pair_id = show(store, ann)
        assert pair_id is not None
        judgments.judge(store, ann, NewJudgment("new", pair_id, "left"))
        before = store.read("select * from judgment order by seq")
    (data_dir / "prefloop.duckdb").unlink()
    with Store.open(data_dir) as store:
        assert store.read("select * from judgment order by seq") == before
