"""The policy server goes away under annotators: what is there is judged, and pairs come back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.desk_page import DESK, POLICY, new_pair, new_pick, send, shown
from tests.stored import add_policy, add_prompt
from tests.vllm_stand_in import StandIn, stand_in
from tests.website import Site, made_site


@pytest.fixture
def vllm() -> Iterator[ExitStack]:
    """What runs of the stand-in; closing it kills the stand-in."""
    with ExitStack() as running:
        yield running


def start(vllm: ExitStack, port: int = 0) -> StandIn:
    made = vllm.enter_context(stand_in(port))
    made.adapters[POLICY] = "there"
    return made


def wait_for(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 30
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def test_the_last_pair_is_judged_and_pairs_come_back_by_themselves(
    tmp_path: Path, vllm: ExitStack
) -> None:
    made = start(vllm)
    with made_site(tmp_path, made.url) as site, site.signed_in("annotator") as page:
        add_policy(site.store, POLICY)
        pair_id = new_pair(site)
        site.server.start()
        site.server.wait_up(20)
        item = shown(page)
        assert item["pair_id"] == pair_id

        vllm.close()
        wait_for(lambda: site.server.state == "down")
        site.sampler.start()
        add_prompt(site.store, "And now?")
        assert shown(page) == item, "what is on the screen can be judged"
        stored = send(page, new_pick(item))
        assert stored["stored"] is True and stored["screen"]["item"] is None
        assert waiting(site, page) == "down"

        start(vllm, int(made.url.rsplit(":", 1)[1]))
        item = wait_for(lambda: page.post(f"{DESK}/next").json()["item"])
        assert item["pair_id"] != pair_id
        assert [pick["verdict"] for pick in page.get(f"{DESK}/picks").json()["picks"]] == ["left"]


def waiting(site: Site, page: Any) -> str:
    """Between two tries the server says that it starts."""
    wait_for(lambda: site.server.state == "down")
    return str(page.post(f"{DESK}/next").json()["waiting"]["code"])
