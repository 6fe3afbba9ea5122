"""Best and worst of four, conversations and practice in Chromium over a real site."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from store import pools
from tests.chromium import Opener, axe_findings, press, too_wide
from tests.desk_browser import (
    LEFT,
    STATUS,
    add_practice,
    fill,
    look,
    numbered,
    on_screen,
    picks,
    sit_down,
    small_targets,
)
from tests.stored import add_four, add_policy
from tests.vllm_stand_in import StandIn, event, piece, stand_in, streamed
from tests.website import Site, made_site

pytestmark = [pytest.mark.slow, pytest.mark.browser]

MESSAGE = "#talk-message"


# --- best and worst of four -----------------------------------------------------------------------


@pytest.fixture
def fours(tmp_path: Path) -> Iterator[Site]:
    with made_site(tmp_path) as site:
        add_policy(site.store)
        for number in range(2):
            add_four(site.store, f"Question {number}?")
        yield site


def by_key(page: Page) -> None:
    press(page, "2")
    expect(page.get_by_role("status").first).to_have_text(
        "Answer 2 is the best. Which one is worst?"
    )
    press(page, "2")  # cannot be both
    expect(page.locator(STATUS)).to_contain_text("Answer 2 is the best already.")
    press(page, "Backspace")
    press(page, "3")
    press(page, "1")


def by_mouse(page: Page) -> None:
    look(page)
    page.locator("#worst-1").click()
    expect(page.locator("#worst-1")).to_have_attribute("aria-pressed", "true")
    page.locator("#pick-1").click()  # the same answer: it is the best now, and no longer the worst
    expect(page.locator("#worst-1")).to_have_attribute("aria-pressed", "false")
    page.locator("#worst-1").click()
    page.locator("#pick-3").dblclick()


@pytest.mark.parametrize("rank", [by_key, by_mouse])
def test_two_choices_are_one_pick_and_five_comparisons(
    fours: Site, opened: Opener, rank: Callable[[Page], None]
) -> None:
    watched = sit_down(opened, fours)
    page = watched.page
    expect(page.locator("#pane-4 .text")).not_to_be_empty()
    texts = page.locator(".pane .text").all_inner_texts()
    assert sorted(texts) == ["A", "B", "C", "D"]
    rank(page)
    expect(page.locator(STATUS)).to_have_text("Saved: best and worst. Next one.")
    [(verdict, best, worst)] = picks(fours, "verdict, best, worst")
    assert (verdict, best, worst) == ("ranked", texts[2].lower(), texts[0].lower())
    pairs = fours.store.read("select chosen, rejected from preference")
    beaten = sorted((row["chosen"], row["rejected"]) for row in pairs)
    others = [texts[1], texts[3]]
    assert beaten == sorted(
        [(texts[2], texts[0]), *((texts[2], o) for o in others), *((o, texts[0]) for o in others)]
    )
    assert (watched.faults, watched.reached) == ([], [])


def test_four_that_are_all_the_same_or_all_bad(fours: Site, opened: Opener) -> None:
    page = sit_down(opened, fours).page
    expect(page.locator("#pane-4 .text")).not_to_be_empty()
    press(page, "t")
    expect(page.locator(STATUS)).to_contain_text("Saved: a tie.")
    press(page, "b")
    expect(page.locator("#waiting")).to_be_visible()
    assert picks(fours) == ["tie", "both_bad"]
    press(page, "u")
    expect(page.locator("#pane-4 .text")).not_to_be_empty()
    look(page)
    page.locator("#pick-4").click()
    page.locator("#worst-2").click()
    expect(page.locator("#waiting")).to_be_visible()
    assert picks(fours) == ["tie", "ranked"]
    press(page, "u")
    expect(page.locator("#four .asked")).to_contain_text("Before: 4 best, 2 worst")


# --- conversation ---------------------------------------------------------------------------------


@pytest.fixture
def talks(tmp_path: Path) -> Iterator[tuple[Site, StandIn]]:
    """A site where everybody talks with a policy that a stand-in serves."""
    with stand_in() as policy, made_site(tmp_path, policy_url=policy.url) as site:
        policy.adapters[add_policy(site.store)] = "somewhere"
        pools.add(site.store, "Talk", mode="conversation", turns=2)
        pools.change(site.store, "everything", active=False)
        yield site, policy


def slowly(body: dict[str, Any]) -> Iterator[str]:
    for line in streamed(body):
        time.sleep(0.15)
        yield line


def broken(body: dict[str, Any]) -> Iterator[str | None]:
    yield event({"prompt_token_ids": [7], "choices": []})
    for word in ("Half ", "an ", "answer ", "and "):
        time.sleep(0.3)
        yield from (event({"choices": [piece(index, word)]}) for index in range(2))
    yield None


def test_two_turns_are_two_pairs_with_the_whole_talk(
    talks: tuple[Site, StandIn], opened: Opener
) -> None:
    site, policy = talks
    policy.streams = slowly
    watched = sit_down(opened, site)
    page = watched.page
    expect(page.locator("#talk-turn")).to_have_text("Turn 1 of 2")
    expect(page.locator(MESSAGE)).to_be_focused()
    page.keyboard.type("Do bees dance? 1 2 s f")
    page.keyboard.press("Control+Enter")
    expect(page.locator(LEFT)).to_contain_text("Bees")
    expect(page.locator("#pick-left")).to_be_disabled()  # the answers are not whole yet
    page.keyboard.press("1")
    expect(page.locator("#pick-left")).to_be_enabled(timeout=20_000)
    assert picks(site) == []
    expect(page.locator("#prompt .said")).to_have_text("Do bees dance? 1 2 s f")
    first = on_screen(page)
    press(page, "2")
    expect(page.locator("#talk-turn")).to_have_text("Turn 2 of 2")
    expect(page.locator("#prompt .turn.assistant .said")).to_have_text(first[1])

    page.locator(MESSAGE).fill("Why?")
    page.locator("#talk-send").click()
    expect(page.locator("#pick-left")).to_be_enabled(timeout=20_000)
    press(page, "1")
    expect(page.locator("#talk-turn")).to_have_text("Turn 1 of 2")  # of a new talk

    said = [[message["content"] for message in body["messages"]] for body in policy.asked]
    assert said == [["Do bees dance? 1 2 s f"], ["Do bees dance? 1 2 s f", first[1], "Why?"]]
    rows = site.store.read(
        "select p.turn, j.verdict, q.messages from judgment_live j join pair p using (pair_id)"
        " join prompt q using (prompt_id) order by j.seq"
    )
    assert [(row["turn"], row["verdict"]) for row in rows] == [(1, "right"), (2, "left")]
    assert first[1] in rows[1]["messages"] and "Why?" in rows[1]["messages"]
    assert (watched.faults, watched.reached) == ([], [])


def test_broken_answers_keep_the_message(talks: tuple[Site, StandIn], opened: Opener) -> None:
    site, policy = talks
    policy.streams = broken
    page = sit_down(opened, site).page
    page.locator(MESSAGE).fill("Do bees dance?")
    page.reload()
    expect(page.locator(MESSAGE)).to_have_value("Do bees dance?")  # also before it was sent
    page.locator("#talk-send").click()
    expect(page.locator(LEFT)).to_contain_text("Half an")
    expect(page.locator("#talk-problem")).to_contain_text("Your message is still here.")
    expect(page.locator(MESSAGE)).to_have_value("Do bees dance?")
    assert site.store.read("select * from pair") == []
    policy.streams = streamed
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#pick-left")).to_be_enabled(timeout=20_000)
    press(page, "s")
    expect(page.locator("#talk-turn")).to_have_text("Turn 1 of 2")
    expect(page.locator(MESSAGE)).to_have_value("")


def test_a_talk_can_be_ended_and_sends_nothing_empty(
    talks: tuple[Site, StandIn], opened: Opener
) -> None:
    site, policy = talks
    page = sit_down(opened, site).page
    page.locator("#talk-send").click()
    expect(page.locator("#talk-problem")).to_have_text("Write a message first.")
    page.locator(MESSAGE).fill("Not sent")
    page.locator("#talk-end").click()
    expect(page.locator(STATUS)).to_have_text("This talk is over. Here is a new one.")
    expect(page.locator(MESSAGE)).to_have_value("")
    assert policy.asked == []


# --- practice -------------------------------------------------------------------------------------


def test_practice_comes_first_and_is_no_pick(tmp_path: Path, opened: Opener) -> None:
    with made_site(tmp_path) as site:
        fill(site.store, *numbered(1))
        add_practice(site.store, "left", "tie")
        watched = sit_down(opened, site)
        page = watched.page
        banner, result = page.locator("#practice .banner"), page.locator("#practice-result")
        expect(banner).to_contain_text("Practice 1 of 2")
        expect(banner).to_contain_text("Not stored as a pick")
        press(page, "1")
        expect(result).to_contain_text("Right: the left answer is better.")
        expect(result.locator("strong")).to_have_text("rule 0")
        press(page, "1")  # it is answered
        press(page, "u")  # and no pick that could be undone
        page.reload()
        expect(banner).to_contain_text("Practice 1 of 1")  # the first one is done
        page.locator("#pick-right").click()
        expect(result).to_contain_text("Not as expected: it is a tie.")
        page.get_by_role("button", name="Start picking").click()
        assert on_screen(page) in (("Answer A1", "Answer B1"), ("Answer B1", "Answer A1"))
        assert picks(site) == []
        answers = site.store.read("select verdict, correct from practice_answer order by seq")
        assert [tuple(row.values()) for row in answers] == [("left", True), ("right", False)]

        press(page, "?")
        page.get_by_role("button", name="Practise again").click()
        expect(banner).to_contain_text("Practice 1 of 2")
        page.get_by_role("button", name="Leave practice").click()
        expect(page.locator("#practice")).to_have_count(0)
        on_screen(page)
        press(page, "1")
        expect(page.locator("#waiting")).to_be_visible()
        assert picks(site) == ["left"]
        assert (watched.faults, watched.reached) == ([], [])


# --- for everybody --------------------------------------------------------------------------------


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_modes_and_views_are_accessible(
    talks: tuple[Site, StandIn], opened: Opener, scheme: Any, width: int
) -> None:
    site, _ = talks
    add_practice(site.store, "left")
    watched = sit_down(opened, site, color_scheme=scheme, locale="zh-CN", reduced_motion="reduce")
    page = watched.page
    page.set_viewport_size({"width": width, "height": 844})

    def good(what: str) -> None:
        assert axe_findings(page) == [], what
        assert too_wide(page) == 0, what

    expect(page.locator("#practice .banner")).to_be_visible()
    good("practice")
    press(page, "1")
    expect(page.locator("#practice-result")).to_be_visible()
    good("its result")
    press(page, "Enter")
    expect(page.locator(MESSAGE)).to_be_visible()
    good("composer")
    page.locator(MESSAGE).fill("Do bees dance?")
    page.locator("#talk-send").click()
    expect(page.locator("#pick-left")).to_be_enabled(timeout=20_000)
    good("conversation")
    press(page, "1")
    expect(page.locator("#talk-turn")).to_have_text("第 2 轮，共 2 轮")
    pools.change(site.store, "everything", active=True)
    pools.change(site.store, pools.everyone(site.store)[-1].pool_id, active=False)
    add_four(site.store)
    page.locator("#talk-end").click()
    expect(page.locator("#pane-4 .text")).not_to_be_empty()
    good("four")
    press(page, "1")
    good("four with a best one")
    press(page, "2")
    expect(page.locator("#waiting")).to_be_visible()
    good("waiting")
    page.goto(f"{site.url}/annotate/#picks")
    expect(page.locator(".past-row")).to_have_count(2)
    good("my picks")
    page.locator(".past-row a").first.click()
    expect(page.locator("#past-pick")).to_be_visible()
    good("a past pick")
    press(page, "r")
    expect(page.locator("#picks-keep")).to_be_visible()
    good("a revision")
    assert (watched.faults, watched.reached) == ([], [])


def test_touch_targets_on_a_phone(fours: Site, opened: Opener) -> None:
    page = sit_down(opened, fours, has_touch=True).page
    page.set_viewport_size({"width": 390, "height": 844})
    expect(page.locator("#pane-4 .text")).not_to_be_empty()
    assert small_targets(page) == []
