"""Pools, flags, guidelines and practice over HTTP, as the researcher's page asks for them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from store import prompts
from store.prompts import NewPrompt
from tests.stored import add_pair, add_policy, add_user
from tests.website import Site, error_code, made_site

ROUTES = [
    ("GET", "/pools"),
    ("POST", "/pools"),
    ("PATCH", "/pools/everything"),
    ("GET", "/flags"),
    ("POST", "/flags/some"),
    ("GET", "/guidelines"),
    ("GET", "/guidelines/1"),
    ("POST", "/guidelines"),
    ("POST", "/guidelines/preview"),
    ("GET", "/practice"),
    ("POST", "/practice"),
    ("POST", "/practice/order"),
    ("PATCH", "/practice/some"),
    ("DELETE", "/practice/some"),
]
ITEM = {
    "messages": [{"role": "user", "content": "What is dew?"}],
    "left_text": "Water from the air.",
    "right_text": "A kind of **rain**.",
    "verdict": "left",
    "explanation": "The left one is *true*.",
}


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site that no test changes."""
    with made_site(tmp_path_factory.mktemp("still")) as made:
        yield made


@pytest.fixture(scope="module")
def reader(still: Site) -> Iterator[httpx.Client]:
    """A researcher there."""
    with still.signed_in("researcher") as client:
        yield client


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with made_site(tmp_path) as made:
        add_policy(made.store)
        yield made


@pytest.fixture
def researcher(site: Site) -> Iterator[httpx.Client]:
    with site.signed_in("researcher") as client:
        yield client


@pytest.fixture
def annotator(site: Site) -> Iterator[httpx.Client]:
    with site.signed_in("annotator") as client:
        yield client


def send(client: httpx.Client, method: str, path: str, body: Any = None) -> httpx.Response:
    """As JSON text, which can carry what httpx would refuse to encode."""
    content = None if body is None else json.dumps(body)
    headers = {"Content-Type": "application/json"}
    return client.request(method, f"/api/v1{path}", content=content, headers=headers)


def done(client: httpx.Client, method: str, path: str, body: Any = None) -> Any:
    answer = send(client, method, path, body)
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


def refused(client: httpx.Client, method: str, path: str, body: Any) -> tuple[int, str]:
    """Status and sentence."""
    answer = send(client, method, path, body)
    assert error_code(answer) in ("invalid", "conflict", "not_found")
    return answer.status_code, answer.json()["error"]["message"]


def next_pair(client: httpx.Client) -> str | None:
    answer = send(client, "POST", "/pairs/next")
    return answer.json()["pair_id"] if answer.status_code == 200 else None


def pick(client: httpx.Client, pair_id: str, verdict: str = "left", **more: Any) -> str:
    body = {"id": str(uuid.uuid4()), "pair_id": pair_id, "verdict": verdict} | more
    return done(client, "POST", "/judgments", body)["id"]


def tagged(site: Site, text: str, *tags: str) -> None:
    prompts.add(site.store, [NewPrompt([{"role": "user", "content": text}], tags)], "starter")


# --- who ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=str)
def test_researchers_only(still: Site, reader: httpx.Client, method: str, path: str) -> None:
    body = {"unknown": "field"}
    with still.visitor() as visitor:
        assert send(visitor, method, path, body).status_code == 401
    with still.signed_in("annotator") as annotator:
        assert send(annotator, method, path, body).status_code == 403
    with still.signed_in("admin") as admin:
        assert send(admin, method, path, body).status_code not in (401, 403)
    assert send(reader, method, path, body).status_code not in (401, 403)


# --- pools ----------------------------------------------------------------------------------------


def test_pools_say_what_they_hold(site: Site, researcher: httpx.Client) -> None:
    tagged(site, "Why is the sky blue?", "physics")
    tagged(site, "How do bees dance?", "bees", "physics")
    tagged(site, "What is tea?")
    body = {"name": "Bees", "tags": ["bees"], "mode": "best_worst", "annotators": ["annotator"]}
    made = done(researcher, "POST", "/pools", body)
    assert (made["name"], made["mode"], made["annotators"]) == ("Bees", "best_worst", ["annotator"])
    seen = done(researcher, "GET", "/pools")
    sizes = {pool["name"]: pool["prompts"] for pool in seen["pools"]}
    assert sizes == {"Everything": 2, "Bees": 1}
    assert seen["tags"] == [{"tag": "bees", "prompts": 1}, {"tag": "physics", "prompts": 2}]
    assert seen["people"] == ["annotator", "researcher", "admin"]
    assert seen["overlap"] == {"share": 0.1, "annotators": 2}
    paused = done(researcher, "PATCH", f"/pools/{made['pool_id']}", {"active": False})
    assert paused == made | {"active": False}
    sizes = {p["name"]: p["prompts"] for p in done(researcher, "GET", "/pools")["pools"]}
    assert sizes["Everything"] == 3


def test_ready_pairs_are_counted_by_pool(site: Site, researcher: httpx.Client) -> None:
    add_pair(site.store)
    [pool] = done(researcher, "GET", "/pools")["pools"]
    assert (pool["pool_id"], pool["ready"]) == ("everything", 1)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"name": ""}, 422),
        ({"name": "x" * 300}, 422),
        ({"name": "\ud800"}, 422),
        ({"name": "Everything"}, 409),
        ({"mode": "duel"}, 422),
        ({"tags": ["a", ""]}, 422),
        ({"weight": 0}, 422),
        ({"weight": -1}, 422),
        ({"weight": 1e400}, 422),
        ({"overlap_share": 1.5}, 422),
        ({"overlap_annotators": 0}, 422),
        ({"turns": 0}, 422),
        ({"annotators": ["nobody"]}, 404),
        ({"language": "not a language"}, 422),
        ({"colour": "red"}, 422),
    ],
    ids=str,
)
def test_a_pool_that_cannot_be_is_refused(
    reader: httpx.Client, change: dict[str, Any], status: int
) -> None:
    before = done(reader, "GET", "/pools")
    assert refused(reader, "POST", "/pools", {"name": "New"} | change)[0] == status
    assert done(reader, "GET", "/pools") == before


def test_one_pool_stays_active(reader: httpx.Client) -> None:
    said = refused(reader, "PATCH", "/pools/everything", {"active": False})
    assert said == (409, "One pool must stay active. Add or activate another first.")
    assert refused(reader, "PATCH", "/pools/none-such", {"weight": 2})[0] == 404


# --- flags ----------------------------------------------------------------------------------------


def test_a_flagged_pair_waits_for_a_decision(
    site: Site, researcher: httpx.Client, annotator: httpx.Client
) -> None:
    text = "Water *of* <script>air</script>."
    pair_id = add_pair(site.store, "What is dew?", text, text)
    add_user(site.store, "second")
    assert next_pair(annotator) == pair_id
    judgment_id = pick(annotator, pair_id, "flag", reasons=["harmful"], comment="Look at this.")
    with site.signed_in("second") as second:
        assert next_pair(second) is next_pair(annotator) is None
        [flag] = done(researcher, "GET", "/flags")["flags"]
        assert (flag["judgment_id"], flag["by"]) == (judgment_id, "annotator")
        assert (flag["reasons"], flag["comment"]) == (["harmful"], "Look at this.")
        assert "What is dew?" in flag["prompt"][0]["html"]
        assert [a["text"] for a in flag["answers"]] == [text, text]
        assert all("<em>of</em> &lt;script&gt;" in a["html"] for a in flag["answers"])
        body = {"action": "returned", "note": "It is fine."}
        done(researcher, "POST", f"/flags/{judgment_id}", body)
        assert done(researcher, "GET", "/flags") == {"flags": []}
        assert next_pair(second) == pair_id
        assert refused(researcher, "POST", f"/flags/{judgment_id}", body)[0] in (404, 409)


def test_a_removed_pair_never_comes_back(
    site: Site, researcher: httpx.Client, annotator: httpx.Client
) -> None:
    pair_id = add_pair(site.store)
    add_user(site.store, "second")
    assert next_pair(annotator) == pair_id
    judgment_id = pick(annotator, pair_id, "flag")
    done(researcher, "POST", f"/flags/{judgment_id}", {"action": "removed"})
    assert done(researcher, "GET", "/flags") == {"flags": []}
    with site.signed_in("second") as second:
        assert next_pair(second) is next_pair(annotator) is None


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"action": "returned"}, 404),
        ({"action": "shredded"}, 422),
        ({}, 422),
        ({"action": "removed", "note": "x" * 100_000}, 422),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_decision_that_cannot_be_is_refused(
    reader: httpx.Client, body: dict[str, Any], status: int
) -> None:
    assert refused(reader, "POST", f"/flags/{uuid.uuid4()}", body)[0] == status


# --- guidelines -----------------------------------------------------------------------------------


def test_guidelines_have_versions_that_picks_name(
    site: Site, researcher: httpx.Client, annotator: httpx.Client
) -> None:
    assert done(researcher, "GET", "/guidelines") == {"current": None, "versions": []}
    assert done(researcher, "POST", "/guidelines", {"markdown": "Be *kind*."}) == {"version": 1}
    pair_id = add_pair(site.store)
    assert next_pair(annotator) == pair_id
    body = {"id": str(uuid.uuid4()), "pair_id": pair_id, "verdict": "left", "guidelines_version": 1}
    assert done(annotator, "POST", "/desk/judgments", body)["stored"]
    assert done(researcher, "POST", "/guidelines", {"markdown": "Be kinder."})["version"] == 2

    seen = done(researcher, "GET", "/guidelines")
    assert (seen["current"]["version"], seen["current"]["markdown"]) == (2, "Be kinder.")
    assert [(v["version"], v["author"], v["picks"]) for v in seen["versions"]] == [
        (2, "researcher", 0),
        (1, "researcher", 1),
    ]
    first = done(researcher, "GET", "/guidelines/1")
    assert (first["markdown"], "<em>kind</em>" in first["html"]) == ("Be *kind*.", True)
    assert refused(researcher, "GET", "/guidelines/3", None)[0] == 404
    shown = done(annotator, "GET", "/desk/guidelines")
    assert (shown["version"], "Be kinder." in shown["html"]) == (2, True)


def test_guidelines_are_text(reader: httpx.Client) -> None:
    for markdown in ("", "  \n", "x" * 10_000_000, "\ud800"):
        assert refused(reader, "POST", "/guidelines", {"markdown": markdown})[0] == 422
    body = {"markdown": "<img src=x onerror=alert(1)>"}
    assert "<img" not in done(reader, "POST", "/guidelines/preview", body)["html"]
    assert done(reader, "GET", "/guidelines")["current"] is None


# --- practice -------------------------------------------------------------------------------------


def test_practice_is_kept_in_order(researcher: httpx.Client, annotator: httpx.Client) -> None:
    ids = [
        done(researcher, "POST", "/practice", ITEM | {"left_text": f"{n}."})["practice_id"]
        for n in range(3)
    ]
    order = [ids[2], ids[0], ids[1]]
    items = done(researcher, "POST", "/practice/order", {"practice_ids": order})["items"]
    assert [item["practice_id"] for item in items] == order
    shown = done(annotator, "GET", "/desk")["practice"]
    assert [item["practice_id"] for item in shown] == order
    assert "verdict" not in shown[0]

    assert done(researcher, "DELETE", f"/practice/{ids[0]}")["removed"] is True
    left = [ids[2], ids[1]]
    assert [i["practice_id"] for i in done(annotator, "GET", "/desk")["practice"]] == left
    assert refused(researcher, "POST", "/practice/order", {"practice_ids": order})[0] == 409
    change = {"active": True, "explanation": "Because."}
    back = done(researcher, "PATCH", f"/practice/{ids[0]}", change)
    assert (back["active"], back["explanation"], back["verdict"]) == (True, "Because.", "left")
    assert len(done(annotator, "GET", "/desk")["practice"]) == 3
    assert refused(researcher, "DELETE", "/practice/none-such", None)[0] == 404
    assert refused(researcher, "PATCH", "/practice/none-such", {})[0] == 404


def test_practice_answers_are_counted(researcher: httpx.Client, annotator: httpx.Client) -> None:
    practice_id = done(researcher, "POST", "/practice", ITEM)["practice_id"]
    said = done(annotator, "POST", f"/desk/practice/{practice_id}", {"verdict": "right"})
    assert (said["correct"], said["expected"]) == (False, "left")
    assert "<em>true</em>" in said["explanation_html"]
    [item] = done(researcher, "GET", "/practice")["items"]
    assert (item["answered"], item["correct"]) == (1, 0)


@pytest.mark.parametrize(
    "change",
    [
        {"messages": []},
        {"messages": [{"role": "assistant", "content": "Yes."}]},
        {"left_text": " "},
        {"right_text": "\ud800"},
        {"verdict": "skip"},
        {"explanation": ""},
        {"explanation": "x" * 200_000},
        {"position": 1},
    ],
    ids=lambda value: str(value)[:40],
)
def test_practice_that_cannot_be_is_refused(reader: httpx.Client, change: dict[str, Any]) -> None:
    assert refused(reader, "POST", "/practice", ITEM | change)[0] == 422
    assert done(reader, "GET", "/practice") == {"items": []}
