"""The writer: what is acknowledged is stored, what fails takes nothing else along."""

from __future__ import annotations

import json
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from store.database import Store, StoreDown, Tx
from store.journal import read_journal
from store.judgments import NewJudgment
from store.judgments import judge as store_pick
from store.rows import Conflict, Invalid, NotFound, utc_now
from tests.stored import add_pair, add_picks, add_policy, add_user, count, judge, pick, show


def test_every_acknowledged_pick_of_sixteen_threads_is_stored_and_journaled(store: Store) -> None:
    add_policy(store)
    people = [add_user(store, f"user-{number}") for number in range(16)]
    for number in range(64):
        add_pair(store, f"Question {number}?")
    with ThreadPoolExecutor(16) as pool:
        done = list(pool.map(lambda user: [pick(store, user) for _ in range(4)], people))
    acknowledged = {one for picks in done for one in picks}
    rows = {row["judgment_id"] for row in store.read("select judgment_id from judgment")}
    journal = read_journal(store.data_dir / "journal.jsonl")
    journaled = {row["judgment_id"] for table, row in journal if table == "judgment"}
    assert len(acknowledged) == 64
    assert acknowledged == rows == journaled


def test_jobs_that_wait_together_are_committed_together(store: Store) -> None:
    hold, started = threading.Event(), threading.Event()

    def slow(tx: Tx) -> None:
        started.set()
        hold.wait(10)

    with ThreadPoolExecutor(33) as pool:
        first = pool.submit(store.write, slow)
        started.wait(10)
        jobs = [pool.submit(store.write, lambda tx: tx) for _ in range(32)]
        _wait_for(lambda: store._jobs.qsize() == 32)
        hold.set()
        first.result()
    assert len({id(job.result()) for job in jobs}) == 1, "one transaction for all that waited"


def _wait_for(true: Any, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_one_failing_job_fails_alone(store: Store) -> None:
    hold, started = threading.Event(), threading.Event()

    def slow(tx: Tx) -> None:
        started.set()
        hold.wait(10)

    def broken(tx: Tx) -> None:
        tx.insert("app_user", {"user_id": "half", "seq": tx.next_seq(), "name": "half"})

    with ThreadPoolExecutor(22) as pool:
        pool.submit(store.write, slow)
        started.wait(10)
        good = [pool.submit(add_user, store, f"user-{number}") for number in range(20)]
        bad = pool.submit(store.write, broken)
        _wait_for(lambda: store._jobs.qsize() == 21)
        hold.set()
        assert {job.result().name for job in good} == {f"user-{number}" for number in range(20)}
        with pytest.raises(Exception, match="NOT NULL"):
            bad.result()
    assert count(store, "app_user") == 20


def _user_row(tx: Tx) -> dict[str, Any]:
    row = {"user_id": "u", "seq": tx.next_seq(), "name": "eve", "role": "annotator"}
    return row | {"source": "human", "created": utc_now()}


def test_nothing_of_a_job_that_raises_is_stored(store: Store) -> None:
    def work(tx: Tx) -> None:
        tx.insert("app_user", _user_row(tx))
        raise Conflict("changed my mind")

    with pytest.raises(Conflict, match="changed my mind"):
        store.write(work)
    assert count(store, "app_user") == 0
    journal = read_journal(store.data_dir / "journal.jsonl")
    assert "app_user" not in {table for table, _ in journal}


def test_what_the_journal_cannot_carry_is_not_committed(store: Store) -> None:
    def work(tx: Tx) -> None:
        tx.insert("app_user", _user_row(tx))
        tx.also_journal("judgment", {"judgment_id": object()})

    with pytest.raises(TypeError, match="does not belong in the journal"):
        store.write(work)
    assert count(store, "app_user") == 0
    assert add_user(store, "ann"), "and the writer goes on"


def test_the_same_id_again_is_not_stored_twice(store: Store) -> None:
    add_policy(store)
    ann = add_user(store, "ann")
    pair_id = add_pair(store)
    show(store, ann)
    new = NewJudgment(str(uuid.uuid4()), pair_id, "left")
    assert store_pick(store, ann, new) is True
    assert store_pick(store, ann, new) is False
    assert count(store, "judgment") == 1


def test_the_same_id_from_sixteen_threads_is_stored_once(store: Store) -> None:
    add_policy(store)
    ann = add_user(store, "ann")
    pair_id = add_pair(store)
    show(store, ann)
    new = NewJudgment(str(uuid.uuid4()), pair_id, "left")
    with ThreadPoolExecutor(16) as pool:
        stored = list(pool.map(lambda _: store_pick(store, ann, new), range(16)))
    assert sorted(stored) == [False] * 15 + [True]


def test_an_id_cannot_be_used_for_another_pick(store: Store) -> None:
    add_policy(store)
    ann = add_user(store, "ann")
    (known,) = add_picks(store, ann, 1)
    other = add_pair(store, "Another question?")
    show(store, ann)
    with pytest.raises(Conflict, match="another pick"):
        store_pick(store, ann, NewJudgment(known, other, "left"))


def test_two_tabs_cannot_judge_one_pair_twice(store: Store) -> None:
    add_policy(store)
    ann = add_user(store, "ann")
    pair_id = add_pair(store)
    show(store, ann)

    def tab(_: int) -> bool:
        try:
            judge(store, ann, pair_id)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(tab, range(8))) == 1
    assert count(store, "judgment") == 1


def test_two_annotators_cannot_judge_one_pair(store: Store) -> None:
    add_policy(store)
    ann, bob = add_user(store, "ann"), add_user(store, "bob")
    pair_id = add_pair(store)
    show(store, ann, life=timedelta(hours=-1))
    assert show(store, bob) == pair_id
    judge(store, bob, pair_id)
    with pytest.raises(Conflict, match="needs no more picks"):
        judge(store, ann, pair_id)


def test_a_pair_that_was_not_shown_cannot_be_judged(store: Store) -> None:
    add_policy(store)
    ann, bob = add_user(store, "ann"), add_user(store, "bob")
    pair_id = add_pair(store)
    show(store, ann)
    with pytest.raises(NotFound, match="not shown to you"):
        judge(store, bob, pair_id)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"verdict": "both"}, "Unknown verdict"),
        ({"strength": 4}, "strength is 1"),
        ({"strength": 0}, "strength is 1"),
        ({"strength": 2, "verdict": "tie"}, "left or right only"),
        ({"reasons": ["short"] * 21}, "At most 20"),
        ({"comment": "x" * 20_001}, "20,000"),
        ({"comment": "half a pair \ud83d"}, "not valid Unicode"),
        ({"reasons": ["\udc00"]}, "not valid Unicode"),
        ({"pair_id": "\ud800"}, "not valid Unicode"),
        ({"ms_spent": 10**20}, "ms_spent"),
    ],
    ids=lambda value: str(value)[:30].encode("ascii", "replace").decode(),
)
def test_bad_values_are_refused(values: dict[str, Any], said: str) -> None:
    usual = {"judgment_id": str(uuid.uuid4()), "pair_id": "pair", "verdict": "left"}
    with pytest.raises(Invalid, match=said):
        NewJudgment(**usual | values)


def test_any_unicode_text_comes_back_as_it_was(store: Store) -> None:
    text = "naïve 🦊 \u2028 \x00 \\ \" '"
    add_policy(store)
    ann = add_user(store, "ann")
    add_pair(store, prompt=text, a=text, b="b")
    pick(store, ann, comment=text)
    row = store.read_one(
        "select p.a_text, j.comment, t.messages from judgment j join pair p using (pair_id) "
        "join prompt t using (prompt_id)"
    )
    assert row is not None
    assert row["a_text"] == row["comment"] == json.loads(row["messages"])[0]["content"] == text


def test_a_closed_store_refuses_instead_of_waiting(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    store.close()
    store.close()
    with pytest.raises(StoreDown, match="stopping"):
        add_user(store, "ann")


@pytest.mark.parametrize(("rows", "patience", "whole"), [(10**7, 60.0, True), (10**13, 0.1, False)])
def test_the_close_waits_for_reads_and_ends_long_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, patience: float, whole: bool
) -> None:
    monkeypatch.setattr("store.database.READS_END_S", patience)
    store = Store.open(tmp_path)
    with ThreadPoolExecutor(1) as pool:
        counted = f"select count(*) as n from range({rows}) where range % 10 = 1"
        reading = pool.submit(store.read, counted)
        _wait_for(lambda: store._reading)
        store.close()
        if whole:
            assert reading.result() == [{"n": rows // 10}]
        else:
            with pytest.raises(StoreDown, match="stopping"):
                reading.result()
    with pytest.raises(StoreDown, match="stopping"):
        store.read("select 1")
    assert (tmp_path / "store.closed").exists()


def test_writes_during_the_close_are_answered(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    acknowledged: list[str] = []

    def write_on(number: int) -> None:
        for step in range(1000):
            try:
                acknowledged.append(add_user(store, f"user-{number}-{step}").name)
            except StoreDown:
                return

    threads = [threading.Thread(target=write_on, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    _wait_for(lambda: len(acknowledged) > 20)
    store.close()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    with Store.open(tmp_path) as again:
        assert again.replayed == 0
        assert {row["name"] for row in again.read("select name from app_user")} == {*acknowledged}


def test_a_full_disk_refuses_and_the_store_goes_on_later(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("store.database.LEAST_FREE_BYTES", 1 << 62)
        with pytest.raises(StoreDown, match="disk of the data directory is full"):
            add_user(store, "ann")
    assert add_user(store, "ann").name == "ann"
