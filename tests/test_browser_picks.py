"""My picks in Chromium over a real site: search, read again, revise, take back."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.chromium import Opener, axe_findings, press, too_wide
from tests.desk_browser import (
    LEFT,
    STATUS,
    fill,
    numbered,
    on_screen,
    picks,
    sit_down,
    small_targets,
)
from tests.website import made_site

pytestmark = [pytest.mark.slow, pytest.mark.browser]


def picked(page: Page, keys: str) -> list[tuple[str, str]]:
    """Picks by key; the answers of each, oldest first."""
    seen = []
    for key in keys:
        seen.append(on_screen(page))
        press(page, key)
        expect(page.locator(LEFT)).not_to_have_text(seen[-1][0])
    return seen


def test_past_picks_are_found_revised_and_taken_back(tmp_path: Path, opened: Opener) -> None:
    with made_site(tmp_path) as site:
        fill(site.store, *numbered(4))
        watched = sit_down(opened, site)
        page = watched.page
        seen = picked(page, "123")
        page.get_by_role("link", name="My picks").click()
        rows = page.locator(".past-row")
        expect(rows).to_have_count(3)
        expect(page.locator("#status:empty")).to_have_count(1)  # no empty frame floats on the list
        expect(rows.first).to_contain_text("Tie")
        expect(rows.nth(1).locator(".side.chosen")).to_contain_text(seen[1][1])
        press(page, "1")  # no pick of a pair that is not on the screen
        page.locator("#picks-verdict").select_option("left")
        expect(rows).to_have_count(1)
        page.locator("#picks-verdict").select_option("")
        page.locator("#picks-search").fill("nothing like that")
        expect(page.locator("#picks .empty")).to_be_visible()
        expect(page.locator("#picks .empty")).to_contain_text("No pick of yours fits that.")
        page.locator("#picks-search").fill(seen[0][0].lower())
        expect(rows).to_have_count(1)

        rows.get_by_role("link").click()
        expect(page.locator("#past-pick")).to_contain_text("Left is better")
        assert on_screen(page) == seen[0]
        press(page, "2")  # it is only read
        press(page, "r")
        expect(page.locator("#past-pick")).to_contain_text("Pick again")
        press(page, "Escape")
        expect(page.locator("#past-pick")).to_contain_text("Left is better")
        assert picks(site) == ["left", "right", "tie"]
        page.get_by_role("button", name="Revise").click()
        press(page, "Shift+Digit2")
        expect(page.locator("#past-pick")).to_contain_text("Right is better, much")
        assert picks(site, "verdict, strength") == [("right", None), ("tie", None), ("right", 3)]

        page.get_by_role("button", name="Take back").click()
        expect(page.locator(STATUS)).to_have_text("Taken back. The pair is open again.")
        expect(page.locator(STATUS)).to_be_in_viewport()
        assert on_screen(page) == seen[0]
        press(page, "4")
        expect(page.locator(LEFT)).not_to_have_text(seen[0][0])
        assert picks(site) == ["right", "tie", "both_bad"]
        assert (watched.faults, watched.reached) == ([], [])


def test_a_pick_whose_pair_cannot_come_back(tmp_path: Path, opened: Opener) -> None:
    with made_site(tmp_path) as site:
        first, *_ = fill(site.store, *numbered(2))
        page = sit_down(opened, site).page
        [seen] = picked(page, "s")
        with site.signed_in("researcher") as other:  # a skip leaves the pair to somebody else
            assert other.post("/api/v1/desk/next").json()["item"]["pair_id"] == first
        press(page, "u")
        expect(page.locator(STATUS)).to_contain_text("This pair cannot come back to you")
        assert picks(site) == ["skip"]
        page.get_by_role("link", name="My picks").click()
        page.locator(".past-row a").click()
        page.get_by_role("button", name="Take back").click()
        expect(page.locator(STATUS)).to_contain_text("this pick no longer counts")
        expect(page.locator(STATUS)).to_be_in_viewport()
        assert on_screen(page) != seen
        assert picks(site) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_my_picks_on_a_phone(tmp_path: Path, opened: Opener, scheme: str) -> None:
    with made_site(tmp_path) as site:
        fill(site.store, *(("word" * 60, "Short.") for _ in range(3)))
        page = sit_down(opened, site, has_touch=True, color_scheme=scheme).page
        page.set_viewport_size({"width": 390, "height": 844})
        for key in "12":
            on_screen(page)
            press(page, key)
            expect(page.locator(STATUS)).to_contain_text("Saved")
            page.locator(STATUS).evaluate("status => status.replaceChildren()")
        page.goto(f"{site.url}/annotate/#picks")
        expect(page.locator(".past-row")).to_have_count(2)
        assert (axe_findings(page), too_wide(page), small_targets(page)) == ([], 0, [])
        page.locator(".past-row a").first.click()
        expect(page.locator("#past-pick")).to_be_visible()
        assert (axe_findings(page), too_wide(page), small_targets(page)) == ([], 0, [])


def test_the_list_goes_on_and_keeps_its_place(tmp_path: Path, opened: Opener) -> None:
    with made_site(tmp_path) as site:
        fill(site.store, *numbered(33))
        page = sit_down(opened, site).page
        page.goto(f"{site.url}/annotate/#picks")
        expect(page.locator("#picks .empty")).to_contain_text("You have no picks yet.")
        page.get_by_role("link", name="Start picking").click()
        with site.signed_in("annotator") as client:
            for number in range(33):
                item = client.post("/api/v1/desk/next").json()["item"]
                pick = {
                    "id": f"00000000-0000-4000-8000-{number:012}",
                    "pair_id": item["pair_id"],
                    "verdict": "tie",
                }
                assert client.post("/api/v1/desk/judgments", json=pick).status_code == 201
        page.get_by_role("link", name="My picks").click()
        rows = page.locator(".past-row")
        expect(rows).to_have_count(30)
        page.get_by_role("button", name="Load more").click()
        expect(rows).to_have_count(33)
        expect(page.locator("#picks-more")).to_be_hidden()
        expect(rows.nth(30).get_by_role("link")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("#past-pick")).to_contain_text("Tie")
        page.keyboard.press("Escape")
        expect(rows).to_have_count(33)
        expect(rows.nth(30)).to_be_in_viewport()  # where it was left
