"""The annotator's page in a browser over a real site, as the browser tests drive it."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page, expect

from store.database import Store
from tests.chromium import LOOK_MS, Opener, Watched
from tests.stored import add_pair, add_policy
from tests.website import Site

LEFT, RIGHT, STATUS = "#pane-left .text", "#pane-right .text", "#status"


def fill(store: Store, *texts: tuple[str, str]) -> list[str]:
    """Pairs with these two answers; 'Prompt 1', 'Prompt 2', ... in the order of their ids."""
    policy = add_policy(store)
    return [add_pair(store, f"Prompt {n}", a, b, policy) for n, (a, b) in enumerate(texts, start=1)]


def numbered(count: int) -> list[tuple[str, str]]:
    return [(f"Answer A{n}", f"Answer B{n}") for n in range(1, count + 1)]


def sit_down(opened: Opener, site: Site, name: str = "annotator", **context: Any) -> Watched:
    """Signs in and waits for the first screen."""
    context = {"locale": "en-GB"} | context
    watched = opened(f"{site.url}/sign-in?token={site.link(name)}", **context)
    expect(watched.page.locator("#progress")).to_be_visible(timeout=30_000)
    return watched


def on_screen(page: Page) -> tuple[str, str]:
    """The two answers, once there are some."""
    expect(page.locator(LEFT)).not_to_be_empty()
    return page.locator(LEFT).inner_text(), page.locator(RIGHT).inner_text()


def look(page: Page) -> None:
    """As long as it takes until a pick counts."""
    page.wait_for_timeout(LOOK_MS)


def picks(site: Site, columns: str = "verdict") -> list[Any]:
    """Of everybody, oldest first; tuples when several columns are asked for."""
    rows = site.store.read(f"select {columns} from judgment_live order by seq")
    return [tuple(row.values()) if len(row) > 1 else next(iter(row.values())) for row in rows]
