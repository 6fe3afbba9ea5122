"""A pool that a researcher changes over HTTP: who gets what from the next request on."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from store import prompts, users
from store.prompts import NewPrompt
from tests.desk_page import DESK, POLICY, new_pair, new_pick, send
from tests.stored import add_policy, add_user
from tests.vllm_stand_in import stand_in
from tests.website import Site, made_site

POOLS = "/api/v1/pools"


@pytest.fixture
def researcher(site: Site) -> Iterator[httpx.Client]:
    with site.signed_in("researcher") as client:
        yield client


def changed(researcher: httpx.Client, pool_id: str, **fields: Any) -> None:
    answer = researcher.patch(f"{POOLS}/{pool_id}", json=fields)
    assert answer.status_code == 200, answer.text


def added(researcher: httpx.Client, **fields: Any) -> str:
    answer = researcher.post(POOLS, json={"name": f"Pool {uuid.uuid4()}"} | fields)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["pool_id"])


def screen(page: httpx.Client) -> dict[str, Any]:
    return page.post(f"{DESK}/next").json()


def skipped(page: httpx.Client) -> str | None:
    """The id of the pair on the screen, which is skipped."""
    item = screen(page)["item"]
    if item is None:
        return None
    send(page, new_pick(item, "skip"))
    return str(item["pair_id"])


def test_weights(site: Site, researcher: httpx.Client, page: httpx.Client) -> None:
    rare = added(researcher, tags=["rare"], weight=0.001)
    pool_of = {}
    for _ in range(20):
        for pool_id in (rare, "everything"):
            pool_of[new_pair(site, pool_id=pool_id)] = pool_id
    first = Counter(pool_of[str(skipped(page))] for _ in range(8))
    assert first["everything"] >= 7
    changed(researcher, rare, weight=1000)
    changed(researcher, "everything", weight=0.001)
    screen(page)  # one was drawn before the change
    skipped(page)
    then = Counter(pool_of[str(skipped(page))] for _ in range(8))
    assert then[rare] >= 7


def test_languages(site: Site, researcher: httpx.Client, page: httpx.Client) -> None:
    pair_id = new_pair(site)
    assert page.patch("/api/v1/account", json={"languages": ["de"]}).status_code == 200
    changed(researcher, "everything", language="zh-CN")
    assert screen(page)["waiting"]["code"] == "no_pool"
    page.patch("/api/v1/account", json={"languages": ["de", "zh"]})
    assert screen(page)["item"]["pair_id"] == pair_id


def test_assignment(site: Site, researcher: httpx.Client, page: httpx.Client) -> None:
    pair_id = new_pair(site)
    name = page.get("/api/v1/account").json()["name"]
    changed(researcher, "everything", annotators=["annotator"])
    assert screen(page)["waiting"]["code"] == "no_pool"
    changed(researcher, "everything", annotators=["annotator", name])
    assert screen(page)["item"]["pair_id"] == pair_id
    with site.signed_in("annotator") as other:
        assert screen(other)["item"] is None, "it is on the screen of the other one"


def test_a_pool_that_rests(site: Site, researcher: httpx.Client, page: httpx.Client) -> None:
    other = added(researcher, tags=["other"])
    resting, active = new_pair(site, pool_id=other), new_pair(site)
    changed(researcher, other, active=False)
    assert [skipped(page), skipped(page)] == [active, None]
    changed(researcher, other, active=True)
    assert skipped(page) == resting


def test_overlap(tmp_path: Path) -> None:
    """All pairs to two: both get the same ones, a third one gets others."""
    with stand_in() as vllm, made_site(tmp_path, vllm.url) as site:
        add_policy(site.store, POLICY)
        vllm.adapters[POLICY] = "there"
        ask = [NewPrompt([{"role": "user", "content": f"Question {n}?"}]) for n in range(30)]
        prompts.add(site.store, ask, "import")
        with site.signed_in("researcher") as researcher:
            changed(researcher, "everything", overlap_share=1, overlap_annotators=2)
        site.sampler.start()
        judged = {name: judge_three(site, name) for name in ("ann", "bob", "cleo")}
    assert set(judged["ann"]) == set(judged["bob"])
    assert not set(judged["ann"]) & set(judged["cleo"])


def judge_three(site: Site, name: str) -> list[str]:
    """The ids of the first three pairs that this person gets."""
    user, judged = add_user(site.store, name), list[str]()
    headers = {"Authorization": f"Bearer {users.issue(site.store, user.user_id, 'api')}"}
    with httpx.Client(base_url=site.url, headers=headers, timeout=20) as page:
        while len(judged) < 3:
            if item := screen(page)["item"]:
                send(page, new_pick(item))
                judged.append(item["pair_id"])
    return judged
