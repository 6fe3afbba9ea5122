"""Texts that are hard to show, in Chromium: right-to-left ones, long prompts, formulas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.chromium import LOOK_MS, Opener, axe_findings, press, too_wide
from tests.desk_browser import LEFT, RIGHT, fill, on_screen, sit_down
from tests.stored import add_pair, add_policy
from tests.website import made_site

pytestmark = [pytest.mark.slow, pytest.mark.browser]

CLIPBOARD: dict[str, Any] = {"permissions": ["clipboard-read", "clipboard-write"]}
HEBREW = """שלום עולם, זה prefloop 2.0 (beta).

1. ראשון
2. שני with English
   - פנימי

> ציטוט

* רחב

* רחב מאוד

```python
print("שלום")  # הערה
```
"""
ARABIC = """مرحبا بالعالم! **مهم** و `code()` ثم 50%.

- أولا
- ثانيا
"""
MIXED = f"English comes first.\n\n{ARABIC}\n\nEnglish comes last."
DIRECTION = "element => getComputedStyle(element).direction"
ROOM = """item => {
  const own = item.getBoundingClientRect();
  const all = item.closest('.others-text').getBoundingClientRect();
  return [own.left - all.left, all.right - own.right];
}"""


def direction(page: Page, selector: str) -> str:
    return str(page.locator(selector).first.evaluate(DIRECTION))


def room_for_markers(page: Page, selector: str) -> tuple[float, float]:
    """Pixels between the first item of a list and the left and the right edge of its text."""
    left, right = page.locator(selector).first.evaluate(ROOM)
    return left, right


@pytest.mark.parametrize("text", [HEBREW, ARABIC], ids=["hebrew", "arabic"])
def test_right_to_left_answers(tmp_path: Path, opened: Opener, text: str) -> None:
    with made_site(tmp_path) as site:
        add_pair(site.store, text, text, text, add_policy(site.store))
        watched = sit_down(opened, site, **CLIPBOARD)
        page = watched.page
        on_screen(page)
        for place in (LEFT, RIGHT, "#prompt .said"):
            assert direction(page, place) == direction(page, f"{place} p") == "rtl"
            assert room_for_markers(page, f"{place} li")[1] > 16
        if "```" in text:
            assert direction(page, f"{LEFT} pre") == "ltr"
            assert direction(page, f"{LEFT} > ul > li:has(p)") == "rtl"
            quoted = page.locator(f"{LEFT} blockquote")
            assert quoted.evaluate("e => getComputedStyle(e).borderRightWidth") == "3px"
        page.get_by_role("button", name="Copy: Left answer").click()
        expect(page.locator("#pane-left .copy")).to_have_text("Copied")
        assert page.evaluate("navigator.clipboard.readText()") == text
        page.get_by_role("button", name="Copy the prompt").click()
        expect(page.locator("#copy-prompt")).to_have_text("Copied")
        assert page.evaluate("navigator.clipboard.readText()") == text
        press(page, "x")  # exact text
        assert page.locator(LEFT).evaluate("element => element.textContent") == text
        assert direction(page, LEFT) == "rtl"
        assert page.locator(LEFT).evaluate("e => getComputedStyle(e).unicodeBidi") == "plaintext"
        assert (axe_findings(page), too_wide(page), watched.faults) == ([], 0, [])


def test_each_block_of_a_mixed_text_has_its_own_direction(tmp_path: Path, opened: Opener) -> None:
    with made_site(tmp_path) as site:
        fill(site.store, (MIXED, MIXED))
        page = sit_down(opened, site).page
        on_screen(page)
        blocks = page.locator(f"{LEFT} p").evaluate_all(f"all => all.map({DIRECTION})")
        assert blocks == ["ltr", "rtl", "ltr"]
        assert direction(page, LEFT) == "ltr"
        assert direction(page, f"{LEFT} li") == "rtl"
        assert room_for_markers(page, f"{LEFT} li")[1] > 16  # its marker is not cut off


def test_long_prompts_are_shown_and_copied_whole(tmp_path: Path, opened: Opener) -> None:
    whole = "🐝" * 20_000 + "".join(f"\n{n} the end of it" for n in range(3_000))
    with made_site(tmp_path) as site:
        add_pair(site.store, whole, "A", "B", add_policy(site.store))
        watched = sit_down(opened, site, **CLIPBOARD)
        page = watched.page
        note = page.locator("#prompt .sub")
        expect(note).to_contain_text(f"First 20,000 of {len(whole):,} characters")
        page.get_by_role("button", name="Copy the prompt").click()
        expect(page.locator("#copy-prompt")).to_have_text("Copied")
        assert page.evaluate("navigator.clipboard.readText()") == whole
        page.get_by_role("button", name=f"Show all {len(whole):,} characters").click()
        expect(note).to_have_text(f"All {len(whole):,} characters, as exact text")
        chunks = page.locator("#prompt .chunk").evaluate_all("all => all.map(e => e.textContent)")
        assert "".join(chunks).replace("\n", "") == whole.replace("\n", "")
        assert (axe_findings(page), watched.faults) == ([], [])


def test_characters_of_two_units_are_not_taken_for_a_cut(tmp_path: Path, opened: Opener) -> None:
    with made_site(tmp_path) as site:
        add_pair(site.store, "🐝" * 15_000, "A", "B", add_policy(site.store))
        page = sit_down(opened, site).page
        on_screen(page)
        expect(page.locator("#prompt .sub")).to_have_count(0)


def test_formulas(tmp_path: Path, opened: Opener) -> None:
    text = r"It takes $n \log n$ steps, so $\boxed{x = 42}$."
    with made_site(tmp_path) as site:
        fill(site.store, (text, text))
        page = sit_down(opened, site).page
        on_screen(page)
        page.wait_for_timeout(LOOK_MS)
        gaps = page.locator(f"{LEFT} math").first.evaluate(
            """math => {
              const boxes = [...math.querySelectorAll('mi')].map(e => e.getBoundingClientRect());
              return boxes.slice(1).map((box, at) => box.left - boxes[at].right);
            }"""
        )
        assert len(gaps) == 2 and all(gap > 1.5 for gap in gaps)
        frame = page.locator(f"{LEFT} menclose")
        assert frame.evaluate("e => getComputedStyle(e).borderTopWidth") == "1px"
        outer, inner = frame.bounding_box(), frame.locator("mn").bounding_box()
        assert outer and inner
        assert outer["x"] + outer["width"] > inner["x"] + inner["width"] + 2
