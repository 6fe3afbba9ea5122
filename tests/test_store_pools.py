"""Pools: whose prompts are whose, and which pairs an annotator is offered."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from store import pairs, pools, prompts, users
from store.database import Store
from store.pools import Pool
from store.prompts import NewPrompt
from store.rows import Conflict, Invalid, NotFound
from tests.stored import LEASE, add_four, add_pair, add_policy, add_user, judge, lease


def add_prompts(store: Store, **tags: list[str]) -> None:
    """Prompts by text, each with its tags."""
    new = [NewPrompt([{"role": "user", "content": text}], tuple(own)) for text, own in tags.items()]
    prompts.add(store, new, "import")


def sampled_of(store: Store, pool: Pool | None) -> set[str]:
    found = prompts.least_sampled(store, "policy-000000", pool, 100)
    return {prompt.messages[0]["content"] for prompt in found}


def names(found: list[Pool]) -> list[str]:
    return [pool.name for pool in found]


def test_one_pool_is_there_from_the_start(store: Store) -> None:
    (pool,) = pools.everyone(store)
    assert (pool.pool_id, pool.name, pool.mode) == ("everything", "Everything", "pair")
    assert (pool.tags, pool.language, pool.weight, pool.annotators) == ((), None, 1.0, ())
    assert (pool.overlap_share, pool.overlap_annotators, pool.active) == (None, None, True)
    assert pools.get(store, "everything") == pool


def test_a_pool_is_added_and_changed(store: Store) -> None:
    ann = add_user(store, "ann")
    made = pools.add(
        store, " Code ", mode="best_worst", tags=["code", " sql", "code"], language="en", weight=2.5
    )
    assert (made.name, made.tags, made.active) == ("Code", ("code", "sql"), True)
    changed = pools.change(
        store, made.pool_id, name="SQL", annotators=[ann.user_id], overlap_share=0.5, language=None
    )
    assert changed == pools.get(store, made.pool_id)
    assert (changed.name, changed.annotators, changed.overlap_share) == ("SQL", (ann.user_id,), 0.5)
    assert (changed.mode, changed.weight, changed.language) == ("best_worst", 2.5, None)
    with ThreadPoolExecutor(16) as people:  # many changes of one row in one transaction
        list(people.map(lambda n: pools.change(store, made.pool_id, tags=[f"{n}"]), range(32)))
    assert names(pools.everyone(store)) == ["Everything", "SQL"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": " "}, "1 to 64 characters"),
        ({"name": "x" * 65}, "1 to 64 characters"),
        ({"name": "half \ud83d"}, "1 to 64 characters"),
        ({"mode": "triple"}, "Unknown mode"),
        ({"tags": [""]}, "tags of 1 to 64"),
        ({"tags": [f"{n}" for n in range(51)]}, "at most 50 tags"),
        ({"language": "English"}, "a code such as en"),
        ({"weight": 0}, "above 0"),
        ({"weight": float("nan")}, "above 0"),
        ({"overlap_share": 1.5}, "a share from 0 to 1"),
        ({"overlap_annotators": 0}, "From 1 to 100"),
        ({"turns": 0}, "1 to 50 turns"),
        ({"annotators": ["nobody"]}, "does not exist"),
        ({"colour": "red"}, "no field colour"),
    ],
)
def test_bad_values_are_one_sentence(store: Store, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(Invalid, match=said):
        pools.add(store, **({"name": "Code"} | fields))
    with pytest.raises(Invalid, match=said):
        pools.change(store, "everything", **fields)
    assert names(pools.everyone(store)) == ["Everything"]


def test_names_are_unique_and_one_pool_stays_active(store: Store) -> None:
    code = pools.add(store, "Code")
    with pytest.raises(Conflict, match="already a pool named"):
        pools.add(store, "code")
    with pytest.raises(Conflict, match="already a pool named"):
        pools.change(store, code.pool_id, name="Everything")
    pools.change(store, code.pool_id, name="code")
    pools.change(store, "everything", active=False)
    with pytest.raises(Conflict, match="must stay active"):
        pools.change(store, code.pool_id, active=False)
    with pytest.raises(NotFound):
        pools.change(store, "nowhere", active=True)
    with pytest.raises(NotFound):
        pools.get(store, "nowhere")


def test_a_pool_holds_its_tags_and_the_rest_goes_to_those_without(store: Store) -> None:
    add_prompts(store, a=["code"], b=["sql", "x"], c=["poem"], d=[], e=["code", "poem"])
    everything = pools.get(store, "everything")
    assert sampled_of(store, everything) == {*"abcde"}
    code = pools.add(store, "Code", tags=["code", "sql"])
    poems = pools.add(store, "Poems", tags=["poem"])
    assert sampled_of(store, code) == {*"abe"}
    assert sampled_of(store, poems) == {*"ce"}
    assert sampled_of(store, everything) == {"d"}
    assert sampled_of(store, None) == {*"abcde"}
    assert prompts.pool_sizes(store) == {"everything": 1, code.pool_id: 3, poems.pool_id: 2}
    pools.change(store, poems.pool_id, active=False)
    assert sampled_of(store, everything) == {*"cd"}
    assert prompts.pool_sizes(store) == {"everything": 2, code.pool_id: 3, poems.pool_id: 2}


def test_prompts_of_preferences_and_conversations_are_not_sampled(store: Store) -> None:
    for source in ("preferences", "conversation"):
        new = [NewPrompt([{"role": "user", "content": source}], ("code",))]
        store.write(lambda tx, new=new, source=source: prompts.insert(tx, new, source))
    code = pools.add(store, "Code", tags=["code"])
    assert sampled_of(store, code) == set()
    assert prompts.count(store) == 0 and prompts.pool_sizes(store)[code.pool_id] == 0
    add_prompts(store, conversation=[])
    assert prompts.count(store) == 1, "somebody asked for it"


def test_users_are_given_the_pools_of_their_languages(store: Store) -> None:
    pools.add(store, "English", language="en")
    pools.add(store, "Simplified", language="zh-CN")
    ann = add_user(store, "ann")

    def offered(*languages: str) -> list[str]:
        users.set_languages(store, ann.user_id, list(languages))
        return names(pools.for_user(pools.everyone(store), users.named(store, "ann")))

    assert offered() == ["Everything", "English", "Simplified"]
    assert offered("en") == ["Everything", "English"]
    assert offered("en-GB") == ["Everything", "English"]
    assert offered("zh") == ["Everything", "Simplified"]
    assert offered("zh-TW") == ["Everything"]
    assert offered("de", "zh-CN") == ["Everything", "Simplified"]


def test_assigned_pools_are_for_the_assigned(store: Store) -> None:
    ann, bob = add_user(store, "ann"), add_user(store, "bob")
    special = pools.add(store, "Special", annotators=[ann.user_id])
    found = pools.everyone(store)
    assert names(pools.for_user(found, ann)) == ["Everything", "Special"]
    assert names(pools.for_user(found, bob)) == ["Everything"]
    pools.change(store, special.pool_id, active=False)
    assert names(pools.for_user(pools.everyone(store), ann)) == ["Everything"]


def test_pairs_come_from_the_pools_that_are_named(store: Store) -> None:
    add_policy(store)
    ann = add_user(store, "ann")
    one, two, three = (pools.add(store, name).pool_id for name in ("One", "Two", "Three"))
    made = {
        pool: [add_pair(store, f"{number} of {pool}?", pool_id=pool) for number in range(2)]
        for pool in (one, two, three)
    }
    assert lease(store, ann, pools=["four"]) is None
    assert lease(store, ann, pools=[]) is None
    assert pairs.ready_by_pool(store) == {one: 2, two: 2, three: 2}
    given = []
    while seen := lease(store, ann, pools=[three, one]):
        judge(store, ann, seen.pair_id)
        given.append(seen.pair_id)
    assert given == made[three] + made[one], "by pool, and there the oldest first"
    assert pairs.ready_by_pool(store) == {two: 2}


def test_only_what_fits_the_mode_of_its_pool_is_ready(store: Store) -> None:
    """Programs do not get pairs from before a change of the mode. People judge them still: they are
    of the champion, and sampled already."""
    add_policy(store)
    ann = add_user(store, "ann")
    old = add_pair(store, "Two?")
    assert pairs.ready(store) == 1
    pools.change(store, "everything", mode="best_worst")
    assert pairs.ready(store) == 0
    four = add_four(store, "Four?")
    assert pairs.ready_by_pool(store) == {"everything": 1}
    pools.change(store, "everything", mode="conversation")
    assert pairs.ready(store) == 0
    for expected in (old, four):
        seen = lease(store, ann)
        assert seen is not None and seen.pair_id == expected
        judge(store, ann, expected, "tie")


def test_the_order_that_was_drawn_is_kept(store: Store) -> None:
    """The sides are the desk's to draw; what the store keeps must be that draw."""
    add_policy(store)
    ann = add_user(store, "ann")
    drawn = Counter[str]()
    for number in range(40):
        add_pair(store, f"Question {number}?", "A", "B")
        order = "ab" if number % 2 else "ba"
        seen = pairs.lease_next(
            store, ann.user_id, lambda _, order=order: order, LEASE, ["everything"]
        )
        assert seen is not None and seen.order == order
        assert seen.texts == tuple(order.upper())
        judge(store, ann, seen.pair_id, "left")
        drawn[order] += 1
    found = store.read("select preferred, shown_order, count(*) as n from judgment group by all")
    assert {(row["preferred"], row["shown_order"]): row["n"] for row in found} == {
        ("a", "ab"): drawn["ab"],
        ("b", "ba"): drawn["ba"],
    }
