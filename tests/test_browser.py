"""The pages in Debian's Chromium: sign in, pick by key, undo, hostile text, a run as it trains."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from annotate.simulate import Plan, simulate
from tests.chromium import LOOK_MS, Opener, press, too_wide
from tests.served_app import ServedApp
from tests.stored import add_pair, add_policy
from tests.website import made_site

pytestmark = [pytest.mark.slow, pytest.mark.browser]

HOSTILE = """Hello <script>window.ran = 1</script><img src=x onerror="window.ran = 2">
![a cat](http://example.com/i.png) <img src="http://example.com/track.png">
<button id="pick-left" class="pick" onclick="window.ran = 3">Left is better</button>
<form action="/sign-out" method="post"><input name="a"><button>go</button></form>
<div style="position: fixed; inset: 0; background: red; z-index: 9999">COVER</div>
<a href="javascript:window.ran = 4">a</a> <svg onload="window.ran = 5"></svg>
<iframe srcdoc="<script>parent.ran = 6</script>"></iframe><style>body { display: none }</style>
"""


def new_annotator(app: ServedApp) -> str:
    name = f"browser {uuid.uuid4()}"
    with app.client() as admin:
        admin.post("/users", {"name": name})
    return name


def picks_of(app: ServedApp, name: str) -> list[dict[str, str]]:
    with app.client() as admin:
        found: list[dict[str, str]] = admin.get("/judgments", user=name)["judgments"]
    return found


def words(text: str) -> list[str]:
    """What Markdown leaves as it is."""
    return re.findall(r"[A-Za-z]+", text)


def shown(page: Page) -> tuple[list[str], list[str], list[str]]:
    """The prompt, the left and the right answer on the screen, once there are some."""
    panes = ("#prompt .said", "#pane-left .answer .md", "#pane-right .answer .md")
    for pane in panes:
        expect(page.locator(pane).first).not_to_be_empty(timeout=60_000)
    prompt, left, right = (words(page.locator(pane).first.inner_text()) for pane in panes)
    return prompt, left, right


# --- annotate -----------------------------------------------------------------------------------


def test_link_vote_by_key_next_pair(served_app: ServedApp, opened: Opener) -> None:
    name = new_annotator(served_app)
    link = served_app.link(name)
    watched = opened(link)
    page = watched.page
    before = shown(page)
    assert page.url == served_app.url + "/annotate/"
    press(page, "1")
    expect(page.locator("#status")).to_have_text("Saved: left is better. 1 today.")
    expect(page.locator("#pane-left")).to_be_visible(timeout=60_000)
    assert shown(page) != before
    [pick] = picks_of(served_app, name)
    assert pick["verdict"] == "left"
    with served_app.client() as admin, admin.lines("/export/trl", where=f"user={name}") as lines:
        [row] = map(json.loads, lines)
    assert tuple(words(row[key]) for key in ("prompt", "chosen", "rejected")) == before

    again = opened(link)
    expect(again.page.get_by_role("alert")).to_contain_text("already used")
    assert (watched.faults, watched.reached) == ([], [])


def test_undo_brings_the_pair_back(served_app: ServedApp, opened: Opener) -> None:
    name = new_annotator(served_app)
    page = opened(served_app.link(name)).page
    before = shown(page)
    page.wait_for_timeout(LOOK_MS)
    page.locator("#pick-both-bad").dblclick()  # the second click belongs to no pair
    expect(page.locator("#status")).to_have_text("Saved: both are bad. 1 today.")
    assert [pick["verdict"] for pick in picks_of(served_app, name)] == ["both_bad"]
    press(page, "u")
    expect(page.locator("#status")).to_have_text("Taken back. Pick again.")
    assert shown(page) == before
    assert picks_of(served_app, name) == []


def test_hostile_text_stays_harmless(tmp_path: Path, opened: Opener) -> None:
    with made_site(tmp_path) as site:
        pair_id = add_pair(
            site.store, HOSTILE, HOSTILE, f"Plain.\n\n{HOSTILE}", add_policy(site.store)
        )
        watched = opened(f"{site.url}/sign-in?token={site.link('annotator')}")
        page = watched.page
        expect(page.locator("#prompt .said")).to_contain_text("<script>window.ran = 1</script>")
        expect(page.locator("#pane-right")).to_contain_text("[image: a cat]")
        assert page.locator(".others-text .md :is(img, [style])").count() == 0
        page.get_by_text("COVER").first.click(trial=True)  # it lies in its pane, over nothing else
        expect(page.locator("button.pick:visible")).to_have_count(5)
        press(page, "1")
        expect(page.locator("#status")).to_have_text("Saved: left is better. 1 today.")
        assert page.evaluate("window.ran") is None
        stored = site.store.read_one("select pair_id, verdict from judgment")
        assert stored == {"pair_id": pair_id, "verdict": "left"}
        assert watched.reached == []
        assert [fault for fault in watched.faults if "Content Security Policy" not in fault] == []


# --- both pages ---------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1280, 390])
def test_pages_stay_at_home(served_app: ServedApp, opened: Opener, width: int) -> None:
    watched = opened(served_app.link(), width)
    page = watched.page
    expect(page.locator("#policies")).to_contain_text("policy-000000", timeout=30_000)
    assert page.url == served_app.url + "/research/"
    assert too_wide(page) == 0
    page.get_by_role("link", name="Annotate").click()
    shown(page)
    assert too_wide(page) == 0
    assert (watched.faults, watched.reached) == ([], [])


def test_research_page_draws_a_run_as_it_trains(served_app: ServedApp, opened: Opener) -> None:
    with served_app.client() as admin:
        simulate(admin, Plan("concise", picks=40, annotators=2))
        watched = opened(served_app.link())
        page = watched.page
        run_id = admin.post("/runs", {"kind": "rm"})["run_id"]
    head = page.locator("#run h2")
    expect(head).to_have_text(run_id, timeout=30_000)
    expect(page.locator("#cancel-run")).to_be_visible(timeout=30_000)
    expect(page.locator("#train-now")).to_be_disabled()
    expect(page.locator("#run .chip")).to_contain_text("Reward model, step", timeout=120_000)
    expect(page.locator("#run .chart .curve:not(.raw)")).to_have_count(3, timeout=120_000)
    expect(page.locator("#run .chip")).to_have_text("Reward model done", timeout=180_000)
    expect(page.locator("#cancel-run")).to_be_hidden()
    row = page.locator("#runs tr", has_text=run_id)
    expect(row.locator(".held-out")).to_contain_text("%")
    assert (watched.faults, watched.reached) == ([], [])
