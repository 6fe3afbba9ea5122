"""Reading aids and comfort in Chromium: differences, folds, exact text, languages, phones, axe."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from store import guidelines, users
from tests.chromium import Opener, axe_findings, press, too_wide
from tests.desk_browser import LEFT, RIGHT, STATUS, fill, look, numbered, on_screen, picks, sit_down
from tests.website import made_site

pytestmark = [pytest.mark.slow, pytest.mark.browser]

WORDS = "Knead the dough for ten minutes, then let it rest in a warm place. "
LONG = "\n\n".join(f"{n}. {WORDS * 3}" for n in range(1, 16))
HIGHLIGHTED = """name => {
  const set = CSS.highlights.get(name);
  return set ? [...set].map(range => range.toString()) : null;
}"""


def test_differences_are_marked_word_by_word(tmp_path: Path, opened: Opener) -> None:
    with made_site(tmp_path) as site:
        fill(site.store, ("Bake it *ten* minutes.", "Bake it **twelve long** minutes."))
        page = sit_down(opened, site).page
        texts = sorted(on_screen(page))
        assert page.evaluate(HIGHLIGHTED, "only-left") is None
        press(page, "d")
        expect(page.locator("#differences")).to_have_attribute("aria-pressed", "true")
        marked = [page.evaluate(HIGHLIGHTED, f"only-{side}") for side in ("left", "right")]
        assert sorted(marked) == [["ten"], ["twelve long"]]
        assert sorted(on_screen(page)) == texts
        press(page, "x")  # the signs of Markdown differ, too
        marked = [page.evaluate(HIGHLIGHTED, f"only-{side}") for side in ("left", "right")]
        assert sorted(marked) == [["*twelve long*"], ["ten"]]
        press(page, "d")
        assert page.evaluate(HIGHLIGHTED, "only-left") is None


def test_differences_without_highlights_are_marks(tmp_path: Path, opened: Opener) -> None:
    with made_site(tmp_path) as site:
        fill(site.store, ("Bake it ten minutes or ten hours.", "Bake it two minutes or two days."))
        page = sit_down(opened, site).page
        page.add_init_script("delete CSS.highlights; delete CSS.__proto__.highlights")
        page.reload()
        texts = on_screen(page)
        press(page, "d")
        left = page.locator("#pane-left mark, #pane-right mark").all_inner_texts()
        assert sorted(left) == ["ten", "ten hours", "two", "two days"]
        assert on_screen(page) == texts
        press(page, "d")
        expect(page.locator("mark")).to_have_count(0)
        assert on_screen(page) == texts


def test_differences_of_long_unlike_texts_end_early(tmp_path: Path, opened: Opener) -> None:
    left = " ".join(f"w{n * n % 977}" for n in range(3_600))
    right = " ".join(f"w{n * n * n % 983}" for n in range(3_600))
    with made_site(tmp_path) as site:
        fill(site.store, (left, right))
        page = sit_down(opened, site).page
        on_screen(page)
        marked = page.evaluate(
            """async () => {
              const { words, differences } = await import("/static/js/diff.js");
              const texts = ["left", "right"].map(side =>
                words(document.querySelector(`#pane-${side} .text`).textContent).map(w => w.text));
              const { left, right, complete } = differences(...texts);
              return [left.length, right.length, complete];
            }"""
        )
        assert marked == [3_600, 3_600, False], "the budget of steps ran out"


def test_differences_are_the_fewest(tmp_path: Path, opened: Opener) -> None:
    rng = random.Random(7)
    texts = [["abcde"[rng.randrange(5)] for _ in range(rng.randrange(14))] for _ in range(600)]
    cases = list(zip(texts[::2], texts[1::2], strict=True))
    with made_site(tmp_path) as site:
        page = sit_down(opened, site).page
        found = page.evaluate(
            """async cases => {
              const { differences } = await import("/static/js/diff.js");
              return cases.map(([left, right]) => differences(left, right));
            }""",
            cases,
        )
    for (left, right), marks in zip(cases, found, strict=True):
        kept = [word for word, only in zip(left, marks["left"], strict=True) if not only]
        assert kept == [word for word, only in zip(right, marks["right"], strict=True) if not only]
        assert len(kept) == longest_common(left, right)
        assert marks["complete"]


def longest_common(left: list[str], right: list[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(right) + 1)
    for word in left:
        before = row
        row = [0]
        for n, other in enumerate(right):
            row.append(before[n] + 1 if word == other else max(before[n + 1], row[n]))
    return row[-1]


def test_folds_open_on_both_sides(tmp_path: Path, opened: Opener) -> None:
    with made_site(tmp_path) as site:
        fill(site.store, ("Short.", LONG), ("Short.", "Short, too."))
        page = sit_down(opened, site, "annotator").page
        on_screen(page)
        heights = {
            page.locator(f"#pane-{side} .body").bounding_box()["height"]
            for side in ("left", "right")
        }
        assert len(heights) == 1
        button = page.locator("#unfold")
        expect(button).to_have_attribute("aria-expanded", "false")
        assert page.locator(".longer").count() == 1  # only that side fades out
        press(page, "a")
        expect(button).to_have_attribute("aria-expanded", "true")
        assert page.locator(".panes.folded").count() == 0
        button.click()
        expect(button).to_have_attribute("aria-expanded", "false")
        press(page, "3")
        expect(page.locator(STATUS)).to_contain_text("Saved")
        expect(button).to_be_hidden()


def test_both_sides_scroll_together(tmp_path: Path, opened: Opener) -> None:
    with made_site(tmp_path) as site:
        fill(site.store, (LONG, LONG * 2))
        page = sit_down(opened, site).page
        on_screen(page)
        press(page, "a")
        scrolled = """() => ["left", "right"].map(side => {
          const body = document.querySelector(`#pane-${side} .body`);
          return Math.round(100 * body.scrollTop / (body.scrollHeight - body.clientHeight));
        })"""
        to = "document.querySelector('#pane-left .body').scrollTop = %s"
        page.evaluate(to % 300)
        look(page)
        left, right = page.evaluate(scrolled)
        assert left > 5
        assert right == 0
        page.locator("#together").click()
        page.evaluate(to % 400)
        look(page)
        left, right = page.evaluate(scrolled)
        assert abs(left - right) <= 1
        page.reload()
        expect(page.locator("#together")).to_have_attribute("aria-pressed", "true")


def test_arrows_scroll_inside_wide_code(tmp_path: Path, opened: Opener) -> None:
    code = f"```\n{'wide ' * 200}\n```"
    with made_site(tmp_path) as site:
        fill(site.store, (code, code))
        page = sit_down(opened, site).page
        block = page.locator("#pane-left pre")
        expect(block).to_have_attribute("tabindex", "0")
        block.focus()
        press(page, "ArrowRight")
        look(page)
        assert block.evaluate("element => element.scrollLeft") > 0
        assert picks(site) == []
        page.locator("#pane-left .body").focus()
        page.keyboard.press("ArrowRight")
        expect(page.locator("#waiting")).to_be_visible()
        assert picks(site) == ["right"]


def test_exact_text_is_remembered_and_copied(tmp_path: Path, opened: Opener) -> None:
    text = "**Bold** <b>tag</b>\n\n    code\ttab \u202eback\n"
    with made_site(tmp_path) as site:
        fill(site.store, (text, text), (text, text))
        page = sit_down(opened, site, permissions=["clipboard-read", "clipboard-write"]).page
        expect(page.locator(f"{LEFT} strong")).to_have_text("Bold")
        press(page, "x")
        assert page.locator(LEFT).evaluate("element => element.textContent") == text
        press(page, "3")
        expect(page.locator(STATUS)).to_contain_text("Saved")
        assert page.locator(RIGHT).evaluate("element => element.textContent") == text
        page.reload()
        expect(page.locator("#exact")).to_have_attribute("aria-pressed", "true")
        assert page.locator(LEFT).evaluate("element => element.textContent") == text
        page.get_by_role("button", name="Copy: Left answer").click()
        expect(page.locator("#pane-left .copy")).to_have_text("Copied")
        assert page.evaluate("navigator.clipboard.readText()") == text


def test_a_million_characters_freeze_nothing(tmp_path: Path, opened: Opener) -> None:
    whole = "".join(f"{n} {WORDS}\n" for n in range(14_000))[:1_000_000]
    with made_site(tmp_path) as site:
        fill(site.store, (whole, whole))
        page = sit_down(opened, site, permissions=["clipboard-read", "clipboard-write"]).page
        expect(page.locator("#pane-left .size")).to_have_text(
            "First 20,000 of 1,000,000 characters"
        )
        page.get_by_role("button", name="Copy: Left answer").click()
        expect(page.locator("#pane-left .copy")).to_have_text("Copied")
        assert page.evaluate("navigator.clipboard.readText()") == whole
        press(page, "a")
        page.locator("#pane-left .whole").click()
        expect(page.locator("#pane-left .size")).to_have_text(
            "All 1,000,000 characters, as exact text"
        )
        chunks = page.locator("#pane-left .chunk").evaluate_all(
            "all => all.map(e => e.textContent)"
        )
        assert re.sub(r"\s", "", "".join(chunks)) == re.sub(r"\s", "", whole)


# --- comfort --------------------------------------------------------------------------------------


def test_text_size_and_colours_are_remembered(tmp_path: Path, opened: Opener) -> None:
    with made_site(tmp_path) as site:
        fill(site.store, *numbered(1))
        page = sit_down(opened, site).page
        page.locator("#account-button").click()
        page.locator("#account-menu").get_by_text("XL", exact=True).click()
        page.locator("#account-menu").get_by_text("Dark", exact=True).click()
        page.reload()
        on_screen(page)
        size = "parseFloat(getComputedStyle(document.querySelector('#pane-left .text')).fontSize)"
        assert page.evaluate(size) == 20
        assert page.evaluate("getComputedStyle(document.body).colorScheme") == "dark"
        assert too_wide(page) == 0


def test_colours_follow_the_system_unless_one_is_chosen(tmp_path: Path, opened: Opener) -> None:
    scheme = "getComputedStyle(document.body).colorScheme"
    with made_site(tmp_path) as site:
        page = sit_down(opened, site, color_scheme="light").page
        assert page.evaluate(scheme) == "light"
        page.emulate_media(color_scheme="dark")
        expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        assert page.evaluate(scheme) == "dark"
        page.locator("#account-button").click()
        page.locator("#account-menu").get_by_text("Light", exact=True).click()
        assert page.evaluate(scheme) == "light"
        page.reload()
        expect(page.locator("#progress")).to_be_visible(timeout=20_000)
        assert page.evaluate(scheme) == "light"


def test_reduced_motion(tmp_path: Path, opened: Opener) -> None:
    with made_site(tmp_path) as site:
        page = sit_down(opened, site, reduced_motion="reduce").page
        calm = page.locator("#waiting .calm")
        expect(calm).to_be_visible()
        assert calm.evaluate("element => getComputedStyle(element).animationName") == "none"


def test_phone(tmp_path: Path, opened: Opener) -> None:
    with made_site(tmp_path) as site:
        fill(site.store, (LONG, LONG), ("A2", "B2"), ("A3", "B3"))
        page = sit_down(opened, site, width=390, height=844, has_touch=True).page
        on_screen(page)
        look(page)
        assert too_wide(page) == 0
        left, right = (page.locator(f"#pane-{side}").bounding_box() for side in ("left", "right"))
        assert right["y"] >= left["y"] + left["height"]
        page.locator("#more").click()
        small = page.locator("#shell-root :is(button, select):visible").evaluate_all(
            """all => all.map(e => [e.id || e.className, e.getBoundingClientRect()])
                .filter(([, box]) => box.height < 44 || box.width < 40).map(([name]) => name)"""
        )
        assert small == []
        page.locator("#pick-flag").click()
        expect(page.locator(STATUS)).to_contain_text("Flagged")
        look(page)
        page.locator("#pick-left").tap()
        expect(page.locator(STATUS)).to_contain_text("left is better")
        page.locator("#undo").tap()
        expect(page.locator(STATUS)).to_contain_text("Taken back")
        assert picks(site) == ["flag"]


RICH = """```python
def a(b: int) -> str:
    return f'{b}'  # why
```

| a | b |
|---|---|
| 1 | $x^2$ |

> quote [link](https://example.com/)
"""
SCENES: dict[str, Callable[[Page], None]] = {
    "desk": lambda page: None,
    "help": lambda page: press(page, "?"),
    "guidelines": lambda page: press(page, "g"),
    "details": lambda page: press(page, "w"),
    "edit": lambda page: press(page, "e"),
    "differences": lambda page: press(page, "d"),
    "menu": lambda page: page.locator("#account-button").click(),
    "progress": lambda page: page.locator("#progress").click(),
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(tmp_path: Path, opened: Opener, scheme: str) -> None:
    found = {}
    with made_site(tmp_path) as site:
        page = sit_down(opened, site, color_scheme=scheme).page
        expect(page.locator("#waiting")).to_be_visible()
        found["waiting"] = axe_findings(page)
        guidelines.publish(site.store, users.named(site.store, "admin"), f"# Rules\n\n{RICH}")
        fill(site.store, (LONG, RICH), (LONG, LONG))
        on_screen(page)
        for scene, enter in SCENES.items():
            enter(page)
            look(page)
            found[scene] = axe_findings(page)
            page.keyboard.press("Escape")
        press(page, "1")
        expect(page.locator(STATUS)).to_contain_text("Saved")
        found["after a pick"] = axe_findings(page)
        page.set_viewport_size({"width": 390, "height": 844})
        page.locator("#more").click()
        found["phone"] = axe_findings(page)
    assert {scene: findings for scene, findings in found.items() if findings} == {}
