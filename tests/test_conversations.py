"""Turns of conversations over HTTP: both answers stream from a stand-in, then are stored."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from store import pools, prompts, users
from store.pools import Pool
from store.prompts import NewPrompt
from store.rows import User
from tests.stored import add_pair, add_policy, add_user, count
from tests.vllm_stand_in import END, StandIn, event, piece, stand_in, streamed
from tests.website import Site, error_code, made_site

POLICY = "policy-000777"
DESK = "/api/v1/desk"


@pytest.fixture(scope="module")
def vllm() -> Iterator[StandIn]:
    with stand_in() as made:
        made.adapters[POLICY] = "there"
        yield made


@pytest.fixture(scope="module")
def site(vllm: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with made_site(tmp_path_factory.mktemp("site"), vllm.url) as made:
        add_policy(made.store, POLICY)
        yield made


@pytest.fixture(autouse=True)
def _as_it_was(vllm: StandIn) -> Iterator[None]:
    yield
    vllm.streams, vllm.gone = streamed, threading.Event()
    vllm.asked.clear()


@pytest.fixture
def user(site: Site) -> User:
    return add_user(site.store, f"annotator {uuid.uuid4()}")


@pytest.fixture
def pool(site: Site, user: User) -> Iterator[Pool]:
    """A pool of this annotator's own, without openings; it nearly always comes first."""
    made = pools.add(
        site.store,
        f"Talk {uuid.uuid4()}",
        mode="conversation",
        annotators=[user.user_id],
        turns=2,
        weight=1000,
    )
    pools.change(site.store, "everything", weight=0.001)
    yield made
    pools.change(site.store, made.pool_id, active=False)


@pytest.fixture
def page(site: Site, user: User, pool: Pool) -> Iterator[httpx.Client]:
    with site.signed_in(user.name) as client:
        yield client


def item_of(page: httpx.Client) -> dict[str, Any]:
    item: dict[str, Any] = page.post(f"{DESK}/next").json()["item"]
    return item


def turn(page: httpx.Client, item: dict[str, Any], message: str | None) -> list[dict[str, Any]]:
    """The lines of the stream."""
    path = f"{DESK}/conversations/{item['conversation']['conversation_id']}/turns"
    with page.stream("POST", path, json={"message": message}) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("application/x-ndjson")
        return [json.loads(line) for line in answer.iter_lines()]


def pick(page: httpx.Client, item: dict[str, Any], verdict: str, **more: Any) -> dict[str, Any]:
    body = {"id": str(uuid.uuid4()), "pair_id": item["pair_id"], "verdict": verdict} | more
    answer = page.post(f"{DESK}/judgments", json=body)
    assert answer.status_code == 201, answer.text
    screen: dict[str, Any] = answer.json()["screen"]
    return screen["item"]


# --- the way of a conversation ---------------------------------------------------------------


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


# --- faults -----------------------------------------------------------------------------------

WHOLE = [event({"choices": [piece(index, "Whole.", "stop")]}) for index in (0, 1)]


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ([None], "turn_failed"),
        ([WHOLE[0], None], "turn_failed"),
        ([WHOLE[0], event({"error": {"message": f"{POLICY} is dead", "code": 500}}), END],
         "turn_failed"),
        ([*WHOLE[:1], END], "turn_failed"),
        ([event({"choices": [piece(i, "Cut", "abort") for i in (0, 1)]}), END], "turn_failed"),
        ([event({"choices": [piece(i, " ", "stop") for i in (0, 1)]}), END], "turn_failed"),
        (["data: {broken", END], "turn_failed"),
    ],
)  # fmt: skip
def test_a_turn_that_fails_stores_nothing_and_can_be_sent_again(
    site: Site, vllm: StandIn, page: httpx.Client, lines: list[str | None], code: str
) -> None:
    item = item_of(page)
    before = count(site.store, "pair"), count(site.store, "prompt")
    vllm.streams = lambda body: iter(lines)
    *_, last = turn(page, item, "Why?")
    assert last.keys() == {"error"} and last["error"]["code"] == code
    assert "send the message again" in last["error"]["message"]
    assert POLICY not in json.dumps(last)
    assert (count(site.store, "pair"), count(site.store, "prompt")) == before
    assert item_of(page) == item
    vllm.streams = streamed
    *_, last = turn(page, item, "Why?")
    assert last["screen"]["item"]["pair_id"]


def test_what_the_model_cannot_answer(vllm: StandIn, page: httpx.Client) -> None:
    usual = vllm.answers
    vllm.answers = lambda body: (400, {"error": {"message": f"{POLICY}: too long"}})
    try:
        [line] = turn(page, item_of(page), "Why?")
    finally:
        vllm.answers = usual
    assert line["error"]["code"] == "turn_refused" and POLICY not in json.dumps(line)
    assert "start a new one" in line["error"]["message"]


def test_two_tabs_have_one_turn_written(site: Site, vllm: StandIn, page: httpx.Client) -> None:
    item = item_of(page)
    going, go_on = threading.Event(), threading.Event()

    def slow(body: dict[str, Any]) -> Iterator[str]:
        for number, line in enumerate(streamed(body)):
            if number == 3:
                going.set()
                go_on.wait(20)
            yield line

    vllm.streams = slow
    lines: list[Any] = []
    first = threading.Thread(target=lambda: lines.extend(turn(page, item, "Why?")))
    first.start()
    assert going.wait(20)
    with httpx.Client(base_url=site.url, cookies=page.cookies, timeout=20) as tab:
        [line] = turn(tab, item, "Why not?")
        assert line["error"]["code"] == "conflict"
        go_on.set()
        first.join()
        assert lines[-1]["screen"]["item"]["pair_id"]
        path = f"{DESK}/conversations/{item['conversation']['conversation_id']}/turns"
        late = tab.post(path, json={"message": "Why not?"})
        assert (late.status_code, error_code(late)) == (409, "conflict")
        assert item_of(tab) == lines[-1]["screen"]["item"]


def test_a_reader_who_goes_away_stops_the_request(
    site: Site, vllm: StandIn, page: httpx.Client
) -> None:
    item = item_of(page)
    before = count(site.store, "pair")

    def endless(body: dict[str, Any]) -> Iterator[str]:
        while True:
            for index in (0, 1):
                yield event({"choices": [piece(index, "and on ")]})
            time.sleep(0.02)

    vllm.streams = endless
    path = f"{DESK}/conversations/{item['conversation']['conversation_id']}/turns"
    with page.stream("POST", path, json={"message": "Why?"}) as answer:
        assert next(answer.iter_lines())
    assert vllm.gone.wait(20)
    assert count(site.store, "pair") == before
    vllm.streams = streamed
    deadline = time.monotonic() + 20
    while "screen" not in (last := turn(page, item, "Why?")[-1]):
        assert last["error"]["code"] == "conflict" and time.monotonic() < deadline
        time.sleep(0.05)


def test_no_policy_serves(site: Site, page: httpx.Client, vllm: StandIn) -> None:
    vllm.adapters.clear()
    try:
        [line] = turn(page, item_of(page), "Why?")
    finally:
        vllm.adapters[POLICY] = "there"
    assert line["error"]["code"] == "turn_failed" and POLICY not in json.dumps(line)
