"""Hostile texts in a real browser: nothing runs, nothing is asked for, nothing freezes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from annotate.rendering import rendered
from tests.test_rendering import ATTACKS, HOSTILE

pytestmark = [pytest.mark.slow, pytest.mark.browser]
SHELL = """<!doctype html><title>pane</title><button id="pick-left">Left</button>
<div id="pane" style="contain: paint; width: 600px; height: 300px; overflow: auto"></div>"""
PUT = "html => { document.querySelector('#pane').innerHTML = html; }"
HEIGHT = "() => document.querySelector('#pane').scrollHeight"
LIVE = """() => [...document.querySelectorAll('#pane *')].filter(e =>
    e.matches('script,style,link,iframe,object,embed,form,input,button,img,svg,video,audio,base,meta')
    || [...e.attributes].some(a => /^on|^(id|name|style|src|action)$/i.test(a.name))
    || e.getClientRects().length && getComputedStyle(e).position !== 'static').length"""


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    page = chromium.new_page()
    page.set_content(SHELL)
    yield page
    page.close()


def test_attacks_do_nothing(page: Page) -> None:
    happened: list[str] = []
    page.on("request", lambda request: happened.append(request.url))
    page.on("dialog", lambda dialog: (happened.append(dialog.message), dialog.dismiss()))
    page.on("pageerror", lambda error: happened.append(str(error)))
    page.evaluate("() => document.querySelector('#pick-left').onclick = () => window.voted = true")
    for attack in ATTACKS:
        for text in (attack, f"- {attack}\n\n> **{attack}**\n\n| {attack} |\n|-|\n| {attack} |"):
            page.evaluate(PUT, rendered(text))
            assert page.evaluate(LIVE) == 0, attack
            for link in page.locator("#pane a").all():
                assert (link.get_attribute("href") or "").startswith(("http", "mailto:"))
    page.wait_for_timeout(300)  # for what would begin later
    assert happened == []
    assert page.evaluate("window.voted") is None
    assert page.evaluate("document.querySelector('#pick-left').textContent") == "Left"


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_laid_out_in_bounded_time(page: Page, name: str) -> None:
    page.evaluate(PUT, rendered(HOSTILE[name]))
    assert page.evaluate(HEIGHT) > 0
    page.locator("#pick-left").click(timeout=10_000)  # the page still answers; 0.7 s at most here


def test_controls_of_direction_turn_nothing_beside_them(page: Page) -> None:
    """The words after a text with an override stand to its right, as without one."""
    page.evaluate(PUT, rendered("start **a\u202eb** end"))
    places = page.evaluate(
        """() => {
            const strong = document.querySelector('#pane strong').getBoundingClientRect();
            const range = document.createRange();
            range.selectNodeContents(document.querySelector('#pane p').lastChild);
            const after = range.getBoundingClientRect();
            return [strong.right, after.left];
        }"""
    )
    assert places[1] >= places[0] - 1
