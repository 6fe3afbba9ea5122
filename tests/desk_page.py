"""What the tests of the annotate page's routes do on a site: put pairs there, look, pick."""

from __future__ import annotations

import uuid
from typing import Any

import httpx

from store import pairs
from tests.stored import add_pair, add_prompt, completion
from tests.website import Site

POLICY = "policy-000777"
DESK = "/api/v1/desk"
ITEM = {"kind", "pair_id", "prompt", "answers", "lease_expires", "conversation", "before"}


def new_pick(item: dict[str, Any], verdict: str = "left", **more: Any) -> dict[str, Any]:
    return {"id": str(uuid.uuid4()), "pair_id": item["pair_id"], "verdict": verdict} | more


def send(page: httpx.Client, pick: dict[str, Any], status: int = 201) -> dict[str, Any]:
    answer = page.post(f"{DESK}/judgments", json=pick)
    assert answer.status_code == status, answer.text
    return answer.json()


def shown(page: httpx.Client) -> dict[str, Any]:
    item = page.post(f"{DESK}/next").json()["item"]
    assert item is not None and item.keys() == ITEM
    return item


def new_pair(site: Site, a: str = "Water.", b: str = "Cold water.", **more: Any) -> str:
    return add_pair(site.store, f"What is {uuid.uuid4()}?", a, b, POLICY, **more)


def new_four(site: Site) -> str:
    prompt_id = add_prompt(site.store, f"Why {uuid.uuid4()}?")
    sides = (completion(text, n, POLICY) for n, text in enumerate("ABCD"))
    return pairs.add(site.store, prompt_id, [7], *sides)
