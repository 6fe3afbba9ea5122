"""The annotator's page in a browser over a real site, as the browser tests drive it."""

from __future__ import annotations

import json
from typing import Any

from playwright.sync_api import Page, expect

from store import practice
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


def add_practice(store: Store, *verdicts: practice.PracticeVerdict) -> None:
    for number, verdict in enumerate(verdicts):
        practice.save(
            store,
            messages=[{"role": "user", "content": f"Exercise {number}"}],
            left_text="Left one",
            right_text="Right one",
            verdict=verdict,
            explanation=f"Because of **rule {number}**.",
        )


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


def small_targets(page: Page) -> list[str]:
    """What a finger would miss: buttons, links and fields below 44 px."""
    found: list[str] = page.evaluate(
        """() => [...document.querySelectorAll("#shell-root :is(button, a, select, input)")]
            .map((e) => (e.matches("[type=checkbox], [type=radio]") ? e.closest("label") : e))
            .map((e) => e.closest(".past-row") ?? e) // its link covers it
            .filter((e) => e.checkVisibility() && e.getBoundingClientRect().width > 1)
            .filter((e) => e.getBoundingClientRect().height < 44)
            .map((e) => e.id || e.textContent || e.outerHTML)"""
    )
    return found


def overlaps(page: Page, *selectors: str) -> list[str]:
    """Neighbours from left to right of which one covers the next."""
    boxes = [page.locator(each).bounding_box() or {} for each in selectors]
    return [
        f"{selectors[n]} covers {selectors[n + 1]}"
        for n in range(len(boxes) - 1)
        if boxes[n]["x"] + boxes[n]["width"] > boxes[n + 1]["x"]
    ]


def pick_of(site: Site, name: str, verdict: str = "tie") -> None:
    """Somebody else's pick of what they get now."""
    with site.signed_in(name) as client:
        item = client.post("/api/v1/desk/next").json()["item"]
        number = len(site.store.read("select 1 from judgment"))
        pick = {
            "id": f"00000000-0000-4000-8000-{number:012}",
            "pair_id": item["pair_id"],
            "verdict": verdict,
        }
        assert client.post("/api/v1/desk/judgments", json=pick).status_code == 201


def picks(site: Site, columns: str = "verdict") -> list[Any]:
    """Of everybody, oldest first; tuples when several columns are asked for."""
    rows = site.store.read(f"select {columns} from judgment_live order by seq")
    return [tuple(row.values()) if len(row) > 1 else next(iter(row.values())) for row in rows]


def pending(page: Page) -> list[dict[str, Any]]:
    """Picks that this browser keeps until the server has them."""
    kept = page.evaluate(
        "Object.entries(localStorage).filter(([key]) => key.startsWith('prefloop.pick.'))"
    )
    return [json.loads(value) for _, value in kept]
