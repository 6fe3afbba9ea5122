"""Conversations: what was said follows from the picks, also after undo and a revision."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from store import conversations, judgments, pairs, pools, prompts
from store.conversations import Conversation
from store.database import Store
from store.judgments import NewJudgment
from store.pools import Pool
from store.prompts import NewPrompt
from store.rows import Conflict, Message, NotFound, User
from tests.stored import LEASE, add_policy, add_user, completion, judge, show


@pytest.fixture
def ann(store: Store) -> User:
    add_policy(store)
    return add_user(store, "ann")


@pytest.fixture
def pool(store: Store) -> Pool:
    return pools.add(store, "Talks", mode="conversation", turns=3)


def says(text: str) -> Message:
    return {"role": "user", "content": text}


def answers(text: str) -> Message:
    return {"role": "assistant", "content": text}


def begin(store: Store, user: User, talk: Conversation, text: str | None, order: str = "ab") -> str:
    """Start the turn at work as the desk does, with this message."""
    asked = [*talk.messages, says(text)] if text else talk.messages
    prompt_id = conversations.begin_turn(store, talk.conversation_id, asked)
    return sample(store, user, talk, prompt_id, order)


def sample(store: Store, user: User, talk: Conversation, prompt_id: str, order: str = "ab") -> str:
    """Show this turn, answered by A and B with its number."""
    sides = (completion(f"{side}{talk.turn}") for side in "AB")
    turn = {"conversation_id": talk.conversation_id, "turn": talk.turn}
    pair_id = pairs.add(store, prompt_id, [1], *sides, pool_id=talk.pool_id, **turn)
    shown = pairs.lease_pair(store, user.user_id, pair_id, lambda n: order[:n], LEASE)
    assert shown.kind == "conversation"
    assert (shown.conversation_id, shown.turn) == (talk.conversation_id, talk.turn)
    return pair_id


def at_work(store: Store, user: User) -> Conversation:
    talk = conversations.current_of(store, user.user_id)
    assert talk is not None
    return talk


def test_the_chosen_answer_goes_on_up_to_the_last_turn(store: Store, ann: User, pool: Pool) -> None:
    talk = conversations.open(store, ann, pool, None)
    assert (talk.turn, talk.turns, talk.messages, talk.needs_message) == (1, 3, [], True)
    judge(store, ann, begin(store, ann, talk, "One?"), "right")
    talk = at_work(store, ann)
    assert (talk.turn, talk.needs_message, talk.pair_id) == (2, True, None)
    assert talk.messages == [says("One?"), answers("B1")]
    pair_id = begin(store, ann, talk, "Two?", "ba")
    talk = at_work(store, ann)
    assert (talk.pair_id, talk.needs_message) == (pair_id, False)
    assert talk.messages[-1] == says("Two?")
    judge(store, ann, pair_id, "tie")
    talk = at_work(store, ann)
    assert talk.messages[-1] == answers("B2"), "of a tie the side shown left"
    judge(store, ann, begin(store, ann, talk, "Three?"), "left")
    assert conversations.current_of(store, ann.user_id) is None
    found = store.read("select len(messages::json[]) as n, chosen from preference order by seq")
    assert [(row["n"], row["chosen"]) for row in found] == [(1, "B1"), (5, "A3")]


def test_an_edited_answer_goes_on_as_edited(store: Store, ann: User, pool: Pool) -> None:
    talk = conversations.open(store, ann, pool, None)
    judge(store, ann, begin(store, ann, talk, "One?"), "left", edited_text="Better.")
    assert at_work(store, ann).messages == [says("One?"), answers("Better.")]


def test_a_given_prompt_starts_without_a_message(store: Store, ann: User, pool: Pool) -> None:
    opening = [says("Hi"), answers("Hello"), says("Go on")]
    prompts.add(store, [NewPrompt(opening)], "import")
    (given,) = prompts.search(store, None, 1)
    talk = conversations.open(store, ann, pool, given)
    assert (talk.messages, talk.needs_message, talk.prompt_id) == (opening, False, given.prompt_id)
    begin(store, ann, talk, None)
    assert prompts.count(store) == 1, "it is the pool's own prompt"


@pytest.mark.parametrize("verdict", ["both_bad", "skip", "flag"])
def test_what_has_no_answer_to_go_on_from_ends_it(
    store: Store, ann: User, pool: Pool, verdict: Any
) -> None:
    talk = conversations.open(store, ann, pool, None)
    judge(store, ann, begin(store, ann, talk, "One?"), verdict)
    assert conversations.current_of(store, ann.user_id) is None
    with pytest.raises(NotFound, match="over"):
        conversations.begin_turn(store, talk.conversation_id, [says("Two?")])
    judgments.undo(store, ann, LEASE)
    assert at_work(store, ann).turn == 1


def test_undo_walks_back_through_the_turns(store: Store, ann: User, pool: Pool) -> None:
    talk = conversations.open(store, ann, pool, None)
    first = begin(store, ann, talk, "One?")
    judge(store, ann, first)
    second = begin(store, ann, at_work(store, ann), "Two?")
    judge(store, ann, second)
    begin(store, ann, at_work(store, ann), "Three?")
    for pair_id, turn in ((second, 2), (first, 1)):
        undone = judgments.undo(store, ann, LEASE)
        assert undone is not None and undone.pair_id == pair_id
        held = pairs.held_by(store, ann.user_id)
        assert held is not None and held.pair_id == pair_id
        assert (at_work(store, ann).turn, at_work(store, ann).pair_id) == (turn, pair_id)
    judge(store, ann, first, "left")
    assert at_work(store, ann).pair_id == second, "the same choice: what was sampled still fits"
    judgments.undo(store, ann, LEASE)
    judge(store, ann, first, "right")
    talk = at_work(store, ann)
    assert (talk.turn, talk.pair_id, talk.messages[-1]) == (2, None, answers("B1"))
    assert pairs.held_by(store, ann.user_id) is None, "what followed the other answer is gone"


def test_a_revised_last_turn_changes_what_goes_on(store: Store, ann: User, pool: Pool) -> None:
    talk = conversations.open(store, ann, pool, None)
    pair_id = begin(store, ann, talk, "One?")
    judgment_id = judge(store, ann, pair_id, "left")
    begin(store, ann, at_work(store, ann), "Two?")
    new = NewJudgment(str(uuid.uuid4()), pair_id, "right")
    assert judgments.revise(store, ann, judgment_id, new)
    talk = at_work(store, ann)
    assert (talk.pair_id, talk.messages) == (None, [says("One?"), answers("B1")])
    assert pairs.held_by(store, ann.user_id) is None


def test_a_turn_is_judged_once_also_from_two_tabs(store: Store, ann: User, pool: Pool) -> None:
    talk = conversations.open(store, ann, pool, None)
    assert conversations.open(store, ann, pool, None) == talk
    asked = [[says(text)] for text in ("One?", "Uno?")]
    both = [conversations.begin_turn(store, talk.conversation_id, messages) for messages in asked]
    one, two = (sample(store, ann, talk, prompt_id) for prompt_id in both)
    judge(store, ann, one)
    with pytest.raises(Conflict, match="turn is judged already"):
        judge(store, ann, two)
    assert at_work(store, ann).messages[0] == says("One?")
    assert pairs.held_by(store, ann.user_id) is None


def test_a_turn_must_go_on_from_what_was_said(store: Store, ann: User, pool: Pool) -> None:
    talk = conversations.open(store, ann, pool, None)
    judge(store, ann, begin(store, ann, talk, "One?"))
    for wrong in (
        [says("Two?")],
        [says("One?"), answers("B1"), says("Two?")],
        [says("One?"), answers("A1")],
        [says("One?"), answers("A1"), says("Two?"), says("Three?")],
    ):
        with pytest.raises(Conflict, match="another tab"):
            conversations.begin_turn(store, talk.conversation_id, wrong)


def test_an_ended_conversation_stays_ended(store: Store, ann: User, pool: Pool) -> None:
    bob = add_user(store, "bob")
    talk = conversations.open(store, ann, pool, None)
    begin(store, ann, talk, "One?")
    with pytest.raises(NotFound):
        conversations.end(store, bob, talk.conversation_id)
    for _ in range(2):
        conversations.end(store, ann, talk.conversation_id)
    assert conversations.current_of(store, ann.user_id) is None
    assert pairs.held_by(store, ann.user_id) is None
    following = conversations.open(store, ann, pool, None)
    assert following.conversation_id != talk.conversation_id


def test_talks_that_are_over_are_not_read_again(store: Store, ann: User, pool: Pool) -> None:
    """Used up, broken off or ended: only what is at work costs anything."""
    for number, verdict in enumerate(["left", "both_bad", "left"]):
        talk = conversations.open(store, ann, pool, None)
        while current := conversations.current_of(store, ann.user_id):
            judge(store, ann, begin(store, ann, current, f"{number} {current.turn}"), verdict)  # type: ignore[arg-type]
            if number == 2:
                conversations.end(store, ann, talk.conversation_id)
        with pytest.raises(NotFound):
            conversations.get(store, ann.user_id, talk.conversation_id)
    values = {"user": ann.user_id, "ending": list(conversations.ENDING)}
    assert store.read(conversations.AT_WORK, values) == []
    judgments.undo(store, ann, LEASE)
    assert store.read(conversations.AT_WORK, values) == [], "what was ended stays so"
    judgments.undo(store, ann, LEASE)
    (row,) = store.read(conversations.AT_WORK, values)
    assert at_work(store, ann).conversation_id == row["conversation_id"], "broken off no more"


def test_a_conversation_is_its_annotators_own(store: Store, ann: User, pool: Pool) -> None:
    bob = add_user(store, "bob")
    talk = conversations.open(store, ann, pool, None)
    pair_id = begin(store, ann, talk, "One?")
    assert conversations.current_of(store, bob.user_id) is None
    assert show(store, bob) is None, "turns are in no queue"
    assert pairs.ready(store) == 0
    with pytest.raises(NotFound):
        pairs.lease_pair(store, bob.user_id, pair_id, lambda n: "ab"[:n], LEASE)
    with pytest.raises(NotFound):
        conversations.get(store, bob.user_id, talk.conversation_id)
    assert conversations.get(store, ann.user_id, talk.conversation_id).pair_id == pair_id
