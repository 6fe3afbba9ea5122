"""Debian's Chromium for the browser tests and benchmarks, and what a page of ours must never do."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, Page, expect, sync_playwright

FLAGS = [
    *("--no-sandbox", "--headless=new", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run"),
]
PATIENCE_MS = 30_000  # until what is expected is there: other tests run at the same time
LOOK_MS = 300  # longer than the page ignores picks after a new pair
WCAG_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@contextmanager
def launched() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        pytest.fail("Chromium is missing: run `make chromium`.", pytrace=False)
    with sync_playwright() as playwright:
        expect.set_options(timeout=PATIENCE_MS)
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@dataclass
class Watched:
    """A page and all that it did which a page of ours never does."""

    page: Page
    faults: list[str] = field(default_factory=list)
    reached: list[str] = field(default_factory=list)  # addresses elsewhere that answered


Opener = Callable[..., Watched]


@contextmanager
def opener(browser: Browser) -> Iterator[Opener]:
    """`open_(url, width, height, **context)` opens an address in a browser without a past."""
    contexts = []

    def open_(url: str, width: int = 1280, height: int = 800, **context: Any) -> Watched:
        viewport: Any = {"width": width, "height": height}
        contexts.append(browser.new_context(viewport=viewport, **context))
        watched = Watched(contexts[-1].new_page())
        page, origin = watched.page, url[: url.index("/", len("http://"))]
        local = (origin + "/", "data:", "blob:")

        def finished(address: str) -> None:
            if not address.startswith(local):
                watched.reached.append(address)

        page.on("requestfinished", lambda request: finished(request.url))
        page.on("pageerror", lambda error: watched.faults.append(str(error)))
        page.on("dialog", lambda dialog: (watched.faults.append(dialog.message), dialog.dismiss()))
        page.on("console", lambda m: watched.faults.append(m.text) if m.type == "error" else None)
        page.goto(url)
        return watched

    yield open_
    for context in contexts:
        context.close()


def press(page: Page, key: str) -> None:
    page.wait_for_timeout(LOOK_MS)
    page.keyboard.press(key)


def too_wide(page: Page) -> int:
    """Pixels by which the page must be scrolled sideways."""
    return int(page.evaluate("document.documentElement.scrollWidth - innerWidth"))


def axe_findings(page: Page) -> list[str]:
    """Serious and critical findings of axe-core on what is on the screen; empty is good."""
    page.evaluate(AXE_SCRIPT)
    options = {"runOnly": WCAG_TAGS, "resultTypes": ["violations"]}
    found = page.evaluate("options => axe.run(document, options)", options)["violations"]
    return [
        f"{rule['id']} ({rule['impact']}): {node['html'][:160]} {node['failureSummary'][:200]}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]
