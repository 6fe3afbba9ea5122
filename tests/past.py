"""A store with some of everything that the journal must be able to bring back."""

from __future__ import annotations

from pathlib import Path

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
from store.database import Store
from store.journal import JOURNALED, read_journal
from store.rows import Message, User
from tests.stored import (
    LEASE,
    add_four,
    add_picks,
    add_policy,
    add_user,
    completion,
    judge,
    pick,
)


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
    users.set_access(store, bob.user_id, active=False)


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


def stored_ids(store: Store) -> list[str]:
    return [row["judgment_id"] for row in store.read("select judgment_id from judgment")]


def journaled_ids(data_dir: Path) -> set[str]:
    facts = read_journal(data_dir / "journal.jsonl")
    return {row["judgment_id"] for table, row in facts if table == "judgment"}
