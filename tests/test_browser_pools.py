"""The researcher's set-up and the research page in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from store import guidelines, practice, prompts, runs, users
from store.prompts import NewPrompt
from tests.chromium import Opener, Watched, axe_findings, too_wide
from tests.stored import add_pair, add_policy, judge, show
from tests.website import Site, made_site

pytestmark = [pytest.mark.slow, pytest.mark.browser]

SECTIONS = {  # and what opens a form or a dialog there
    "pools": "#new-pool",
    "flags": "",
    "practice": "ol.practice button.link",
    "guidelines": "button:text-is('Read')",
}
ANSWER = "Dew is **water** from the air. <script>window.ran = 1</script>"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with made_site(tmp_path) as made:
        add_policy(made.store)
        bees = NewPrompt([{"role": "user", "content": "How do bees dance?"}], ("bees",))
        prompts.add(made.store, [bees], "starter")
        yield made


def at(site: Site, opened: Opener, path: str, name: str = "researcher", **how: object) -> Watched:
    watched = opened(f"{site.url}/sign-in?token={site.link(name)}", **how)
    watched.page.goto(site.url + path)
    return watched


def flag_a_pair(site: Site, policy: str = "policy-000000") -> None:
    pair_id = add_pair(site.store, "What is dew?", ANSWER, ANSWER, policy)
    annotator = users.named(site.store, "annotator")
    assert show(site.store, annotator) == pair_id
    judge(site.store, annotator, pair_id, "flag", reasons=("harmful",), comment="Look at this.")


def fill_practice(page: Page) -> None:
    page.get_by_role("button", name="New practice item").click()
    page.get_by_label("Prompt").fill("What is dew?")
    page.get_by_label("Left answer").fill("Water from the air.")
    page.get_by_label("Right answer").fill("A kind of rain.")
    page.get_by_label("Left is better").check()
    page.get_by_label("Explanation").fill("The left one is true.")
    page.get_by_role("button", name="Add it").click()


# --- pools ----------------------------------------------------------------------------------------


def test_make_a_pool_assign_it_and_change_it(site: Site, opened: Opener) -> None:
    watched = at(site, opened, "/pools")
    page = watched.page
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_role("button", name="New pool").click()
    page.get_by_role("button", name="Make the pool").click()
    expect(page.get_by_role("alert")).to_have_text("Give the pool a name.")
    expect(page.get_by_label("Name")).to_be_focused()
    page.get_by_label("Name").fill("Everything")
    page.get_by_role("button", name="Make the pool").click()
    expect(page.get_by_role("alert")).to_have_text("There is already a pool named 'Everything'.")
    expect(page.get_by_label("Name")).to_be_focused()
    page.get_by_label("Name").fill("Bees")
    page.get_by_role("radio", name="Conversation").check()
    page.get_by_label("Length of a conversation").fill("3")
    page.get_by_role("checkbox", name="bees").check()
    page.get_by_role("checkbox", name="annotator").check()
    page.get_by_label("Share of pairs").fill("25")
    page.get_by_role("button", name="Make the pool").click()
    expect(page.locator("#status")).to_have_text("Bees is made.")
    row = page.locator("tbody tr", has_text="Bees")
    expect(row.locator("td.holds")).to_have_text("bees")
    expect(row.locator("td.people")).to_have_text("annotator")
    made = site.store.read_one("select * from pool where name = 'Bees'")
    assert made is not None
    assert (made["mode"], made["turns"], made["overlap_share"]) == ("conversation", 3, 0.25)

    row.get_by_role("button", name="Bees").click()
    page.get_by_label("Weight").fill("2.5")
    page.get_by_label("Give out pairs").uncheck()
    page.get_by_role("button", name="Save changes").click()
    expect(page.locator("#status")).to_have_text("Bees is saved.")
    expect(row).to_contain_text("paused")
    changed = site.store.read_one("select * from pool where name = 'Bees'")
    assert changed == made | {"weight": 2.5, "active": False, "seq": changed and changed["seq"]}
    refusal = "Failed to load resource: the server responded with a status of 409 (Conflict)"
    assert (watched.faults, watched.reached) == ([refusal], [])


def test_unsaved_changes_are_not_lost_in_silence(site: Site, opened: Opener) -> None:
    page = at(site, opened, "/pools").page
    page.get_by_role("button", name="New pool").click()
    page.get_by_label("Name").fill("Bees")
    page.get_by_role("link", name="Practice").click()
    expect(page.get_by_role("dialog")).to_contain_text("Leave without saving?")
    page.get_by_role("button", name="Keep editing").click()
    expect(page.get_by_label("Name")).to_have_value("Bees")
    expect(page).to_have_url(re.compile("/pools/#pools$"))
    page.get_by_role("link", name="Practice").click()
    page.get_by_role("button", name="Discard changes").click()
    expect(page.get_by_role("heading", name="Practice")).to_be_visible()


# --- flags ----------------------------------------------------------------------------------------


def test_a_flag_is_read_and_resolved(site: Site, opened: Opener) -> None:
    flag_a_pair(site)
    watched = at(site, opened, "/pools")
    page = watched.page
    expect(page.locator("#open-flags")).to_have_text("11 open")
    page.get_by_role("link", name="Flags").click()
    card = page.locator("article.flag")
    expect(card).to_contain_text("Look at this.")
    expect(card.locator(".answer-box strong")).to_have_text(["water", "water"])
    expect(card.locator(".answer-box").first).to_contain_text("<script>window.ran = 1</script>")
    page.get_by_label("Note").fill("It is fine.")
    page.get_by_role("button", name="Return to the queue").click()
    expect(page.locator("#status")).to_have_text("Returned to the queue.")
    expect(card).to_have_count(0)
    expect(page.locator("#open-flags")).to_be_hidden()
    resolution = site.store.read_one("select action, note from flag_resolution")
    assert resolution == {"action": "returned", "note": "It is fine."}
    assert page.evaluate("window.ran") is None
    assert (watched.faults, watched.reached) == ([], [])


# --- guidelines and practice ----------------------------------------------------------------------


def test_published_guidelines_reach_the_desk(site: Site, opened: Opener) -> None:
    watched = at(site, opened, "/pools#guidelines")
    page = watched.page
    page.get_by_label("Text", exact=True).fill("# Be kind\n\nPrefer the **true** one.")
    expect(page.locator("#preview strong")).to_have_text("true")
    page.get_by_role("button", name="Publish version 1").click()
    expect(page.locator("#status")).to_have_text("Version 1 is in force.")
    expect(page.get_by_role("button", name="Publish version 2")).to_be_visible()
    page.get_by_role("button", name="Read version 1").click()
    expect(page.get_by_role("dialog")).to_contain_text("Prefer the true one.")
    page.keyboard.press("Escape")
    assert (watched.faults, watched.reached) == ([], [])
    desk = at(site, opened, "/annotate#guidelines", "annotator").page
    expect(desk.get_by_role("dialog")).to_contain_text("Prefer the true one.")


def test_practice_is_written_moved_and_removed(site: Site, opened: Opener) -> None:
    watched = at(site, opened, "/pools#practice")
    page = watched.page
    fill_practice(page)
    expect(page.locator("#status")).to_have_text("Practice item saved.")
    fill_practice(page)
    items = page.locator("ol.practice li")
    expect(items).to_have_count(2)
    first = items.first.get_attribute("data-item")
    page.get_by_role("button", name="Move item 1 down").click()
    expect(page.locator("#status")).to_have_text("Moved to place 2.")
    assert items.nth(1).get_attribute("data-item") == first
    items.first.get_by_role("button", name="What is dew?").click()
    page.get_by_role("button", name="Remove").click()
    expect(page.locator("#status")).to_have_text("Practice item removed.")
    expect(items).to_have_count(1)
    assert (watched.faults, watched.reached) == ([], [])


# --- for everybody --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Something of everything, for tests that only look."""
    with made_site(tmp_path_factory.mktemp("filled")) as made:
        store = made.store
        for number in range(2):
            add_policy(store, f"policy-00000{number}")
        flag_a_pair(made, "policy-000001")
        guidelines.publish(store, users.named(store, "researcher"), "# Be kind\n\n1. One\n2. Two")
        for _ in range(2):
            practice.save(
                store,
                messages=[{"role": "user", "content": "What is dew?"}],
                left_text="Water.",
                right_text="Rain.",
                verdict="left",
                explanation="The left one is true.",
            )
        for state in ("failed", "running"):
            runs.mark(store, runs.add(store, "round", {}, None), state)
        yield made


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_in_any_section(
    filled: Site, opened: Opener, theme: str, width: int
) -> None:
    page = at(filled, opened, "/pools", width=width, color_scheme=theme).page
    for section, form in SECTIONS.items():
        page.locator(f'#sections a[href="#{section}"]').click()
        expect(page.locator(f".set-{section} h1")).to_be_visible()
        assert (section, axe_findings(page), too_wide(page)) == (section, [], 0)
        if form:
            page.locator(form).first.click()
            assert (form, axe_findings(page), too_wide(page)) == (form, [], 0)


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_on_the_research_page(
    filled: Site, opened: Opener, theme: str, width: int
) -> None:
    page = at(filled, opened, "/research", width=width, color_scheme=theme).page
    expect(page.locator("#policies")).to_contain_text("policy-000001", timeout=30_000)
    links = page.locator("#topbar nav a")
    named = ["Annotate", "My picks", "Guidelines", "Research", "Training", "Pools"]
    expect(links).to_have_text(named)
    page.get_by_role("button", name="Promote policy-000000").click()
    expect(page.locator("#confirm")).to_be_visible()
    assert (axe_findings(page), too_wide(page)) == ([], 0)
