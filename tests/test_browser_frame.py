"""What stands around the answers, in Chromium over a real site: the top bar and the help."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from annotate.desk import DeskConfig
from tests.chromium import Opener, press, too_wide
from tests.desk_browser import LEFT, add_practice, fill, numbered, on_screen, overlaps, sit_down
from tests.stored import add_four
from tests.website import made_site

pytestmark = [pytest.mark.slow, pytest.mark.browser]


@pytest.mark.parametrize("locale", ["en-GB", "zh-CN"])
def test_the_top_bar_has_room_on_a_phone(tmp_path: Path, opened: Opener, locale: str) -> None:
    with made_site(tmp_path, settings=DeskConfig(daily_goal=10_000)) as site:
        fill(site.store, *numbered(1))
        page = sit_down(opened, site, locale=locale).page
        for width in (320, 390):
            page.set_viewport_size({"width": width, "height": 844})
            for size in ("16px", "20px"):
                page.evaluate("size => (document.documentElement.style.fontSize = size)", size)
                parts = (".brand", "#progress", "#account-button")
                assert (overlaps(page, *parts), too_wide(page)) == ([], 0), (width, size)


# --- help -----------------------------------------------------------------------------------------


def listed(page: Page) -> str:
    """The keys in the help overlay, which is closed again."""
    page.locator("body").press("?")
    keys = " ".join(page.locator("#help-dialog kbd").all_inner_texts())
    page.keyboard.press("Escape")
    return keys


def test_help_lists_what_works(tmp_path: Path, opened: Opener) -> None:
    with made_site(tmp_path) as site:
        long = "Line of text.\n\n" * 200
        fill(site.store, (long, long))
        add_four(site.store)
        add_practice(site.store, "left")
        page = sit_down(opened, site).page
        on_screen(page)
        assert listed(page) == "1 2 3 4 D X G ?"
        press(page, "1")
        press(page, "Enter")
        expect(page.locator(LEFT)).to_contain_text("Line of text.")
        assert listed(page) == "1 2 Shift + 1 / 2 3 4 S F E U W D X A G ?"
        press(page, "1")
        expect(page.locator("#pane-4 .text")).not_to_be_empty()
        assert listed(page) == "1 – 4 Backspace T B S F U W X G ?"
        press(page, "t")
        expect(page.locator("#waiting")).to_be_visible()
        assert listed(page) == "U G ?"
        page.goto(f"{site.url}/annotate/#picks")
        page.locator(".past-row a").first.click()
        expect(page.locator("#past-pick")).to_be_visible()
        assert listed(page) == "R Esc X G ?"
        press(page, "r")
        assert listed(page) == "Esc 1 – 4 Backspace T B S F W X G ?"
