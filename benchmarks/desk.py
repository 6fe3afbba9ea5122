"""Key press to next pair painted, in a real Chromium on the annotate page.

    python -m benchmarks.desk [--picks 60] [--pause 1.0]

Three times the same page and the same keys: alone with a warm buffer; beside 32 simulated
annotators at one pick per 5 s; alone with the buffer switched off (`sampler.ready = 0`: a pair is
sampled once somebody waits for it), which is how tools work that sample when the page opens. The
time runs from the keydown event to the second animation frame after the new pair is in the page,
on the browser's clock. The last line is the ratio of the buffer switched off to the warm one.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from playwright.sync_api import Browser, Page

from benchmarks import crowd
from benchmarks.report import hold, percentiles_ms, write
from tests.chromium import launched
from tests.served_app import ServedApp, start_app

# The pane carries the id of its pair; a new one is painted two frames after it has come.
CLOCK = """
window.painted = [];
let pressed = 0;
addEventListener("keydown", () => { pressed = performance.now(); }, true);
const pairOf = () => document.querySelector("#pair")?.dataset.pair ?? "";
let before = pairOf();
const watch = { subtree: true, childList: true, attributes: true, attributeFilter: ["data-pair"] };
new MutationObserver(() => {
  const now = pairOf();
  if (!now || now === before || !pressed) return;
  before = now;
  const began = pressed;
  pressed = 0;
  const done = () => painted.push(performance.now() - began);
  requestAnimationFrame(() => requestAnimationFrame(done));
}).observe(document, watch);
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--picks", type=int, default=60)
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between key presses")
    options = parser.parse_args()
    seconds = options.picks * (options.pause + 1) + 60
    with launched() as browser:

        def measure(load: Callable[[ServedApp], AbstractContextManager], **env: str) -> list[float]:
            return _measured(browser, options.picks, options.pause, load, **env)

        alone = measure(lambda app: nullcontext())
        crowded = measure(lambda app: _crowd(app, seconds))
        unbuffered = measure(lambda app: nullcontext(), PREFLOOP_SAMPLER__READY="0")
    found = {
        "warm buffer": percentiles_ms(alone),
        "with 32 others": percentiles_ms(crowded),
        "buffer off": percentiles_ms(unbuffered),
    }
    for name, row in found.items():
        print(f"{name:<16} p50 {row['p50']:6.1f} ms   p95 {row['p95']:6.1f} ms   n {row['n']}")
    ratio = [found["buffer off"][name] / found["warm buffer"][name] for name in ("p50", "p95")]
    print(f"{'ratio':<16} p50 {ratio[0]:6.1f}      p95 {ratio[1]:6.1f}")
    write("desk", {"pause_s": options.pause, **found})
    hold(
        {
            "p95 below 150 ms with a warm buffer": found["warm buffer"]["p95"] < 150,
            "p95 below 300 ms with 32 others": found["with 32 others"]["p95"] < 300,
        }
    )


def _crowd(app: ServedApp, seconds: float) -> AbstractContextManager:
    load = crowd.start(app.url, app.token, annotators=32, every=5, seconds=seconds)
    crowd.wait_picking(load)
    return crowd.ending(load)


def _measured(
    browser: Browser,
    picks: int,
    pause_s: float,
    load: Callable[[ServedApp], AbstractContextManager],
    **env: str,
) -> list[float]:
    """Seconds from key press to paint, for each pick."""
    with tempfile.TemporaryDirectory() as folder:
        app = start_app(Path(folder) / "data", PREFLOOP_LOOP__EVERY_PICKS="0", **env)
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        try:
            page = context.new_page()
            page.goto(app.link(_annotator(app)))
            page.locator("#pair[data-pair]").wait_for(timeout=60_000)
            page.evaluate(CLOCK)
            with load(app):
                return [_pick(page, n, pause_s) for n in range(picks)]
        finally:
            context.close()
            app.stop()


def _annotator(app: ServedApp) -> str:
    with app.client() as admin:
        admin.post("/users", {"name": "clock"})
    return "clock"


def _pick(page: Page, number: int, pause_s: float) -> float:
    page.wait_for_timeout(1000 * pause_s)
    page.keyboard.press("1" if number % 2 else "2")
    while page.evaluate("painted.length") <= number:
        page.wait_for_timeout(20)
    return float(page.evaluate("painted.at(-1)")) / 1000


if __name__ == "__main__":
    main()
