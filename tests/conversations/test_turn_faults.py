"""Turns that go wrong: nothing half is stored, the message can be sent again, picks go on."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from annotate.api_desk import MOST_STREAMS
from store import conversations, users
from store.pools import Pool
from store.rows import User
from tests.conversations.talking import item_of, turn
from tests.desk_page import DESK, POLICY, new_pair
from tests.stored import add_user, count
from tests.vllm_stand_in import END, StandIn, event, piece, streamed
from tests.website import Site, error_code

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


def test_a_pick_never_waits_for_streams(
    site: Site, vllm: StandIn, user: User, pool: Pool, page: httpx.Client
) -> None:
    """More streams than the web framework has threads, and all of them stall."""
    pair_id = new_pair(site)
    assert site.desk.next_lease(user) is not None
    go_on, ends = threading.Event(), list[dict[str, Any]]()

    def stalled(body: dict[str, Any]) -> Iterator[str]:
        for number, line in enumerate(streamed(body)):
            if number == 3:
                go_on.wait(60)
            yield line

    def talk() -> None:
        talker = add_user(site.store, f"talker {uuid.uuid4()}")
        headers = {"Authorization": f"Bearer {users.issue(site.store, talker.user_id, 'api')}"}
        talk_id = conversations.open(site.store, talker, pool, None).conversation_id
        with httpx.Client(base_url=site.url, headers=headers, timeout=60) as client:
            ends.append(turn(client, {"conversation": {"conversation_id": talk_id}}, "Why?")[-1])

    vllm.streams, before = stalled, len(vllm.asked)
    talking = [threading.Thread(target=talk) for _ in range(45)]
    for thread in talking:
        thread.start()
    try:
        wait_for_requests(vllm, before + MOST_STREAMS)
        body = {"id": str(uuid.uuid4()), "pair_id": pair_id, "verdict": "left"}
        assert page.post(f"{DESK}/judgments", json=body, timeout=10).status_code == 201
        assert ends == []
    finally:
        go_on.set()
        for thread in talking:
            thread.join()
    assert len(ends) == 45 and all("screen" in end for end in ends)


def wait_for_requests(vllm: StandIn, wanted: int) -> None:
    deadline = time.monotonic() + 60
    while len(vllm.asked) < wanted:
        assert time.monotonic() < deadline, f"only {len(vllm.asked)} of {wanted} came"
        time.sleep(0.05)
