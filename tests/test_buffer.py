"""Annotators work on while vLLM makes room for a run: from the buffer, and told for how long."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from annotate.sampler import SamplerConfig
from annotate.supply import Buffer, buffer
from store import pairs, runs
from store.rows import Invalid, RunKind
from tests.desk_page import DESK, POLICY, new_pick, send, shown
from tests.stored import add_policy, add_prompt
from tests.vllm_stand_in import stand_in
from tests.website import Site, made_site
from train.launch import LaunchConfig
from train.sharing import yielded

SLEEP = LaunchConfig(gpu_sharing="sleep")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """With a stand-in of vLLM that is up, a sampler at work and many prompts."""
    folder = tmp_path_factory.mktemp("site")
    with stand_in() as vllm, made_site(folder, vllm.url) as made:
        vllm.adapters[POLICY] = "there"
        add_policy(made.store, POLICY)
        for number in range(30):
            add_prompt(made.store, f"Why {number}?")
        made.server.start()
        made.server.wait_up(20)
        made.sampler.start()
        yield made


@pytest.fixture
def without_vllm(site: Site) -> Iterator[None]:
    wait_for(lambda: site.server.state == "up")
    site.server.client.traffic.rest(0)
    yield
    site.server.client.traffic.end_rest()


@pytest.fixture
def page(site: Site) -> Iterator[httpx.Client]:
    with site.signed_in("annotator") as client:
        yield client


def wait_for(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def waiting(page: httpx.Client) -> dict[str, Any]:
    return page.post(f"{DESK}/next").json()["waiting"]


def test_researchers_see_the_server_and_the_buffer(site: Site) -> None:
    with site.signed_in("researcher") as researcher:
        stats = researcher.get("/api/v1/stats").json()
        assert stats["server"] == "up" and stats["buffer"]["minutes"] is None  # nobody annotates
        with yielded(site.server, SLEEP):
            stats = researcher.get("/api/v1/stats").json()
            assert stats["server"] == "resting" and stats["buffer"]["pairs"] >= 0
            assert stats["server_note"] == "The policy server makes room for a run."


def test_the_buffer_is_filled_first_and_lasts_into_the_run(site: Site, page: httpx.Client) -> None:
    wait_for(lambda: page.post(f"{DESK}/next").json()["item"])
    wait_for(lambda: pairs.ready(site.store) >= site.sampler.config.ready)
    left: list[float | None] = [150.0]
    stock_up = site.sampler.stock_up
    with yielded(site.server, SLEEP, stock_up=stock_up, left_s=lambda: left[0]):
        assert pairs.ready(site.store) >= site.sampler.config.stock
        told = site.sampler.buffer()
        assert told.pairs == pairs.ready(site.store)
        assert told.minutes is not None and told.minutes >= 24 * 20 / 60
        for _ in range(told.pairs + 1):
            answer = send(page, new_pick(shown(page)))
        assert answer["screen"]["item"] is None
        said = waiting(page)
        assert (said["code"], said["minutes"]) == ("learning", 3)
        assert said["message"].endswith("New pairs come in about 3 minutes.")
        left[0] = None
        said = waiting(page)
        assert (said["code"], said["minutes"]) == ("learning", None)
    wait_for(lambda: page.post(f"{DESK}/next").json()["item"])


def test_of_a_round_only_the_last_part_tells_when_vllm_is_back(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How long the parts after it take is not known before they run."""
    wait_for(lambda: site.server.state == "up")
    monkeypatch.setattr(site.trainer, "config", replace(site.trainer.config, gpu_sharing="sleep"))
    round_id = runs.add(site.store, "round", {"settings": {}}, None)
    with site.trainer.device_free(run=runs.get(site.store, round_id)):
        assert told_at_two_of_ten_steps(site, "rm", round_id) is None
        assert site.server.back_in_s() is None, "between the parts"
        assert told_at_two_of_ten_steps(site, "dpo", round_id) == pytest.approx(128)
    wait_for(lambda: site.server.state == "up")
    assert told_at_two_of_ten_steps(site, "rm") == pytest.approx(128)


def told_at_two_of_ten_steps(site: Site, kind: RunKind, parent: str | None = None) -> float | None:
    """Seconds that a run of 16 s a step still has the device, as annotators are told."""
    run_id = runs.add(site.store, kind, {"settings": {}}, None, parent=parent)
    folder = site.trainer.folder(run_id)
    folder.path.mkdir(parents=True)
    for step in (1, 2):
        folder.add_progress({"step": step, "max_steps": 10, "seconds": 16.0 * step})
    with site.trainer.device_free(folder, runs.get(site.store, run_id)):
        told = site.server.back_in_s()
    return None if told is None else told - site.server._took_s


@pytest.mark.usefixtures("without_vllm")
def test_a_buffer_that_cannot_be_filled_delays_the_run_only_so_long(
    site: Site, page: httpx.Client
) -> None:
    while page.post(f"{DESK}/next").json()["item"]:
        send(page, new_pick(shown(page)))
    began = time.monotonic()
    assert not site.sampler.stock_up(0.5)
    assert 0.5 <= time.monotonic() - began < 30
    assert not site.sampler._stocking


@pytest.mark.usefixtures("without_vllm")
def test_a_turn_of_a_conversation_is_told_why_it_must_wait(site: Site) -> None:
    with pytest.raises(Exception, match="learning from the picks") as caught:
        list(site.desk.conversations._answers([{"role": "user", "content": "Hello"}]))
    assert caught.value.key == "turn_learning"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("ready", "annotators", "seconds", "screens", "expected"),
    [
        (24, 1, 15.0, 1.0, 6.0),
        (24, 4, 15.0, 1.0, 1.5),
        (24, 1, None, 1.0, 8.0),  # 20 s each until there is a median
        (20, 2, 30.0, 1.1, 5.5),
        (0, 3, 15.0, 1.0, 0.0),
    ],
)
def test_how_long_a_buffer_lasts(
    ready: int, annotators: int, seconds: float | None, screens: float, expected: float
) -> None:
    assert buffer(ready, annotators, seconds, screens) == Buffer(ready, expected)


def test_a_buffer_of_nobody_lasts_for_no_time_that_can_be_said() -> None:
    assert buffer(24, 0, 15.0, 1.0) == Buffer(24, None)


def test_a_stock_below_zero_is_refused() -> None:
    with pytest.raises(Invalid, match=r"sampler\.stock must be at least 0"):
        SamplerConfig(stock=-1)
