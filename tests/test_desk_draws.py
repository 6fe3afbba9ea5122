"""What an annotator gets next, of pools with pairs and of pools with conversations."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from annotate.desk import Desk
from annotate.sampler import Sampler, SamplerConfig
from annotate.views import Item
from store import pools
from store.database import Store
from store.ids import uuid7
from store.judgments import NewJudgment
from store.rows import User
from tests.stored import add_pair, add_policy, add_prompt, add_user, count
from tests.vllm_stand_in import StandIn, stand_in
from train.base_model import BaseModel
from train.policy.client import PolicyClient
from train.policy.server import PolicyServer
from train.policy.vllm import PolicyConfig


@pytest.fixture
def vllm() -> Iterator[StandIn]:
    with stand_in() as made:
        made.adapters["policy-000000"] = "there"
        yield made


@pytest.fixture
def sampler(store: Store, vllm: StandIn) -> Iterator[Sampler]:
    """One that nobody has started yet, and that makes no pair before somebody waits."""
    add_policy(store)
    client = PolicyClient.over_url(vllm.url, None)
    made = Sampler(store, client, SamplerConfig(ready=0), seed=1)
    yield made
    made.stop()
    client.close()


@pytest.fixture
def desk(store: Store, sampler: Sampler, tmp_path: Path) -> Desk:
    server = PolicyServer(PolicyConfig(), BaseModel("base", tmp_path, 1), tmp_path / "server.log")
    return Desk(store, sampler, server, rng=random.Random(1))


@pytest.fixture
def user(store: Store) -> User:
    return add_user(store, "ann")


def look_until_there(desk: Desk, user: User) -> Item:
    deadline = time.monotonic() + 20
    while (item := desk.screen(user).item) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return item


def test_who_could_get_a_pair_waits_for_it(store: Store, desk: Desk, user: User) -> None:
    pools.add(store, "Talk", mode="conversation", weight=0.001)
    for _ in range(3):
        assert desk.screen(user).item is None
    assert desk.sampler.waits(user)
    pair_id = add_pair(store)
    assert desk.screen(user).item.pair_id == pair_id  # type: ignore[union-attr]
    assert not desk.sampler.waits(user)
    stored, screen = desk.judge_and_show(user, NewJudgment(uuid7(), pair_id, "left"))
    assert stored and screen.item is None and screen.waiting is not None
    assert desk.sampler.waits(user)
    assert count(store, "conversation") == 0


def test_waiting_longer_does_not_end_in_a_talk(store: Store, desk: Desk) -> None:
    """A pair was drawn: drawing again with each look would end in a conversation."""
    pools.add(store, "Talk", mode="conversation")
    people = [add_user(store, f"user {number}") for number in range(40)]
    waiting = [user for user in people if desk.screen(user).item is None]
    assert 7 < len(waiting) < 33  # half, four standard errors either way
    for user in waiting:
        assert [desk.screen(user).item for _ in range(5)] == [None] * 5


def test_weights_hold_with_the_buffer_off(store: Store, desk: Desk, sampler: Sampler) -> None:
    for number in range(9):
        add_prompt(store, f"Question {number}?")
    pools.add(store, "Talk", mode="conversation")
    sampler.start()
    kinds = [look_until_there(desk, add_user(store, f"user {number}")).kind for number in range(40)]
    assert 7 < kinds.count("pair") < 33
    assert kinds.count("pair") + kinds.count("conversation") == 40


def test_a_pool_that_can_give_no_pair_is_not_waited_for(
    store: Store, desk: Desk, sampler: Sampler, user: User
) -> None:
    pools.add(store, "Talk", mode="conversation", weight=0.001)
    sampler.start()
    assert look_until_there(desk, user).kind == "conversation"
    assert sampler.out_of_prompts == {"everything"}


def test_who_has_conversations_only_gets_one(store: Store, desk: Desk, user: User) -> None:
    add_prompt(store, "Why?")
    talk = pools.add(store, "Talk", mode="conversation", annotators=[user.user_id])
    pools.change(store, "everything", annotators=[add_user(store, "other").user_id])
    item = desk.screen(user).item
    assert item is not None and item.conversation is not None
    assert pools.get(store, talk.pool_id).turns == item.conversation.turns
