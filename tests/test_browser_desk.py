"""Picking in Chromium: keys, undo, details, corrections, hostile text, guidelines."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from annotate.desk import DeskConfig
from store import guidelines, users
from tests.chromium import Opener, press
from tests.desk_browser import LEFT, STATUS, fill, look, numbered, on_screen, picks, sit_down
from tests.stored import add_pair
from tests.website import made_site

pytestmark = [pytest.mark.slow, pytest.mark.browser]

HOSTILE = """Hello <script>window.ran = 1</script><img src=x onerror="window.ran = 2">
![a cat](http://example.com/i.png) <img src="http://example.com/track.png">
<button id="pick-left" class="pick" onclick="window.ran = 3">Left is better</button>
<form action="/sign-out" method="post"><input name="a"><button>go</button></form>
<div style="position: fixed; inset: 0; background: red; z-index: 9999">COVER</div>
[a](javascript:window.ran=4) [home](https://example.com/) <svg onload="window.ran = 5"></svg>
<iframe srcdoc="<script>parent.ran = 6</script>"></iframe><style>body { display: none }</style>
"""


def test_every_key_is_one_pick(tmp_path: Path, opened: Opener) -> None:
    keys: dict[str, tuple[str, int | None]] = {
        "1": ("left", None),
        "ArrowLeft": ("left", None),
        "2": ("right", None),
        "ArrowRight": ("right", None),
        "3": ("tie", None),
        "4": ("both_bad", None),
        "Shift+Digit1": ("left", 3),
        "Shift+Digit2": ("right", 3),
        "s": ("skip", None),
        "f": ("flag", None),
    }
    with made_site(tmp_path) as site:
        fill(site.store, *numbered(len(keys)))
        watched = sit_down(opened, site)
        page = watched.page
        for key in keys:
            before = on_screen(page)
            press(page, key)
            if key != "f":  # the last one: nothing comes after it
                expect(page.locator(LEFT)).not_to_have_text(before[0])
        expect(page.locator("#waiting")).to_be_visible()
        assert picks(site, "verdict, strength") == list(keys.values())
        spent = site.store.read("select ms_spent from judgment")
        assert all(200 <= row["ms_spent"] < 60_000 for row in spent)
        expect(page.locator("#progress")).to_contain_text("8 of 80 today")
        assert (watched.faults, watched.reached) == ([], [])


def test_keys_that_are_no_pick(tmp_path: Path, opened: Opener) -> None:
    with made_site(tmp_path) as site:
        fill(site.store, ("[home](https://example.com/)", "B1"), ("A2", "B2"))
        page = sit_down(opened, site).page
        look(page)
        for held in ("Control", "Alt", "Meta"):
            page.keyboard.press(f"{held}+1")
        page.keyboard.press("w")
        page.get_by_label("Comment").fill("12 s f")
        page.get_by_label("Comment").press("3")
        page.locator("#details").focus()
        page.keyboard.press("?")  # a dialog is open: its keys are its own
        expect(page.locator("#help-dialog")).to_be_visible()
        page.keyboard.press("1")
        page.keyboard.press("?")
        expect(page.locator("#help-dialog")).to_be_hidden()
        expect(page.locator("#details")).to_be_focused()
        page.get_by_role("link", name="home").focus()  # inside what a model wrote
        page.keyboard.press("1")
        page.evaluate(
            """() => document.body.dispatchEvent(new KeyboardEvent("keydown",
                {key: "1", code: "Digit1", repeat: true, bubbles: true}))"""
        )
        look(page)
        assert picks(site) == []


def test_a_held_key_on_a_button_picks_once(tmp_path: Path, opened: Opener) -> None:
    with made_site(tmp_path) as site:
        fill(site.store, *numbered(4))
        page = sit_down(opened, site).page
        for key, verdict in (("Enter", "left"), ("Space", "both_bad")):
            look(page)
            before = picks(site)
            page.locator(f"#pick-{verdict.replace('_', '-')}").focus()
            for _ in range(8):
                page.keyboard.down(key)
                page.wait_for_timeout(100)
            page.keyboard.up(key)
            look(page)
            assert picks(site) == [*before, verdict]


def test_single_keys_can_be_switched_off(tmp_path: Path, opened: Opener) -> None:
    with made_site(tmp_path) as site:
        fill(site.store, *numbered(2))
        page = sit_down(opened, site).page
        page.locator("#account-button").click()
        page.get_by_role("group", name="Single keys").get_by_text("Off", exact=True).click()
        page.keyboard.press("Escape")
        expect(page.locator("#pick-left kbd")).to_be_hidden()
        for key in ("1", "ArrowLeft", "Shift+Digit1", "s", "w", "?"):
            press(page, key)
        expect(page.locator("#details-panel")).to_be_hidden()
        expect(page.locator("#help-dialog")).to_be_hidden()
        assert picks(site) == []
        page.reload()
        on_screen(page)
        press(page, "1")
        page.locator("#help").click()
        expect(page.locator("#help-dialog")).to_contain_text("Single keys are off.")
        expect(page.locator("#help-dialog kbd")).to_have_count(0)
        page.keyboard.press("Escape")
        page.locator("#account-button").click()
        page.get_by_role("group", name="Single keys").get_by_text("On", exact=True).click()
        page.keyboard.press("Escape")
        page.locator("body").press("1")
        expect(page.locator(STATUS)).to_have_text("Saved: left is better. Next pair.")


def test_keys_of_other_layouts(tmp_path: Path, opened: Opener) -> None:
    pressed = [
        ({"key": "&", "code": "Digit1"}, "1"),  # French
        ({"key": "1", "code": "Digit1", "shiftKey": True}, "Shift+1"),  # French
        ({"key": "!", "code": "Digit1", "shiftKey": True}, "Shift+1"),
        ({"key": "2", "code": "Numpad2"}, "2"),
        ({"key": "ArrowDown", "code": "Numpad2"}, "ArrowDown"),
        ({"key": "ы", "code": "KeyS"}, "s"),  # Russian
        ({"key": "s", "code": "KeyO"}, "s"),  # Dvorak
        ({"key": "U", "code": "KeyU", "shiftKey": True}, "u"),  # caps lock
        ({"key": "？", "code": "Slash", "shiftKey": True}, "?"),  # Chinese
        ({"key": "ß", "code": "Minus"}, "ß"),
    ]
    with made_site(tmp_path) as site:
        page = sit_down(opened, site).page
        name = """async pressed => (await import("/static/js/keys.js")).keyName(pressed)"""
        for event, expected in pressed:
            assert page.evaluate(name, event) == expected, event


def test_one_pick_for_one_pair(tmp_path: Path, opened: Opener) -> None:
    with made_site(tmp_path) as site:
        fill(site.store, *numbered(3))
        page = sit_down(opened, site).page
        look(page)
        page.locator("#pick-both-bad").dblclick()  # the second click belongs to no pair
        expect(page.locator(STATUS)).to_have_text("Saved: both are bad. Next pair.")
        look(page)
        assert picks(site) == ["both_bad"]
        keydown = (
            'document.body.dispatchEvent(new KeyboardEvent("keydown", {key: "%s", bubbles: true}))'
        )
        page.evaluate(keydown % "1")
        page.evaluate(keydown % "2")  # before the answer: it was about the same pair
        expect(page.locator(STATUS)).to_have_text("Saved: left is better. Next pair.")
        page.evaluate(keydown % "2")  # sooner than anybody can have looked at the new pair
        look(page)
        assert picks(site) == ["both_bad", "left"]


def test_undo_three_times_brings_back_what_was_said(tmp_path: Path, opened: Opener) -> None:
    with made_site(tmp_path) as site:
        fill(site.store, *numbered(4))
        page = sit_down(opened, site).page
        seen = []
        for _ in range(3):
            seen.append(on_screen(page))
            look(page)
            page.keyboard.press("w")
            page.get_by_text("Clearly", exact=True).click()
            page.get_by_text("Accurate", exact=True).click()
            page.get_by_label("Comment").fill(f"because of {len(seen)}")
            page.locator("#pick-left").click()
            expect(page.locator(LEFT)).not_to_have_text(seen[-1][0])
            expect(page.locator("#details-panel")).to_be_hidden()
        told = [("left", 2, ["accuracy"], f"because of {n}") for n in (1, 2, 3)]
        assert picks(site, "verdict, strength, reasons, comment") == told
        for n in (3, 2, 1):
            press(page, "u")
            expect(page.locator(LEFT)).to_have_text(seen[n - 1][0])
            expect(page.locator(STATUS)).to_have_text("Taken back. Pick again.")
            assert on_screen(page) == seen[n - 1]
            expect(page.get_by_label("Comment")).to_have_value(f"because of {n}")
            expect(page.get_by_label("Clearly")).to_be_checked()
        assert picks(site) == []
        press(page, "u")
        expect(page.locator(STATUS)).to_have_text("There is no pick of yours to take back.")
        press(page, "2")
        expect(page.locator(STATUS)).to_have_text("Saved: right is better. Next pair.")
        assert picks(site, "verdict, comment") == [("right", "because of 1")]


def test_a_skip_takes_its_own_reasons(tmp_path: Path, opened: Opener) -> None:
    with made_site(tmp_path) as site:
        fill(site.store, *numbered(3))
        page = sit_down(opened, site).page
        for key, reason in (("s", "Unclear prompt"), ("f", "Harmful")):
            look(page)
            page.keyboard.press("w")
            page.get_by_text("Accurate", exact=True).click()
            page.get_by_text(reason, exact=True).click()
            press(page, key)  # a chip has the focus, which is no text field
            expect(page.locator("#details-panel")).to_be_hidden()
        assert picks(site, "verdict, reasons, strength") == [
            ("skip", ["unclear_prompt"], None),
            ("flag", ["harmful"], None),
        ]


def test_reasons_are_those_of_the_configuration(tmp_path: Path, opened: Opener) -> None:
    settings = DeskConfig(
        reasons=("good_rhythm", "accuracy"), skip_reasons=(), flag_reasons=("ads",)
    )
    with made_site(tmp_path, settings=settings) as site:
        fill(site.store, *numbered(2))
        page = sit_down(opened, site).page
        look(page)
        page.keyboard.press("w")
        chips = page.locator("#details-panel fieldset:not(:first-child) label")
        assert chips.all_inner_texts() == ["good rhythm", "Accurate", "ads"]
        chips.first.click()
        press(page, "1")
        expect(page.locator(STATUS)).to_contain_text("Saved")
        assert picks(site, "verdict, reasons") == [("left", ["good_rhythm"])]


def test_hostile_text_stays_harmless(tmp_path: Path, opened: Opener) -> None:
    with made_site(tmp_path) as site:
        [pair_id] = fill(site.store, (HOSTILE, f"Plain.\n\n{HOSTILE}"))
        add_pair(site.store, HOSTILE, "A2", "B2")
        watched = sit_down(opened, site)
        page = watched.page
        for pane in (LEFT, "#pane-right .text"):
            expect(page.locator(pane)).to_contain_text("<script>window.ran = 1</script>")
            expect(page.locator(pane)).to_contain_text("[image: a cat]")
        bad = ":is(img, svg, iframe, form, input, button, style, script, [style], [id], [name])"
        assert page.locator(f".others-text {bad}").count() == 0
        assert page.locator(".others-text a:not([href^='https://'])").count() == 0
        page.get_by_text("COVER").first.click(trial=True)  # it lies in its pane, over nothing else
        expect(page.locator("#pick-left")).to_have_count(1)
        press(page, "1")
        expect(page.locator("#prompt .said")).to_contain_text("<script>window.ran = 1</script>")
        assert picks(site, "pair_id, verdict") == [(pair_id, "left")]
        assert page.evaluate("window.ran") is None
        assert (watched.faults, watched.reached) == ([], [])


# --- guidance -------------------------------------------------------------------------------------


def test_guidelines_and_their_version(tmp_path: Path, opened: Opener) -> None:
    with made_site(tmp_path) as site:
        fill(site.store, *numbered(2))
        admin = users.named(site.store, "admin")
        guidelines.publish(site.store, admin, "Old.")
        guidelines.publish(site.store, admin, "# Rules\n\nPick what is **true**.")
        page = sit_down(opened, site).page
        expect(page.locator("#guidelines .badge")).to_have_text("new")
        look(page)
        page.keyboard.press("g")
        dialog = page.get_by_role("dialog", name="Guidelines")
        expect(dialog).to_contain_text("Pick what is true.")
        expect(dialog).to_contain_text("Version 2")
        page.keyboard.press("Escape")
        expect(page.locator("#guidelines .badge")).to_be_empty()
        press(page, "1")
        expect(page.locator(STATUS)).to_contain_text("Saved")
        assert picks(site, "guidelines_version") == [2]
