"""Every page in Chinese, in Chromium: no English is left over, and errors are told in Chinese."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from annotate.desk import DeskConfig
from store import guidelines, policies, pools, practice, prompts, runs, users
from store.database import Store
from store.prompts import NewPrompt
from tests.chromium import Opener, axe_findings, press, too_wide
from tests.desk_browser import STATUS, fill, numbered, on_screen, sit_down
from tests.stored import add_pair, add_picks, add_policy, judge, pick, show
from tests.website import Site, made_site

pytestmark = [pytest.mark.slow, pytest.mark.browser]

# Text on the screen, and names for screen readers, that hold two English words in a row.
ENGLISH = """() => {
  const english = /[A-Za-z]{2,} [a-z]{2,}/, found = [];
  for (const element of document.body.querySelectorAll('*')) {
    if (element.closest('script, style, code, .others-text')) continue;
    if (!element.checkVisibility()) continue;
    const own = [...element.childNodes].filter(node => node.nodeType === Node.TEXT_NODE);
    const texts = own.map(node => node.data);
    for (const name of ['aria-label', 'placeholder', 'title', 'alt'])
      texts.push(element.getAttribute(name) ?? '');
    found.push(...texts.filter(text => english.test(text)));
  }
  return found;
}"""
KEY = re.compile(r"\b[a-z_]+\.[a-z_.]+\b")
PROMOTED = (
    "Promoted: It orders 58% of 120 held-out picks as people did (more than 50% is asked). "
    "Its answers are sound."
)
REFUSED = "Failed to load resource: the server responded with a status of 4"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Something of everything; what people wrote is Chinese."""
    path, settings = tmp_path_factory.mktemp("chinese"), DeskConfig(leaderboard=True)
    with made_site(path, settings=settings) as made:
        fill_up(made.store)
        yield made


def fill_up(store: Store) -> None:
    annotator, researcher = (users.named(store, name) for name in ("annotator", "researcher"))
    add_policy(store)
    prompts.add(
        store, [NewPrompt([{"role": "user", "content": "什么是露水？"}], ("自然",))], "starter"
    )
    flagged = add_pair(store, "什么是露水？", "水。", "雨。")
    assert show(store, annotator) == flagged
    judge(store, annotator, flagged, "flag", reasons=("harmful",), comment="请看一下。")
    for number in range(3):
        add_pair(store, f"问题 {number}", "甲", "乙")
    pick(store, annotator, "left", strength=2, comment="更好")
    pools.add(store, "诗歌", mode="best_worst", tags=("诗",))
    for markdown in ("# 规则", "# 新规则"):
        guidelines.publish(store, researcher, markdown)
    practice.save(
        store,
        messages=[{"role": "user", "content": "什么是露水？"}],
        left_text="水。",
        right_text="雨。",
        verdict="left",
        explanation="左边正确。",
    )
    add_policy(store, "policy-000001", promote=False)
    policies.decide(store, "policy-000001", "promote", PROMOTED)
    policies.decide(store, "policy-000000", "rollback", "Rolled back by hand.")
    metrics = {"accuracy": 0.58, "rows_train": 400, "rows_eval": 40, "picks": {"tie": 4}}
    done = runs.add(store, "round", {}, None)
    runs.mark(store, done, "done", reason=PROMOTED, metrics=metrics, verdict="promoted")


def at(site: Site, opened: Opener, path: str, name: str, width: int = 1280) -> Page:
    link = f"{site.url}/sign-in?token={site.link(name)}"
    page = opened(link, width=width, locale="zh-CN").page
    page.goto(site.url + path)
    return page


def looks_chinese(page: Page, where: str) -> None:
    assert (where, page.evaluate(ENGLISH)) == (where, [])
    assert (where, page.evaluate("document.documentElement.lang")) == (where, "zh-CN")
    assert (where, too_wide(page)) == (where, 0)


# --- pages ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1280, 390])
def test_pages_of_annotators(site: Site, opened: Opener, width: int) -> None:
    page = at(site, opened, "/annotate", "annotator", width)
    on_screen(page)
    looks_chinese(page, "desk")
    for key in "?gwe":
        press(page, key)
        page.wait_for_timeout(300)
        looks_chinese(page, key)
        page.keyboard.press("Escape")
    for button in ("#progress", "#account-button"):
        page.locator(button).click()
        looks_chinese(page, button)
        page.keyboard.press("Escape")
    for path, shown in (("#picks", "#view article, #view li"), ("#account", ".account .card")):
        page.goto(f"{site.url}/annotate{path}")
        expect(page.locator(shown).first).to_be_visible()
        looks_chinese(page, path)


@pytest.mark.parametrize("width", [1280, 390])
def test_pages_of_researchers_and_admins(site: Site, opened: Opener, width: int) -> None:
    page = at(site, opened, "/research", "researcher", width)
    expect(page.locator("#policies")).to_contain_text("手动回滚。", timeout=30_000)
    expect(page.locator("#policies")).to_contain_text("有 58% 与人的排序一致（要求高于 50%）。")
    expect(page.get_by_role("button", name="立即训练")).to_be_visible()
    expect(page).to_have_title("研究 · prefloop")
    page.get_by_role("button", name="启用 policy-000001").click()
    expect(page.locator("#confirm")).to_contain_text("从现在起向标注员提供 policy-000001 的回答？")
    looks_chinese(page, "research")
    assert axe_findings(page) == []
    page.goto(f"{site.url}/pools")
    for section in ("pools", "flags", "guidelines", "practice"):
        page.locator(f'#sections a[href="#{section}"]').click()
        expect(page.locator(f".set-{section} h1")).to_be_visible()
        looks_chinese(page, section)
    page = at(site, opened, "/people", "admin", width)
    expect(page.locator("#shell-root table").first).to_be_visible(timeout=20_000)
    looks_chinese(page, "people")


def test_pages_without_a_sign_in(site: Site, opened: Opener) -> None:
    secret, _ = site.accounts.invite("小王", "annotator", 7)
    for path in ("/sign-in", "/sign-in?token=spent", f"/invite?token={secret}", "/invite?token=no"):
        looks_chinese(opened(site.url + path, locale="zh-CN").page, path)


# --- errors ---------------------------------------------------------------------------------------


def test_refusals_are_told_in_chinese(site: Site, opened: Opener) -> None:
    page = at(site, opened, "/pools", "researcher")
    page.get_by_role("button", name="新建题池").click()
    page.get_by_label("名称").fill("诗歌")
    page.get_by_role("button", name="创建题池").click()
    expect(page.get_by_role("alert")).to_have_text("已有名为“诗歌”的题池。")
    expect(page.get_by_label("名称")).to_be_focused()


def test_undo_on_a_full_disk_is_told_in_chinese(
    tmp_path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    with made_site(tmp_path) as site:
        add_policy(site.store)
        add_picks(site.store, users.named(site.store, "annotator"), 1)
        add_pair(site.store, "A question?")
        page = sit_down(opened, site, locale="zh-CN").page
        on_screen(page)
        with monkeypatch.context() as patched:
            patched.setattr("store.database.LEAST_FREE_BYTES", 1 << 62)
            press(page, "u")
            said = page.locator("#notice, #status").filter(has_text="内容未保存")
            expect(said).to_have_text("数据目录所在的磁盘已满，内容未保存。请先释放空间。")
        press(page, "u")
        expect(page.locator(STATUS)).to_have_text("已撤销，请重新选择。")


# --- switching ------------------------------------------------------------------------------------


def test_switching_the_language(tmp_path: Path, opened: Opener) -> None:
    with made_site(tmp_path) as site:
        fill(site.store, *numbered(2))
        watched = sit_down(opened, site, locale="zh-CN")
        page = watched.page
        expect(page.get_by_role("button", name="左边更好")).to_be_visible()
        assert KEY.findall(page.locator("#shell-root").inner_text()) == []
        press(page, "1")
        expect(page.locator(STATUS)).to_have_text("已保存：左边更好。下一组。")
        page.locator("#account-button").click()
        page.locator("#language").select_option("en")
        expect(page.get_by_role("button", name="Left is better")).to_be_visible(timeout=20_000)
        assert watched.faults == []
