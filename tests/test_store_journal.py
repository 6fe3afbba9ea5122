"""The journal when a line is torn, damaged or cannot be written: what it lacks is not promised."""

from __future__ import annotations

import resource
import signal
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from store import judgments
from store.database import Store, StoreDown
from store.judgments import NewJudgment
from tests.past import journaled_ids, stored_ids
from tests.stored import add_pair, add_picks, add_policy, add_user, show


def test_a_torn_last_line_is_cut_even_inside_a_character(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        add_policy(store)
        ann = add_user(store, "ann")
        add_picks(store, ann, 2)
    journal = tmp_path / "journal.jsonl"
    whole = journal.read_bytes()
    torn = '{"table": "judgment", "row": {"judgment_id": "1", "comment": "ü'.encode()[:-1]
    journal.write_bytes(whole + torn)
    with Store.open(tmp_path) as store:
        assert journal.read_bytes() == whole
        add_picks(store, ann, 1)
    assert len(journaled_ids(tmp_path)) == 3


def test_a_damaged_line_stops_nothing_and_is_mended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Store.open(tmp_path) as store:
        add_policy(store)
        known = add_picks(store, add_user(store, "ann"), 5)
    journal = tmp_path / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    hit = next(i for i, line in enumerate(lines) if known[2].encode() in line)
    lines[hit] = b"\xff" + lines[hit][20:]
    journal.write_bytes(b"".join(lines))
    with Store.open(tmp_path) as store:
        assert set(stored_ids(store)) == set(known)
    assert f"line {hit + 1} of" in caplog.text
    assert journaled_ids(tmp_path) == set(known)


def test_a_pick_without_its_journal_line_is_never_acknowledged(tmp_path: Path) -> None:
    """The commit went through and the journal did not: the row is there, the promise is not."""
    store = Store.open(tmp_path)
    add_policy(store)
    ann = add_user(store, "ann")
    pair_id = add_pair(store)
    show(store, ann)
    new = NewJudgment(str(uuid.uuid4()), pair_id, "left")
    with open("/dev/full", "ab", buffering=0) as full:
        kept, store._journal._file = store._journal._file, full
        for _ in range(3):  # the client tries again
            with pytest.raises(StoreDown, match="journal cannot be written"):
                judgments.judge(store, ann, new)
        store._journal._file = kept
    with pytest.raises(StoreDown):
        judgments.judge(store, ann, new)
    assert new.judgment_id not in journaled_ids(tmp_path)
    store.close()
    with Store.open(tmp_path) as store:
        assert stored_ids(store) == [new.judgment_id]
        assert new.judgment_id in journaled_ids(tmp_path), "the start brought the journal up"
        assert judgments.judge(store, ann, new) is False


def test_a_group_whose_journal_fails_is_refused_as_a_whole(tmp_path: Path) -> None:
    """A second attempt, one by one, would find the rows of the first and call them stored."""
    store = Store.open(tmp_path)
    add_policy(store)
    people = [add_user(store, f"user-{number}") for number in range(8)]
    for number in range(8):
        add_pair(store, f"Question {number}?")
    shown = [(user, show(store, user)) for user in people]
    hold = threading.Event()
    with ThreadPoolExecutor(9) as pool:
        pool.submit(store.write, lambda tx: hold.wait(10))
        store._journal.close()  # every write raises ValueError from now on
        waiting = [
            pool.submit(judgments.judge, store, user, NewJudgment(str(uuid.uuid4()), pair, "left"))
            for user, pair in shown
            if pair
        ]
        deadline = time.monotonic() + 10
        while store._jobs.qsize() < 8 and time.monotonic() < deadline:
            time.sleep(0.002)
        hold.set()
        for job in waiting:
            with pytest.raises(StoreDown):
                job.result()
    assert journaled_ids(tmp_path) == set()
    store.close()


def test_a_journal_line_written_in_half_is_taken_back(tmp_path: Path) -> None:
    """The disk fills up inside a line: what comes later must not continue it."""
    store = Store.open(tmp_path)
    add_policy(store)
    ann = add_user(store, "ann")
    add_pair(store)
    show(store, ann)
    before = (tmp_path / "journal.jsonl").read_bytes()
    known = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 30, known[1]))
        with pytest.raises(OSError, match="too large"):
            store._journal.append(b"x" * 100 + b"\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, known)
        signal.signal(signal.SIGXFSZ, ignored)
    assert (tmp_path / "journal.jsonl").read_bytes() == before
    store.close()
