"""What the store tests put into a real store: a champion, pairs, people and their picks."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from store import judgments, pairs, policies, prompts, users
from store.database import Store
from store.importing import NewPreference, add_preferences
from store.judgments import NewJudgment
from store.pairs import Lease
from store.prompts import NewPrompt
from store.rows import Completion, Role, Source, User, Verdict

LEASE = timedelta(minutes=10)
EVERYTHING = ("everything",)  # the pool that is there from the start


def add_policy(store: Store, policy_id: str = "policy-000000", *, promote: bool = True) -> str:
    policies.add(
        store,
        policy_id,
        parent=None,
        run_id=None,
        base_model="base",
        adapter_path=f"policies/{policy_id}",
        adapter_sha256="0" * 64,
    )
    if promote:
        policies.decide(store, policy_id, "promote", "because")
    return policy_id


def add_prompt(store: Store, text: str) -> str:
    prompts.add(store, [NewPrompt([{"role": "user", "content": text}], ("tests",))], "starter")
    row = store.read_one(
        "select prompt_id from prompt where messages->>'$[0].content' = $text", {"text": text}
    )
    assert row is not None
    return row["prompt_id"]


def completion(
    text: str, seed: int = 1, policy: str = "policy-000000", end: str = "stop"
) -> Completion:
    return Completion(text, [1, 2, 3], -4.5, 3, end, policy, seed, {"temperature": 1.0})


def add_pair(
    store: Store,
    prompt: str = "What is dew?",
    a: str = "Water.",
    b: str = "Cold water on grass.",
    policy: str = "policy-000000",
    ends: tuple[str, str] = ("stop", "stop"),
    **more: Any,
) -> str:
    sides = (completion(text, n + 1, policy, ends[n]) for n, text in enumerate((a, b)))
    return pairs.add(store, add_prompt(store, prompt), [7, 8], *sides, **more)


def add_four(store: Store, prompt: str = "What is dew?", **more: Any) -> str:
    """A set of four with the texts A, B, C and D."""
    sides = (completion(text, n + 1) for n, text in enumerate("ABCD"))
    return pairs.add(store, add_prompt(store, prompt), [7, 8], *sides, **more)


def add_user(store: Store, name: str, role: Role = "annotator", source: Source = "human") -> User:
    return users.add(store, name, role, source)


def lease(
    store: Store, user: User, order: str = "ab", life: timedelta = LEASE, pools: Any = EVERYTHING
) -> Lease | None:
    """What the desk would show this annotator; a new pair in this order of its sides."""
    return pairs.lease_next(store, user.user_id, lambda n: (order + "cd")[:n], life, pools)


def show(store: Store, user: User, order: str = "ab", life: timedelta = LEASE) -> str | None:
    """The id of the pair that this annotator has on screen, or gets."""
    shown = lease(store, user, order, life)
    return shown.pair_id if shown else None


def judge(store: Store, user: User, pair_id: str, verdict: Verdict = "left", **more: Any) -> str:
    """Store a pick of a pair that was shown. Returns its id."""
    judgment_id = str(uuid.uuid4())
    assert judgments.judge(store, user, NewJudgment(judgment_id, pair_id, verdict, **more))
    return judgment_id


def pick(store: Store, user: User, verdict: Verdict = "left", **more: Any) -> str:
    """Store a pick of the next pair."""
    pair_id = show(store, user)
    assert pair_id is not None
    return judge(store, user, pair_id, verdict, **more)


def add_picks(store: Store, user: User, picks: int, verdict: Verdict = "left") -> list[str]:
    """Picks of new pairs, each of a prompt of its own."""
    start = count(store, "pair")
    done = []
    for number in range(start, start + picks):
        add_pair(store, f"Question {number}?", f"Yes {number}.", f"No {number}.")
        done.append(pick(store, user, verdict))
    return done


def add_imports(store: Store, preferences: int) -> None:
    """Many preferences at once, each of a prompt of its own."""
    rows = [
        NewPreference([{"role": "user", "content": f"Item {n}?"}], f"Good {n}.", f"Bad {n}.")
        for n in range(preferences)
    ]
    add_preferences(store, rows)


def count(store: Store, table: str) -> int:
    row = store.read_one(f"select count(*) as n from {table}")
    assert row is not None
    return row["n"]
