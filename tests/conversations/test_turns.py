"""Turns of conversations over HTTP: both answers stream from a stand-in, then are stored."""

from __future__ import annotations

import json
import uuid

import httpx
import pytest

from store import pools, prompts, users
from store.pools import Pool
from store.prompts import NewPrompt
from store.rows import User
from tests.conversations.talking import item_of, pick, turn
from tests.desk_page import DESK, POLICY
from tests.stored import add_pair
from tests.vllm_stand_in import StandIn
from tests.website import Site, error_code


def test_a_conversation_of_two_turns(site: Site, vllm: StandIn, page: httpx.Client) -> None:
    item = item_of(page)
    assert (item["kind"], item["pair_id"], item["prompt"]) == ("conversation", None, [])
    talk = item["conversation"]
    assert (talk["turn"], talk["turns"], talk["needs_message"]) == (1, 2, True)
    assert item_of(page) == item

    *pieces, last = turn(page, item, "Why do bees dance?")
    shown = last["screen"]["item"]
    assert shown["conversation"] == talk | {"needs_message": False}
    assert [(said["role"], said["content"]) for said in shown["prompt"]] == [
        ("user", "Why do bees dance?")
    ]
    texts = [answer["text"] for answer in shown["answers"]]
    assert len(set(texts)) == 2
    for at in (0, 1):
        assert "".join(part["text"] for part in pieces if part["at"] == at) == texts[at]
    assert item_of(page) == shown  # on screen until it is judged

    following = pick(page, shown, "right", edited_text="They tell where food is.")
    assert following["pair_id"] is None and following["conversation"]["turn"] == 2
    assert [said["content"] for said in following["prompt"]] == [
        "Why do bees dance?",
        "They tell where food is.",
    ]
    *_, last = turn(page, following, "And wasps?")
    assert vllm.asked[-1]["messages"] == [
        {"role": "user", "content": "Why do bees dance?"},
        {"role": "assistant", "content": "They tell where food is."},
        {"role": "user", "content": "And wasps?"},
    ]
    new = pick(page, last["screen"]["item"], "left")
    assert new["conversation"]["turn"] == 1  # its turns are used up: another one
    assert new["conversation"]["conversation_id"] != talk["conversation_id"]


def test_what_is_stored_of_a_turn(site: Site, vllm: StandIn, page: httpx.Client) -> None:
    *_, last = turn(page, item_of(page), "Why do bees dance?")
    item = last["screen"]["item"]
    row = site.store.read_one("select * from pair where pair_id = $id", {"id": item["pair_id"]})
    assert row is not None
    [asked] = vllm.asked
    assert (asked["n"], asked["stream"], asked["logprobs"]) == (2, True, True)
    assert asked["return_token_ids"] is True and asked["model"] == POLICY
    for place, side in enumerate("ab"):
        assert row[f"{side}_seed"] == asked["seed"] + place
        assert row[f"{side}_text"].endswith(f" {asked['seed'] + place}")
        assert row[f"{side}_token_ids"] == [place + 1] * 8
        assert (row[f"{side}_logprob_sum"], row[f"{side}_logprob_count"]) == (-4.0, 8)
        assert (row[f"{side}_finish_reason"], row[f"{side}_policy_id"]) == ("stop", POLICY)
        assert json.loads(row[f"{side}_sampling"]) == site.sampler.sampling.as_dict()
    assert (row["prompt_token_ids"], row["wanted"], row["turn"]) == ([7], 1, 1)
    assert row["conversation_id"] == item["conversation"]["conversation_id"]
    texts = [answer["text"] for answer in item["answers"]]
    assert sorted(texts) == sorted([row["a_text"], row["b_text"]])
    pick(page, item, "left")
    [known] = site.store.read(
        "select * from preference where pair_id = $id", {"id": row["pair_id"]}
    )
    assert (known["chosen"], known["rejected"]) == (texts[0], texts[1])


def test_a_given_opening(site: Site, user: User, pool: Pool, page: httpx.Client) -> None:
    tag = f"opening {uuid.uuid4()}"
    opening = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"{tag}?"}]
    prompts.add(site.store, [NewPrompt(opening, (tag,))], "import")  # type: ignore[arg-type]
    pools.change(site.store, pool.pool_id, tags=[tag])
    item = item_of(page)
    assert item["conversation"]["needs_message"] is False
    assert [said["content"] for said in item["prompt"]] == ["Be brief.", f"{tag}?"]
    path = f"{DESK}/conversations/{item['conversation']['conversation_id']}/turns"
    refused = page.post(path, json={"message": "Something else?"})
    assert (refused.status_code, error_code(refused)) == (422, "invalid")
    *_, last = turn(page, item, None)
    assert last["screen"]["item"]["pair_id"]


@pytest.mark.parametrize(
    ("message", "status"), [(None, 422), (" \n", 422), ("x" * 20_001, 422), ("\ud800", 422)]
)
def test_messages_that_cannot_be_sent(
    page: httpx.Client, vllm: StandIn, message: str | None, status: int
) -> None:
    item = item_of(page)
    path = f"{DESK}/conversations/{item['conversation']['conversation_id']}/turns"
    headers = {"Content-Type": "application/json"}
    answer = page.post(path, content=json.dumps({"message": message}), headers=headers)
    assert (answer.status_code, error_code(answer)) == (status, "invalid")
    assert vllm.asked == []


def test_verdicts_that_end_a_conversation(page: httpx.Client) -> None:
    for verdict in ("both_bad", "skip", "flag"):
        item = item_of(page)
        *_, last = turn(page, item, f"Is this {verdict}?")
        following = pick(page, last["screen"]["item"], verdict)
        assert following["conversation"]["turn"] == 1
        assert (
            following["conversation"]["conversation_id"]
            != (item["conversation"]["conversation_id"])
        )


def test_a_tie_goes_on_from_the_left(page: httpx.Client) -> None:
    *_, last = turn(page, item_of(page), "Why?")
    shown = last["screen"]["item"]
    following = pick(page, shown, "tie")
    assert following["prompt"][-1]["content"] == shown["answers"][0]["text"]


def test_undo_reaches_back_into_a_conversation(page: httpx.Client) -> None:
    *_, last = turn(page, item_of(page), "Why?")
    shown = last["screen"]["item"]
    pick(page, shown, "left", comment="So far.")
    back = page.post(f"{DESK}/undo").json()["screen"]["item"]
    assert back["pair_id"] == shown["pair_id"] and back["before"]["comment"] == "So far."
    assert back["conversation"] == shown["conversation"]
    following = pick(page, back, "right")
    assert following["prompt"][-1]["content"] == shown["answers"][1]["text"]


def test_a_conversation_can_be_ended(
    site: Site, user: User, pool: Pool, page: httpx.Client
) -> None:
    item = item_of(page)
    conversation_id = item["conversation"]["conversation_id"]
    with site.signed_in("annotator") as other:
        assert other.post(f"{DESK}/conversations/{conversation_id}/end").status_code == 404
        path = f"{DESK}/conversations/{conversation_id}/turns"
        assert other.post(path, json={"message": "Hello"}).status_code == 404
    add_pair(site.store, f"What is {uuid.uuid4()}?", policy=POLICY)
    pools.change(site.store, pool.pool_id, active=False)
    screen = page.post(f"{DESK}/conversations/{conversation_id}/end").json()
    assert screen["item"]["kind"] == "pair"
    again = page.post(f"{DESK}/conversations/{conversation_id}/turns", json={"message": "Hello"})
    assert (again.status_code, error_code(again)) == (404, "not_found")


def test_a_pair_on_screen_comes_before_a_conversation(
    site: Site, user: User, page: httpx.Client
) -> None:
    pair_id = add_pair(site.store, f"What is {uuid.uuid4()}?", policy=POLICY)
    assert site.desk.next_lease(user) is not None
    item = item_of(page)
    assert item["pair_id"] == pair_id
    assert pick(page, item, "left")["kind"] == "conversation"


def test_only_the_owner_of_a_language_talks(site: Site, user: User, pool: Pool) -> None:
    pools.change(site.store, pool.pool_id, language="zh-CN")
    users.set_languages(site.store, user.user_id, ["en"])
    with site.signed_in(user.name) as page:
        screen = page.post(f"{DESK}/next").json()
    assert screen["item"] is None or screen["item"]["kind"] == "pair"
