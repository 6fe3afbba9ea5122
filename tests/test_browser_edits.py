"""The annotator's own version of an answer, in Chromium over a real site."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.chromium import Opener, press
from tests.desk_browser import (
    STATUS,
    fill,
    look,
    numbered,
    on_screen,
    pick_of,
    picks,
    sit_down,
)
from tests.website import made_site

pytestmark = [pytest.mark.slow, pytest.mark.browser]


def test_the_better_one_is_edited(tmp_path: Path, opened: Opener) -> None:
    long = "Line of text.\n" * 2_000  # more than the page holds
    with made_site(tmp_path) as site:
        fill(site.store, (long, long), ("A2", "B2"))
        page = sit_down(opened, site).page
        look(page)
        page.keyboard.press("e")
        text = page.get_by_label("Your version")
        expect(text).to_have_value(long)
        page.get_by_role("button", name="Save and pick this side").click()
        expect(page.locator("#edit-dialog").get_by_role("alert")).to_contain_text("Change the text")
        page.locator("#edit-dialog").get_by_text("Right", exact=True).click()
        text.fill("1 better answer")
        text.press("Control+Enter")
        expect(page.locator(STATUS)).to_have_text("Saved: right is better. Next pair.")
        assert picks(site, "verdict, edited_text") == [("right", "1 better answer")]


def test_an_edit_that_is_too_long_stays(tmp_path: Path, opened: Opener) -> None:
    with made_site(tmp_path) as site:
        fill(site.store, *numbered(1))
        page = sit_down(opened, site).page
        press(page, "e")
        text, problem = page.get_by_label("Your version"), page.locator("#edit-dialog .problem")
        text.fill("long " * 4_001)
        text.press("Control+Enter")
        expect(problem).to_contain_text("20,005 characters, and at most 20,000")
        page.keyboard.press("Escape")
        page.reload()
        on_screen(page)
        press(page, "e")
        expect(text).to_have_value("long " * 4_001)
        text.fill("long " * 4_000)
        text.press("Control+Enter")
        expect(page.locator("#waiting")).to_be_visible()
        assert picks(site, "verdict, edited_text") == [("left", "long " * 4_000)]
        press(page, "u")
        on_screen(page)
        press(page, "e")
        expect(text).to_have_value("long " * 4_000)


def test_a_lease_that_ends_during_an_edit(tmp_path: Path, opened: Opener) -> None:
    with made_site(tmp_path) as site:
        site.desk.lease = timedelta(seconds=1)
        first, *_ = fill(site.store, *numbered(3))
        page = sit_down(opened, site).page
        press(page, "e")
        text, save = page.get_by_label("Your version"), page.get_by_role("button", name="Save and")
        text.fill("A better answer")
        page.route("**/desk/next", lambda route: route.abort())  # so nothing renews it
        page.wait_for_timeout(1_200)
        site.desk.lease = timedelta(minutes=10)
        pick_of(site, "researcher")
        page.unroute("**/desk/next")
        save.click()
        expect(page.locator("#edit-dialog .problem")).to_contain_text("needs no more picks")
        expect(text).to_have_value("A better answer")
        expect(save).to_be_disabled()
        text.press("Control+Enter")  # would be about the next pair
        page.get_by_role("button", name="Cancel").click()
        on_screen(page)
        assert picks(site, "pair_id, verdict, edited_text") == [(first, "tie", None)]
        press(page, "e")
        expect(text).to_have_value(re.compile("Answer"))  # of the next pair
        text.fill("Another answer")
        save.click()
        expect(page.locator("#edit-dialog")).to_be_hidden()
        assert picks(site, "verdict, edited_text")[1:] == [("left", "Another answer")]
