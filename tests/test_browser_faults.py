"""The annotator's page when the server, the connection or another page gets in the way."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Route, expect

from annotate.language import translate
from store import users
from tests.chromium import Opener, press
from tests.desk_browser import (
    LEFT,
    STATUS,
    fill,
    look,
    numbered,
    on_screen,
    pending,
    pick_of,
    picks,
    sit_down,
)
from tests.stored import add_four, add_pair
from tests.website import Site, made_site

pytestmark = [pytest.mark.slow, pytest.mark.browser]

OVER = "This pair needs no more picks. Here is the next one."
KEPT = "The server could not save this pick."


# --- a lost connection, another tab ---------------------------------------------------------------


def test_a_pick_made_while_the_server_restarts_is_stored_once(
    tmp_path: Path, opened: Opener
) -> None:
    with made_site(tmp_path) as site:
        fill(site.store, *numbered(3))
        port = int(site.url.rsplit(":", 1)[1])
        page = sit_down(opened, site).page
        first = on_screen(page)
        look(page)
    page.keyboard.press("1")
    expect(page.locator("#notice")).to_have_text("Not saved yet: trying again.")
    page.keyboard.press("2")  # the pair stays, and it has its pick
    assert on_screen(page) == first
    with made_site(tmp_path, port=port) as site:
        expect(page.locator(LEFT)).not_to_have_text(first[0], timeout=30_000)
        expect(page.locator("#notice")).to_be_empty()
        press(page, "3")
        expect(page.locator(STATUS)).to_have_text("Saved: a tie. Next pair.")
        assert picks(site) == ["left", "tie"]
        assert pending(page) == []


def test_a_pick_outlives_its_page(tmp_path: Path, opened: Opener) -> None:
    with made_site(tmp_path) as site:
        fill(site.store, *numbered(3))
        page = sit_down(opened, site).page
        first = on_screen(page)
        page.route("**/desk/judgments", lambda route: route.abort())
        look(page)
        page.keyboard.press("2")
        expect(page.locator("#notice")).to_have_text("Not saved yet: trying again.")
        [kept] = pending(page)
        page.unroute("**/desk/judgments")
        page.reload()
        expect(page.locator(LEFT)).not_to_be_empty()
        assert on_screen(page) != first
        assert picks(site, "judgment_id, verdict") == [(kept["body"]["id"], "right")]
        assert pending(page) == []


def test_an_answer_that_is_lost_on_its_way_back(tmp_path: Path, opened: Opener) -> None:
    with made_site(tmp_path) as site:
        fill(site.store, *numbered(2))
        page = sit_down(opened, site).page
        first = on_screen(page)
        sent = []

        def lose_first(route: Any) -> None:
            sent.append(json.loads(route.request.post_data)["id"])
            answer = route.fetch()
            if len(sent) == 1:
                route.abort()
            else:
                route.fulfill(response=answer)

        page.route("**/desk/judgments", lose_first)
        press(page, "1")
        expect(page.locator(LEFT)).not_to_have_text(first[0])
        assert len(sent) == 2
        assert len(set(sent)) == 1
        assert picks(site) == ["left"]


def test_two_tabs_never_store_two_picks_for_one_pair(tmp_path: Path, opened: Opener) -> None:
    with made_site(tmp_path) as site:
        [first_pair, *_] = fill(site.store, *numbered(3))
        watched = sit_down(opened, site)
        one = watched.page
        two = one.context.new_page()
        two.goto(f"{site.url}/annotate/")
        assert on_screen(one) == on_screen(two)
        one.evaluate("BroadcastChannel.prototype.postMessage = () => {}")  # the other hears nothing
        press(one, "1")
        expect(one.locator(STATUS)).to_have_text("Saved: left is better. Next pair.")
        press(two, "2")
        expect(two.locator(STATUS)).to_have_text(OVER)
        assert picks(site, "pair_id, verdict") == [(first_pair, "left")]
        expect(two.locator(LEFT)).to_have_text(on_screen(one)[0])
        press(two, "3")  # this time the other tab hears of it and goes on by itself
        expect(two.locator(STATUS)).to_have_text("Saved: a tie. Next pair.")
        expect(one.locator(LEFT)).to_have_text(on_screen(two)[0])
        assert picks(site) == ["left", "tie"]


def test_waiting_goes_on_by_itself(tmp_path: Path, opened: Opener) -> None:
    with made_site(tmp_path) as site:
        page = sit_down(opened, site).page
        expect(page.locator("#waiting")).to_contain_text("The next pair is on its way")
        sentence = page.locator("#waiting p")
        expect(sentence).to_have_text(translate("en", "wait.starting"))
        site.server._set("down", "")
        expect(sentence).to_have_text(translate("en", "wait.down"))
        page.route("**/desk/next", lambda route: route.abort())
        expect(page.locator("#notice")).to_contain_text("The server does not answer.")
        page.unroute("**/desk/next")
        fill(site.store, *numbered(1))
        expect(page.locator(LEFT)).to_contain_text("Answer")
        expect(page.locator("#notice")).to_be_empty()
        expect(page.locator("#waiting")).to_be_hidden()


def test_a_slow_undo_does_not_end_the_waiting(tmp_path: Path, opened: Opener) -> None:
    with made_site(tmp_path) as site:
        fill(site.store, *numbered(1))
        page = sit_down(opened, site).page
        press(page, "s")
        expect(page.locator("#waiting")).to_be_visible()

        def fail_late(route: Route) -> None:
            page.wait_for_timeout(4_000)  # longer than the page waits between two looks
            route.abort()

        page.route("**/desk/undo", fail_late)
        page.locator("#undo").click()
        expect(page.locator("#notice")).to_have_text("The server does not answer.")
        fill_one_more(site)
        expect(page.locator(LEFT)).to_contain_text("Answer", timeout=10_000)
        expect(page.locator("#notice")).to_be_empty()


def fill_one_more(site: Site) -> None:
    add_pair(site.store, "One more?", "Answer A", "Answer B")


def test_the_next_pair_is_asked_for_until_it_comes(tmp_path: Path, opened: Opener) -> None:
    with made_site(tmp_path) as site:
        fill(site.store, *numbered(2))
        page = sit_down(opened, site).page
        first = on_screen(page)
        pick_of(site, "annotator")  # elsewhere
        page.route("**/desk/next", lambda route: route.abort())
        press(page, "1")
        expect(page.locator("#notice")).to_contain_text("The server does not answer.")
        press(page, "2")  # the pair on the screen is done with
        page.unroute("**/desk/next")
        expect(page.locator(LEFT)).not_to_have_text(first[0], timeout=10_000)
        assert picks(site) == ["tie"]


def test_an_undo_that_is_repeated_is_one_undo(tmp_path: Path, opened: Opener) -> None:
    with made_site(tmp_path) as site:
        fill(site.store, *numbered(3))
        page = sit_down(opened, site).page
        for key in "12":
            before = on_screen(page)
            press(page, key)
            expect(page.locator(LEFT)).not_to_have_text(before[0])

        def lose(route: Route) -> None:
            route.fetch()
            route.abort()

        page.route("**/desk/undo", lose)
        press(page, "u")
        expect(page.locator("#notice")).to_be_visible()
        assert picks(site) == ["left"]
        page.unroute("**/desk/undo")
        press(page, "u")
        expect(page.locator(LEFT)).to_have_text(before[0])
        assert picks(site) == ["left"]


def test_no_key_meets_a_pair_that_is_not_on_the_screen(tmp_path: Path, opened: Opener) -> None:
    with made_site(tmp_path) as site:
        fill(site.store, *numbered(1))
        add_four(site.store)
        one = sit_down(opened, site).page
        two = one.context.new_page()
        held: list[Route] = []

        def hold(route: Route) -> None:
            held.append(route)

        two.route("**/four.js", hold)
        two.goto(f"{site.url}/annotate/")
        on_screen(two)
        press(one, "1")
        expect(one.locator("#pane-4 .text")).not_to_be_empty()
        while not held:
            two.wait_for_timeout(50)
        press(two, "3")
        expect(two.locator(STATUS)).to_have_text(OVER)
        held[0].continue_()
        expect(two.locator("#pane-4 .text")).not_to_be_empty()
        assert picks(site) == ["left"]


def test_a_reader_keeps_the_pair(tmp_path: Path, opened: Opener) -> None:
    with made_site(tmp_path) as site:
        site.desk.lease = timedelta(seconds=4)
        fill(site.store, *numbered(2))
        page = sit_down(opened, site).page
        mine = on_screen(page)
        page.evaluate("document.querySelector('#pane-left').dataset.same = 'yes'")
        for _ in range(6):
            page.wait_for_timeout(1_000)
            page.mouse.move(100, 100)
        with site.signed_in("researcher") as other:
            item = other.post("/api/v1/desk/next").json()["item"]
        assert item["answers"][0]["text"] not in mine
        expect(page.locator("#pane-left")).to_have_attribute("data-same", "yes")
        press(page, "1")
        expect(page.locator(STATUS)).to_have_text("Saved: left is better. Next pair.")


# --- the server fails -----------------------------------------------------------------------------


def test_a_pick_that_the_server_cannot_store_blocks_nobody(tmp_path: Path, opened: Opener) -> None:
    with made_site(tmp_path) as site:
        fill(site.store, *numbered(3))
        page = sit_down(opened, site).page
        first = on_screen(page)
        broken = {"status": 500, "json": {"error": {"code": "bug", "message": "No."}}}
        page.route("**/desk/judgments", lambda route: route.fulfill(**broken))
        press(page, "1")
        expect(page.locator("#notice")).to_have_text("Not saved yet: trying again.")
        expect(page.locator("#notice")).to_contain_text(KEPT, timeout=20_000)
        second = on_screen(page)
        assert second != first
        [kept] = pending(page)
        page.unroute("**/desk/judgments")
        press(page, "2")
        expect(page.locator(STATUS)).to_have_text("Saved: right is better. Next pair.")
        expect(page.locator("#notice")).to_be_empty()
        assert on_screen(page) not in (first, second)
        page.reload()
        on_screen(page)
        assert picks(site, "judgment_id, verdict")[1:] == [(kept["body"]["id"], "left")]
        assert pending(page) == []


def test_whoever_is_disabled_keeps_the_pick(tmp_path: Path, opened: Opener) -> None:
    with made_site(tmp_path) as site:
        fill(site.store, *numbered(2))
        page = sit_down(opened, site).page
        look(page)
        annotator = users.named(site.store, "annotator")
        users.set_access(site.store, annotator.user_id, active=False)
        page.keyboard.press("1")
        expect(page).to_have_url(re.compile("/sign-in"))
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        assert [kept["body"]["verdict"] for kept in pending(page)] == ["left"]
        users.set_access(site.store, annotator.user_id, active=True)
        page.goto(f"{site.url}/sign-in?token={site.link('annotator')}")
        on_screen(page)
        assert picks(site) == ["left"]


def test_the_account_is_asked_for_until_it_comes(tmp_path: Path, opened: Opener) -> None:
    with made_site(tmp_path) as site:
        fill(site.store, *numbered(1))
        page = sit_down(opened, site).page
        page.route("**/api/v1/account", lambda route: route.abort())
        page.reload()
        expect(page.locator("#main .notice")).to_contain_text("The server does not answer.")
        page.unroute("**/api/v1/account")
        expect(page.locator("#account-button")).to_contain_text("annotator", timeout=10_000)
        expect(page.locator("#main .notice")).to_be_hidden()
        on_screen(page)
