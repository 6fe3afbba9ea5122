"""The HTTP API and the research page's functions over HTTP: picks, exports, blindness."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from store import pairs, policies, runs
from store.rows import Completion
from tests.stored import add_pair, add_policy, add_prompt, add_user, count
from tests.website import Site, error_code, made_site, press

POLICY, SEED = "policy-000777", 987_654_321
TOKEN, LOGPROB = 1_123_581_321, -314159.25  # long, so that no time or id holds them by chance


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with made_site(tmp_path_factory.mktemp("site")) as made:
        add_policy(made.store, POLICY)
        yield made


@pytest.fixture
def annotator(site: Site) -> Iterator[httpx.Client]:
    """A new annotator, who has seen no pair and made no pick yet."""
    name = f"annotator {uuid.uuid4()}"
    add_user(site.store, name)
    with site.signed_in(name) as client:
        yield client


@pytest.fixture(scope="module")
def researcher(site: Site) -> Iterator[httpx.Client]:
    with site.signed_in("researcher") as client:
        yield client


def ask_pair(client: httpx.Client) -> dict[str, Any]:
    answer = client.post("/api/v1/pairs/next")
    assert answer.status_code == 200
    return answer.json()


def new_pick(pair_id: str, verdict: str = "left", **more: Any) -> dict[str, Any]:
    return {"id": str(uuid.uuid4()), "pair_id": pair_id, "verdict": verdict} | more


def post(client: httpx.Client, pick: dict[str, Any]) -> httpx.Response:
    return client.post("/api/v1/judgments", json=pick)


# --- picks --------------------------------------------------------------------------------------


def test_pick_cycle(site: Site, annotator: httpx.Client) -> None:
    pair_id = add_pair(site.store, "What is ice?", policy=POLICY)
    shown = ask_pair(annotator)
    assert shown["pair_id"] == pair_id
    assert ask_pair(annotator) == shown  # still held
    pick = new_pick(pair_id, strength=2)

    stored = post(annotator, pick)
    assert (stored.status_code, stored.json()["stored"]) == (201, True)
    again = post(annotator, pick)
    assert (again.status_code, again.json()["stored"]) == (200, False)
    other = post(annotator, pick | {"verdict": "right", "strength": None})
    assert (other.status_code, error_code(other)) == (409, "conflict")
    assert "saved as left already. Undo first." in other.text
    late = post(annotator, new_pick(pair_id))
    assert (late.status_code, error_code(late)) == (409, "conflict")
    assert annotator.post("/api/v1/pairs/next").status_code == 204
    [known] = annotator.get("/api/v1/judgments").json()["judgments"]
    assert (known["id"], known["verdict"], known["strength"]) == (pick["id"], "left", 2)

    assert annotator.delete(f"/api/v1/judgments/{pick['id']}").json()["retracted"] is True
    assert annotator.delete(f"/api/v1/judgments/{pick['id']}").status_code == 404
    back = ask_pair(annotator)
    assert (back["pair_id"], back["left"], back["right"]) == (
        pair_id,
        shown["left"],
        shown["right"],
    )
    assert annotator.get("/api/v1/judgments").json()["judgments"] == []
    assert post(annotator, new_pick(pair_id, "right")).status_code == 201


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"id": "seven"}, 422),
        ({"verdict": "middle"}, 422),
        ({"strength": 4}, 422),
        ({"verdict": "tie", "strength": 1}, 422),
        ({"policy": POLICY}, 422),
        ({"ms_spent": -1}, 422),
        ({"comment": "\ud800"}, 422),
        ({"pair_id": "no-such-pair"}, 404),
    ],
    ids=str,
)
def test_bad_picks_store_nothing(
    site: Site, annotator: httpx.Client, change: dict[str, Any], status: int
) -> None:
    add_pair(site.store, f"What is {uuid.uuid4()}?", policy=POLICY)
    before = count(site.store, "judgment")
    body = json.dumps(new_pick(ask_pair(annotator)["pair_id"]) | change)
    headers = {"Content-Type": "application/json"}
    answer = annotator.post("/api/v1/judgments", content=body, headers=headers)
    assert answer.status_code == status
    assert error_code(answer) in ("invalid", "not_found")
    assert count(site.store, "judgment") == before


def test_annotators_reach_their_own_picks_only(site: Site, annotator: httpx.Client) -> None:
    add_pair(site.store, f"What is {uuid.uuid4()}?", policy=POLICY)
    pick = new_pick(ask_pair(annotator)["pair_id"])
    assert post(annotator, pick).status_code == 201
    with site.signed_in("annotator") as other:
        assert other.get("/api/v1/judgments").json() == {"judgments": []}
        assert other.delete(f"/api/v1/judgments/{pick['id']}").status_code == 404
        assert post(other, new_pick(pick["pair_id"])).status_code == 404  # not shown to them


def test_health_is_open_and_cheap(site: Site) -> None:
    with site.visitor() as visitor:
        health = visitor.get("/healthz").json()
    assert health == {"status": "starting", "policy": POLICY, "version": "0"}


# --- data ---------------------------------------------------------------------------------------


def test_export_streams_the_picks(
    site: Site, annotator: httpx.Client, researcher: httpx.Client
) -> None:
    prompt = f"What is {uuid.uuid4()}?"
    add_pair(site.store, prompt, policy=POLICY)
    shown = ask_pair(annotator)
    assert post(annotator, new_pick(shown["pair_id"], "right")).status_code == 201
    with researcher.stream("GET", "/api/v1/export/trl") as answer:
        assert answer.headers["content-type"] == "application/jsonl"
        assert 'filename="prefloop-trl.jsonl"' in answer.headers["content-disposition"]
        rows = [json.loads(line) for line in answer.iter_lines()]
    expected = {"chosen": shown["right"]["text"], "rejected": shown["left"]["text"]}
    assert {"prompt": prompt, **expected} in rows
    whole = researcher.get("/api/v1/export/jsonl", params={"where": "verdict=right"}).text
    row = next(row for row in map(json.loads, whole.splitlines()) if prompt in json.dumps(row))
    assert POLICY in json.dumps(row)  # everything means also what annotators may not see


@pytest.mark.parametrize(
    ("body", "row"),
    [
        ('{"prompt": "Fine?"}\n{broken\n{"prompt": "Also fine?"}', "Row 2"),
        ('{"prompt": "Fine?"}\n\n{"prompt": ""}', "Row 3"),
        ('[{"prompt": "Fine?"}, {"prompt": "Fine too?"}, {"answer": 1}]', "Row 3"),
        ("", "no rows"),
    ],
)
def test_broken_prompt_row_is_named_and_nothing_imported(
    site: Site, researcher: httpx.Client, body: str, row: str
) -> None:
    before = count(site.store, "prompt")
    answer = researcher.post("/api/v1/prompts", content=body)
    assert (answer.status_code, error_code(answer)) == (422, "invalid")
    assert row in answer.json()["error"]["message"]
    assert count(site.store, "prompt") == before


def test_prompts_are_added_once(researcher: httpx.Client) -> None:
    rows = [{"prompt": f"Why {uuid.uuid4()}?", "tags": ["fresh"]} for _ in range(3)]
    assert researcher.post("/api/v1/prompts", json=rows).json() == {"added": 3, "known": 0}
    assert researcher.post("/api/v1/prompts", json=rows).json() == {"added": 0, "known": 3}
    listed = researcher.get("/api/v1/prompts", params={"tag": "fresh"}).json()["prompts"]
    assert {p["messages"][0]["content"] for p in listed} == {row["prompt"] for row in rows}


# --- blindness ------------------------------------------------------------------------------------


def test_metrics_are_read_once_for_all_who_ask(site: Site) -> None:
    with site.visitor() as anybody:
        before = anybody.get("/metrics").text
        add_prompt(site.store, "Another one?")
        assert anybody.get("/metrics").text == before
        deadline = time.monotonic() + 10
        while anybody.get("/metrics").text == before:
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_blindness(site: Site, annotator: httpx.Client) -> None:
    """What programs read; test_api_desk.py has the page's routes."""

    def side(text: str, seed: int) -> Completion:
        return Completion(text, [TOKEN], LOGPROB, 1, "stop", POLICY, seed, {"top_p": 0.87654321})

    prompt_id = add_prompt(site.store, f"What is {uuid.uuid4()}?")
    sides = side("Left hand.", SEED), side("Right hand.", SEED + 1)
    pair_id = pairs.add(site.store, prompt_id, [TOKEN], *sides)
    asked = annotator.post("/api/v1/pairs/next")
    pick = new_pick(pair_id, "tie")
    seen = {
        "pair": asked.text,
        "pick": annotator.post("/api/v1/judgments?next=true", json=pick).text,
        "html": annotator.get("/annotate/").text,
        "config": annotator.get("/annotate/config").text,
        "picks": annotator.get("/api/v1/judgments").text,
        "stats": annotator.get("/api/v1/stats").text,
    }
    assert asked.json()["pair_id"] == pair_id
    assert uuid.UUID(pair_id).version == 4  # 7 would tell when it was sampled
    assert asked.json().keys() == {"pair_id", "prompt", "left", "right", "lease_expires"}
    assert asked.json()["left"].keys() == asked.json()["right"].keys() == {"text"}
    secrets = (POLICY, str(SEED), str(SEED + 1), str(TOKEN), "314159", "87654321")
    assert {(where, s) for where, text in seen.items() for s in secrets if s in text} == set()


# --- the research page's own functions, called as a browser calls them ----------------------------


def test_research_page_tells_researchers(researcher: httpx.Client) -> None:
    page = press(researcher, "", page="/research")
    assert POLICY in page
    assert "policy server" in page
    refused = press(researcher, "roll-back", page="/research")
    assert "process_completed" in refused


def test_cancel_is_about_the_run_that_was_shown(site: Site, researcher: httpx.Client) -> None:
    assert "No run is at work." in press(researcher, "cancel-run", None, None, page="/research")
    shown = runs.add(site.store, "rm", {}, None)
    page = press(researcher, "", page="/research")
    assert shown in page
    runs.mark(site.store, shown, "done")
    later = runs.add(site.store, "dpo", {}, None)
    said = press(researcher, "cancel-run", None, None, page="/research")
    assert f"{shown} is over already." in said
    assert runs.get(site.store, later).status == "queued"
    press(researcher, "", page="/research")
    said = press(researcher, "cancel-run", None, None, page="/research")
    assert f"{later} is being cancelled." in said
    assert runs.get(site.store, later).status == "cancelled"
    assert "No run is at work." in press(researcher, "cancel-run", None, None, page="/research")


def test_what_a_person_retired_is_not_offered(site: Site, researcher: httpx.Client) -> None:
    past, out = (add_policy(site.store, f"policy-00077{n}") for n in (5, 6))
    policies.decide(site.store, POLICY, "promote", "back")
    policies.decide(site.store, out, "retire", "out for good")
    page = press(researcher, "", page="/research")
    assert f"Promote {past}" in page and f"Promote {out}" not in page
