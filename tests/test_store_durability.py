"""What a crash, a damaged file or a full disk leaves: every acknowledged pick, in both files."""

from __future__ import annotations

import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from store import (
    conversations,
    flags,
    guidelines,
    judgments,
    pairs,
    policies,
    pools,
    practice,
    users,
)
from store.database import Store, StoreDown
from store.journal import JOURNALED, read_journal
from store.judgments import NewJudgment
from store.rows import Message, User
from tests.stored import (
    LEASE,
    add_four,
    add_pair,
    add_picks,
    add_policy,
    add_user,
    completion,
    count,
    judge,
    pick,
    show,
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


def stored_ids(store: Store) -> list[str]:
    return [row["judgment_id"] for row in store.read("select judgment_id from judgment")]


def journaled_ids(data_dir: Path) -> set[str]:
    facts = read_journal(data_dir / "journal.jsonl")
    return {row["judgment_id"] for table, row in facts if table == "judgment"}


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


def make_history(store: Store) -> None:
    """Some of everything that the journal must be able to bring back."""
    add_policy(store)
    add_policy(store, "policy-000001")
    add_policy(store, "policy-000002", promote=False)
    policies.decide(store, "policy-000002", "reject", "worse")
    policies.decide(store, "policy-000000", "rollback", "better")
    ann, bob = add_user(store, "ann"), add_user(store, "bob", "researcher", "simulated")
    add_four(store, "Which of four?")
    pick(store, ann, "ranked", best=3, worst=0, guidelines_version=1)
    taken_back = add_picks(store, ann, 6)[2]
    judgments.retract(store, ann, taken_back, LEASE)
    add_picks(store, bob, 3, "skip")
    pick(store, ann, "right", strength=2, reasons=["short", "warm"], comment="ü", edited_text="\n")
    make_desk_history(store, ann, bob)
    users.set_active(store, bob.user_id, False)


def make_desk_history(store: Store, ann: User, bob: User) -> None:
    pools.change(store, "everything", weight=2.5, tags=["t"])
    code = pools.add(store, "Code", mode="conversation", annotators=[ann.user_id])
    pools.change(store, code.pool_id, name="SQL", language="en", overlap_share=0.5)
    guidelines.publish(store, bob, "# Be kind")
    guidelines.publish(store, bob, "# Be brief")
    item = practice.save(
        store,
        messages=[{"role": "user", "content": "ü?"}],
        left_text="a",
        right_text="b",
        verdict="tie",
        explanation="so",
    )
    practice.answer(store, ann, item.practice_id, "left")
    practice.remove(store, item.practice_id)
    (flagged,) = add_picks(store, ann, 1, "flag")
    flags.resolve(store, bob, flagged, "removed", "private")
    talk = conversations.open(store, ann, code, None)
    asked: list[Message] = [{"role": "user", "content": "Hello?"}]
    prompt_id = conversations.begin_turn(store, talk.conversation_id, asked)
    turn = {"conversation_id": talk.conversation_id, "turn": 1}
    pair_id = pairs.add(store, prompt_id, [1], completion("A"), completion("B"), **turn)
    pairs.lease_pair(store, ann.user_id, pair_id, lambda n: "ba"[:n], LEASE)
    judge(store, ann, pair_id)
    conversations.end(store, ann, talk.conversation_id)


def history(store: Store) -> dict[str, list[dict[str, object]]]:
    """All journaled tables; of the pairs those that somebody judged."""
    found = {name: store.read(f"select * from {name} order by seq") for name in JOURNALED}
    judged = "where pair_id in (select pair_id from judgment)"
    found["pair"] = store.read(f"select * from pair {judged} order by seq")
    return found


def next_seq(store: Store) -> int:
    return store.write(lambda tx: tx.next_seq())


def test_a_rebuilt_database_lets_no_disabled_user_in(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        users.set_active(store, add_user(store, "ann").user_id, False)
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
