"""The training room in a real browser: start, steer and look at runs. No model is trained here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from annotate.app_file import as_typed
from store import runs
from tests.chromium import Opener, Watched, axe_findings, too_wide
from tests.stored import add_imports, add_policy
from tests.test_browser_chinese import looks_chinese
from tests.training_room import VERDICT, fill, folder_of
from tests.website import Site, made_site
from train.settings import KINDS, form

pytestmark = [pytest.mark.slow, pytest.mark.browser]

TABS = ("samples", "result", "config", "log", "charts")


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, dict[str, str]]]:
    with made_site(tmp_path_factory.mktemp("room")) as site:
        yield site, fill(site.store)


@pytest.fixture
def site(room: tuple[Site, dict[str, str]]) -> Site:
    return room[0]


@pytest.fixture
def made(room: tuple[Site, dict[str, str]]) -> dict[str, str]:
    """Run ids by what they are."""
    return room[1]


def at(site: Site, opened: Opener, place: str = "", **how: Any) -> Watched:
    watched = opened(f"{site.url}/sign-in?token={site.link('researcher')}", **how)
    watched.page.goto(f"{site.url}/train#{place}")
    expect(watched.page.locator("#list .run").first).to_be_attached()
    return watched


def quiet(watched: Watched) -> bool:
    return (watched.faults, watched.reached) == ([], [])


def command(site: Site, words: str) -> str:
    """As shown where the data directory is not the usual one."""
    return f"{as_typed()} {words} --data-dir {site.store.data_dir.resolve()}"


def setting(page: Page, key: str) -> Any:
    return page.locator(f'.setting[data-key="{key}"]')


# --- start a run ----------------------------------------------------------------------------------


def test_the_form_is_searched_changed_and_reset(site: Site, opened: Opener) -> None:
    watched = at(site, opened, "new/dpo", permissions=["clipboard-read", "clipboard-write"])
    page, shown = watched.page, watched.page.locator(".setting:visible")
    expect(shown).to_have_count(len(form(KINDS["dpo"]())))
    page.get_by_label("Search settings").fill("length")
    expect(setting(page, "length_alpha")).to_be_visible()
    expect(setting(page, "max_length")).to_be_visible()
    expect(setting(page, "beta")).to_be_hidden()
    page.get_by_label("Search settings").fill("")

    shell = page.locator(".preview .command code")
    expect(shell).to_have_text(command(site, "train dpo"))
    expect(page.locator(".preview .rows-told")).to_contain_text("192 picks: 146 pairs, ")
    expect(page.locator(".preview .rows-told")).to_contain_text(re.compile(r"held out, \d+ steps$"))
    expect(page.locator(".preview .rule")).to_contain_text("Ties are left out.")
    page.get_by_label("beta", exact=True).fill("0.3")
    page.get_by_label("ties", exact=True).select_option("soft")
    expect(shell).to_have_text(command(site, "train dpo --set beta=0.3 --set ties=soft"))
    expect(page.locator(".preview .rule")).to_contain_text("A tie is a label of 50 %.")
    expect(page.locator(".setting.changed")).to_have_count(2)
    page.get_by_label("Only changed").check()
    expect(shown).to_have_count(2)
    page.locator(".preview").get_by_role("button", name="Copy").click()
    expect(page.locator("#status")).to_have_text("Copied.")
    assert "--set beta=0.3" in page.evaluate("navigator.clipboard.readText()")

    page.get_by_role("button", name="beta: back to 0.1").click()
    expect(page.get_by_label("beta", exact=True)).to_have_value("0.1")
    page.get_by_role("button", name="Reset to preset").click()
    expect(page.locator(".setting.changed")).to_have_count(0)
    expect(shell).to_have_text(command(site, "train dpo"))
    assert quiet(watched)


def test_the_form_follows_its_presets_while_picks_come_in(tmp_path: Path, opened: Opener) -> None:
    """Of 350 and more a starter takes three passes: what stands in the form is what would run."""
    with made_site(tmp_path) as site:
        add_policy(site.store)
        add_imports(site.store, 60)
        link = f"{site.url}/sign-in?token={site.link('researcher')}"
        watched = opened(link)
        page = watched.page
        page.goto(f"{site.url}/train#new/dpo")
        epochs, beta = (page.get_by_label(name, exact=True) for name in ("epochs", "beta"))
        expect(epochs).to_have_value("4")
        add_imports(site.store, 500)
        beta.fill("0.2")
        expect(epochs).to_have_value("3")
        expect(beta).to_have_value("0.2")
        expect(beta).to_be_focused()
        expect(page.locator(".preview .command code")).to_contain_text("--set beta=0.2")
        expect(page.locator("#start-run")).to_be_enabled()
        assert quiet(watched)


def test_a_wrong_value_is_told_at_its_setting(site: Site, opened: Opener) -> None:
    page = at(site, opened, "new/rm").page
    page.get_by_label("learning_rate", exact=True).fill("fast")
    problem = setting(page, "learning_rate").locator(".problem")
    expect(problem).to_have_text("learning_rate must be a value of type float, not 'fast'.")
    expect(page.locator("#start-run")).to_be_disabled()
    assert page.locator(".preview-body").evaluate("body => body.inert"), "no command to copy"
    page.get_by_label("learning_rate", exact=True).fill("2e-4")
    expect(problem).to_be_hidden()
    expect(page.locator("#start-run")).to_be_enabled()
    assert not page.locator(".preview-body").evaluate("body => body.inert")


def test_start_pause_resume_and_cancel(site: Site, opened: Opener) -> None:
    watched = at(site, opened, "new/round")
    page = watched.page
    page.locator('[id="set-dpo-beta"]').fill("0.5")
    code = page.locator(".preview .command code")
    expect(code).to_have_text(command(site, "train round --set dpo.beta=0.5"))
    page.get_by_role("button", name="Start the run").click()
    expect(page.locator("#status")).to_contain_text("is in the queue.")
    newest = runs.newest(site.store, 1)[0]
    assert (newest.kind, newest.config["settings"]) == ("round", {"dpo.beta": 0.5})
    head = page.locator(".run-head")
    expect(head).to_contain_text(newest.run_id)
    for action, state in (("Pause", "paused"), ("Resume", "queued"), ("Pause", "paused")):
        head.get_by_role("button", name=action).click()
        expect(head.locator(".chip").first).to_have_text(state)
        assert runs.get(site.store, newest.run_id).status == state
    head.get_by_role("button", name="Cancel").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(f"Cancel {newest.run_id}?")
    dialog.get_by_role("button", name="Cancel").click()
    expect(head.locator(".chip").first).to_have_text("cancelled")
    assert runs.get(site.store, newest.run_id).status == "cancelled"
    assert quiet(watched)


def test_a_run_is_changed_and_started_anew(
    site: Site, opened: Opener, made: dict[str, str]
) -> None:
    page = at(site, opened, made["failed"]).page
    page.get_by_role("button", name="Change and start").click()
    expect(page.locator("#set-learning_rate")).to_have_value("0.02")
    expect(page.locator(".setting.changed")).to_have_count(1)
    expect(page.locator(".preview .command code")).to_contain_text("--set learning_rate=0.02")
    assert page.url.endswith("#new/kto")


def test_a_full_queue_is_told_and_two_clicks_are_one_run(site: Site, opened: Opener) -> None:
    page = at(site, opened, "new/rm").page
    button, open_now = page.locator("#start-run"), len(runs.open_now(site.store))
    expect(button).to_be_enabled()
    waiting = [runs.add(site.store, "sft", {"settings": {}}, None) for _ in range(20)]
    button.click()
    expect(page.locator(".preview [role=alert]")).to_contain_text("20 runs are waiting already.")
    for run_id in waiting:
        runs.mark(site.store, run_id, "cancelled")
    button.dblclick()
    expect(page.locator("#status")).to_contain_text("is in the queue.")
    assert len(runs.open_now(site.store)) == open_now + 1
    runs.mark(site.store, runs.newest(site.store, 1)[0].run_id, "cancelled")


NEXT = """async () => {
  const { nextRound } = await import('/static/js/train_round.js');
  const trigger = (name, key, values) => ({ name, on: true, key, values, cooldown: 0 });
  const triggers = [trigger('picks', 'picks', { n: 37 }), trigger('interval', 'minutes', { n: 1 }),
    trigger('drift', 'accuracy', { percent: 70, n: 50, bound: 60 })];
  const said = (next_by) => nextRound({ triggers, next_by })[0].textContent;
  return [said(['picks']), said(['picks', 'interval']), said([])];
}"""


def test_the_line_of_the_next_round(site: Site, opened: Opener) -> None:
    assert at(site, opened).page.evaluate(NEXT) == [
        "Next round: 37 more picks",
        "Next round: 37 more picks, or in 1 minute",
        "Next round: on demand",
    ]


NUMBERS = """async () => {
  const { figure, gentle, nearest, range, smooth, thin, ticks } =
    await import('/static/js/curves.js');
  const wave = [...Array(5000).keys()].map(x => [x, x === 1234 ? 9 : Math.sin(x / 50)]);
  return {
    smooth: smooth([[1, 4], [2, 0], [3, 2]], 0.5).map(point => point[1]),
    gentle: [gentle(0.6, 80), gentle(0.6, 16), gentle(0.6, 6), gentle(0, 80)],
    ticks: [ticks(0, 80, 4), ticks(-0.3, 1.1, 4), ticks(5, 5, 4)],
    range: [range([[0, 1], [1, 3]]), range([[0, 0.4]], { floor: 0, ceiling: 1 }), range([])],
    nearest: [nearest([[0, 0], [10, 0], [20, 0]], 13), nearest([], 1)],
    figures: [0.41321, 12345, 0.00002, -58.26, 0].map(value => figure(value, 'en')),
    thin: [thin(wave).length <= 600, Math.max(...thin(wave).map(point => point[1]))],
  };
}"""


def test_numbers_of_the_charts(site: Site, opened: Opener) -> None:
    # a running mean without a pull to zero: 4, (4/4 + 0/2) / (3/4), (4/8 + 0/4 + 2/2) / (7/8)
    assert at(site, opened).page.evaluate(NUMBERS) == {
        "smooth": [4, pytest.approx(4 / 3), pytest.approx(12 / 7)],
        "gentle": [0.6, 0.5, 0, 0],
        "ticks": [[0, 20, 40, 60, 80], [0, 0.5, 1], []],
        "range": [[pytest.approx(0.88), pytest.approx(3.12)], [0, 1], [0, 1]],
        "nearest": [1, -1],
        "figures": ["0.413", "12,345", "2e-5", "-58.3", "0"],
        "thin": [True, 9],
    }


# --- look at runs ---------------------------------------------------------------------------------


def test_what_a_run_at_work_shows(site: Site, opened: Opener, made: dict[str, str]) -> None:
    watched = at(site, opened)
    page, run_id = watched.page, made["running"]
    head, loss = page.locator(".run-head"), page.locator(".plot .area").first
    expect(head).to_contain_text("step 47 of 80 · 1 min 36 s left")
    expect(head.locator(".warnings li")).to_contain_text(
        [
            re.compile(r"^step \d+ Picked answers became less likely: "),
            "before the start In 98 % of the pairs the longer answer was picked",
        ]
    )
    expect(page.locator("#next-round")).to_contain_text("Next round: 100 more picks")
    expect(loss).to_have_attribute(
        "aria-label", re.compile(rf"Loss: {run_id} 0\.3\d+; .* held out")
    )
    place = loss.bounding_box()
    line = {"step": 48, "max_steps": 80, "seconds": 150.0, "loss": 0.4}
    folder_of(site.store, run_id).add_progress(line)
    expect(head).to_contain_text("step 48 of 80")
    assert loss.bounding_box() == place, "nothing moves while new lines come"
    page.get_by_role("tab", name="Samples").click()
    expect(page.locator(".sample")).to_have_count(3)
    expect(page.locator(".sample section")).to_have_count(6)
    page.get_by_role("checkbox", name="step 23").check(force=True)
    expect(page.locator(".sample section")).to_have_count(9)
    page.get_by_role("tab", name="Log").click()
    expect(page.locator("pre.log")).to_contain_text("171 rows to train on, 16 held out")
    assert quiet(watched)


def test_two_runs_lie_over_each_other(site: Site, opened: Opener, made: dict[str, str]) -> None:
    watched = at(site, opened, made["dpo"])
    page, other = watched.page, made["overfit"]
    expect(page.locator(".plots .plot")).to_have_count(9)
    page.get_by_role("checkbox", name=f"Show {other} in the charts").check(force=True)
    expect(page.locator(".legend li")).to_have_text([f"{made['dpo']} DPO", f"{other} DPO"])
    loss = page.locator(".plot .area").first
    expect(loss.locator("path.line")).to_have_count(2)
    expect(loss.locator("path.raw")).to_have_count(2)
    page.get_by_label("Smoothing").fill("0")
    expect(loss.locator("path.raw")).to_have_count(0)
    loss.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    tip = loss.locator(".tip")
    expect(tip).to_contain_text("Step 79")
    expect(tip.locator("li")).to_have_count(4)  # both losses, and what was held out at step 80
    expect(page.locator(".plot .cursor line")).to_have_count(9)
    page.get_by_role("tab", name="Charts").focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("tab", name="Settings")).to_be_focused()
    expect(page.locator("tr.differs th")).to_contain_text(["epochs", "beta", "sft_weight"])
    page.get_by_label("Only what differs").check()
    expect(page.locator("table.settings tbody tr:visible")).to_have_count(3)
    page.goto(page.url)  # the address holds both runs
    page.reload()
    expect(page.locator("table.settings thead th")).to_have_count(3)
    assert quiet(watched)


def test_the_last_words_of_a_run_are_shown(site: Site, opened: Opener) -> None:
    run_id = runs.add(site.store, "sft", {"settings": {}}, None)
    runs.mark(site.store, run_id, "running")
    folder = folder_of(site.store, run_id)
    folder.freeze({"kind": "sft"})
    asked = [{"role": "user", "content": "Why?"}]
    folder.add_progress({"step": 9, "max_steps": 9, "seconds": 75.0, "loss": 0.5})
    folder.add_sample({"step": 0, "prompt": asked, "text": "No idea."})
    folder.log.write_text("at work\n", encoding="utf-8")
    page = at(site, opened, f"{run_id}/samples").page
    log = at(site, opened, f"{run_id}/log").page
    expect(page.locator(".run-head")).to_contain_text("measuring the result")
    expect(page.locator(".sample section")).to_have_count(1)
    expect(log.locator("pre.log")).to_have_text("at work")
    folder.add_sample({"step": 9, "prompt": asked, "text": "Because.", "cut": True})
    folder.log.write_text("at work\nat its end\n", encoding="utf-8")
    runs.mark(site.store, run_id, "done")
    expect(page.locator(".sample section")).to_have_count(2)
    expect(page.locator(".sample h4 .sub")).to_have_text(["2 words", "1 word · cut at the limit"])
    expect(page.locator(".run-head")).to_contain_text("trained 1 min 15 s")
    expect(log.locator("pre.log")).to_have_text("at work at its end")


def test_runs_that_are_older_than_the_list_are_shown_and_compared(
    tmp_path: Path, opened: Opener
) -> None:
    with made_site(tmp_path) as site:
        made = fill(site.store)
        for _ in range(61):
            runs.mark(site.store, runs.add(site.store, "sft", {"settings": {}}, None), "cancelled")
        watched = at(site, opened, f"{made['round']}/charts+{made['overfit']}")
        expect(watched.page.locator(".legend li")).to_have_text(
            ["run-000002 Reward model", "run-000003 DPO", f"{made['overfit']} DPO"]
        )
        expect(watched.page.locator(".plot .area").first.locator("path.line")).to_have_count(3)
        assert watched.page.evaluate("location.hash").endswith(f"+{made['overfit']}")
        assert quiet(watched)


MACHINE = {"device": ["0,1", ""], "processes": [2, 1]}


def test_a_repeated_run_tells_what_is_different_now(site: Site, opened: Opener) -> None:
    run_id = runs.add(site.store, "sft", {"settings": {}, "repeat_of": "run-000004"}, None)
    differ = {"versions_differ": {"trl": ["1.15.0", "1.16.0"]}, "machine_differs": MACHINE}
    folder_of(site.store, run_id).freeze({"kind": "sft", "settings": {"epochs": 2}} | differ)
    runs.mark(site.store, run_id, "cancelled")
    expect(at(site, opened, f"{run_id}/config").page.locator("#panel .notice")).to_have_text(
        "Libraries or the machine have changed since run-000004, so the figures may differ a "
        "little: trl 1.15.0 → 1.16.0, device 0,1 → –, processes 2 → 1"
    )


def test_quick_turns_between_runs_end_at_the_last_one(
    site: Site, opened: Opener, made: dict[str, str]
) -> None:
    for tab, ready in (("samples", ".sample"), ("log", "pre.log")):
        page = at(site, opened, f"{made['dpo']}/{tab}").page
        expect(page.locator(ready).first).to_be_attached()
        for name in ("overfit", "dpo"):
            page.evaluate(f"location.hash = '{made[name]}/{tab}'")
        expect(page.locator(".run-head")).to_contain_text(made["dpo"])
        expect(page.locator(f"#panel {ready}").first).to_be_attached()


def test_a_mangled_address_shows_the_usual_run(site: Site, opened: Opener) -> None:
    watched = at(site, opened, "%E0%A4%A")
    expect(watched.page.locator(".run-head h2")).to_have_text(re.compile(r"^run-\d+$"))
    assert quiet(watched)


def test_a_round_shows_its_verdict_and_calibration(
    site: Site, opened: Opener, made: dict[str, str]
) -> None:
    watched = at(site, opened, f"{made['round']}/result")
    panel = watched.page.locator("#panel")
    expect(panel).to_contain_text("0.0062")  # of trained against served
    expect(panel.locator(".checks .passed")).to_have_count(len(VERDICT.checks))
    bins = runs.get(site.store, made["round"]).metrics["reward_model"]["reliability"]
    expect(panel.locator(".reliability circle")).to_have_count(len(bins))
    tables = panel.locator(".groups tbody")
    expect(tables.nth(0)).to_contain_text("Everything")
    expect(tables.nth(1)).to_contain_text("annotator")  # by name, not by id
    expect(tables.nth(2)).to_contain_text("clearly")
    assert quiet(watched)


# --- for everybody --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("theme", "width", "places"),
    [
        ("light", 1280, ["/result", "new/round"]),
        ("dark", 390, ["/samples", "/config", "/log"]),
    ],
)
def test_axe_finds_nothing(
    site: Site, opened: Opener, made: dict[str, str], theme: str, width: int, places: list[str]
) -> None:
    page = at(site, opened, width=width, color_scheme=theme).page
    assert ("list", axe_findings(page), too_wide(page)) == ("list", [], 0)
    for name in places:
        place = f"{made['round']}{name}+{made['overfit']}" if name[0] == "/" else name
        page.goto(f"{site.url}/train#{place}")
        ready = "#panel > :not(p)" if "/" in place and "new" not in place else ".preview .rule"
        expect(page.locator(ready).first).to_be_attached()
        assert (place, axe_findings(page), too_wide(page)) == (place, [], 0)


def test_it_is_chinese(site: Site, opened: Opener, made: dict[str, str]) -> None:
    page = at(site, opened, locale="zh-CN").page
    page.locator("#next-round summary").click()
    for place in (*(f"{made['round']}/{tab}" for tab in TABS), made["overfit"], "new/round"):
        page.goto(f"{site.url}/train#{place}")
        page.wait_for_timeout(300)
        looks_chinese(page, place)
    page.locator('[id="set-dpo-beta"]').fill("x")
    told = setting(page, "dpo.beta").locator(".problem")
    expect(told).to_have_text("beta 的值应为 float 类型，不能是 'x'。")


def test_older_runs_are_listed_when_asked_for(site: Site, opened: Opener) -> None:
    """The last test of this file: afterwards the list is long."""
    for _ in range(60):
        runs.mark(site.store, runs.add(site.store, "sft", {"settings": {}}, None), "cancelled")
    page = at(site, opened).page
    expect(page.locator("#list .run")).to_have_count(len(runs.newest_and_open(site.store, 60)))
    page.get_by_role("button", name="Show older runs").click()
    expect(page.locator("#list .run")).to_have_count(len(runs.newest(site.store, 1000)))
    expect(page.get_by_role("button", name="Show older runs")).to_have_count(0)
