"""The pages in Debian's Chromium over the real app: sign in, pick by key, a run as it trains."""

from __future__ import annotations

import json
import re
import uuid

import pytest
from playwright.sync_api import Page, expect

from annotate.simulate import Plan, simulate
from tests.chromium import Opener, press, too_wide
from tests.desk_browser import LEFT, RIGHT, STATUS
from tests.served_app import ServedApp

pytestmark = [pytest.mark.slow, pytest.mark.browser]


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
    panes = ("#prompt .said", LEFT, RIGHT)
    for pane in panes:
        expect(page.locator(pane).first).not_to_be_empty(timeout=60_000)
    prompt, left, right = (words(page.locator(pane).first.inner_text()) for pane in panes)
    return prompt, left, right


# --- annotate -----------------------------------------------------------------------------------


def test_link_vote_by_key_next_pair(served_app: ServedApp, opened: Opener) -> None:
    name = new_annotator(served_app)
    link = served_app.link(name)
    watched = opened(link, locale="en-GB")
    page = watched.page
    before = shown(page)
    assert page.url == served_app.url + "/annotate/"
    held = page.evaluate("fetch('/api/v1/desk').then((answer) => answer.json())")["item"]
    left, right = (answer["text"] for answer in held["answers"])
    assert before[1:] == (words(left), words(right))
    press(page, "1")
    expect(page.locator(STATUS)).to_have_text("Saved: left is better. Next pair.")
    assert shown(page) != before
    [pick] = picks_of(served_app, name)
    assert pick["verdict"] == "left"
    with served_app.client() as admin, admin.lines("/export/trl", where=f"user={name}") as lines:
        [row] = map(json.loads, lines)
    assert (row["chosen"], row["rejected"]) == (left, right)
    assert words(row["prompt"]) == before[0]

    again = opened(link, locale="en-GB")
    expect(again.page.get_by_role("alert")).to_contain_text("already used")
    assert (watched.faults, watched.reached) == ([], [])


# --- both pages ---------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1280, 390])
def test_pages_stay_at_home(served_app: ServedApp, opened: Opener, width: int) -> None:
    watched = opened(served_app.link(), width, locale="en-GB")
    page = watched.page
    expect(page.locator("#policies")).to_contain_text("policy-000000", timeout=30_000)
    assert page.url == served_app.url + "/research/"
    assert too_wide(page) == 0
    page.get_by_role("link", name="Annotate", exact=True).click()
    shown(page)
    assert too_wide(page) == 0
    assert (watched.faults, watched.reached) == ([], [])


def test_research_page_draws_a_run_as_it_trains(served_app: ServedApp, opened: Opener) -> None:
    with served_app.client() as admin:
        simulate(admin, Plan("concise", picks=40, annotators=2))
        watched = opened(served_app.link(), locale="en-GB")
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
