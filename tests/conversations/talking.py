"""What the annotate page does in a conversation: look, take a turn, pick."""

from __future__ import annotations

import json
import uuid
from typing import Any

import httpx

from tests.desk_page import DESK


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
