"""Signing in, the People page and the own account, in Debian's Chromium."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from store import users
from tests.chromium import Opener, axe_findings, too_wide
from tests.desk_browser import small_targets
from tests.members import PASSWORD, may_read, sign_in
from tests.stored import add_user
from tests.website import Site, made_site

pytestmark = [pytest.mark.slow, pytest.mark.browser]

LOOKS = [
    {"color_scheme": "light", "width": 1280},
    {"color_scheme": "dark", "width": 390, "height": 844, "locale": "zh-CN"},
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with made_site(tmp_path_factory.mktemp("site")) as made:
        yield made


def invite(page: Page, name: str, role: str = "annotator") -> str:
    """Through the dialog of the People page. Returns the link."""
    page.get_by_role("button", name="Invite a person").click()
    page.get_by_label("User name").fill(name)
    page.get_by_role("radio", name=re.compile(f"^{role}")).check()
    page.get_by_role("button", name="Make the link").click()
    link = page.get_by_label(f"Link for {name}").last.input_value()
    page.get_by_role("button", name="Done").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    return link


def test_from_the_invite_to_disabled(site: Site, opened: Opener) -> None:
    admin = opened(f"{site.url}/sign-in?token={site.link('admin')}")
    page = admin.page
    page.goto(site.url + "/people")
    link = invite(page, "mei", "researcher")
    row = page.locator('tr[data-name="mei"]')
    expect(row.locator(".state")).to_contain_text("Invited until")

    guest = opened(link).page
    guest.get_by_label("New password").fill(PASSWORD)
    guest.keyboard.press("Tab")
    guest.keyboard.type(PASSWORD)
    guest.keyboard.press("Enter")
    expect(guest).to_have_url(re.compile("/research"))
    guest.wait_for_load_state()

    row.get_by_label("Role of mei").select_option("annotator")
    expect(page.locator("#status")).to_have_text("mei: the role is now annotator.")
    expect(page.locator("#status")).to_be_in_viewport()
    expect(row.locator(".state")).to_have_text("Active")
    guest.goto(site.url + "/pools/")
    expect(guest.get_by_role("heading", name="Signed in as mei")).to_be_visible()

    row.get_by_role("button", name="Disable mei").click()
    page.get_by_role("button", name="Cancel").click()
    assert users.named(site.store, "mei").active
    row.get_by_role("button", name="Disable mei").click()
    page.get_by_role("button", name="Disable", exact=True).click()
    expect(row.locator(".state")).to_have_text("Disabled")
    guest.reload()
    expect(guest.get_by_role("heading", name="Sign in")).to_be_visible()
    with site.visitor() as client:
        assert sign_in(client, "mei").status_code == 403
        row.get_by_role("button", name="Enable mei").click()
        expect(row.locator(".state")).to_have_text("Active")
        assert sign_in(client, "mei").status_code == 303
    assert (admin.faults, admin.reached) == ([], [])


def test_what_the_server_refuses_is_said_where_it_happened(site: Site, opened: Opener) -> None:
    page = opened(f"{site.url}/sign-in?token={site.link('admin')}").page
    page.goto(site.url + "/people")
    page.get_by_role("button", name="Invite a person").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Make the link").click()
    expect(dialog.get_by_role("alert")).to_have_text("Write a user name.")
    dialog.get_by_label("User name").fill("annotator")
    dialog.get_by_label("User name").press("Enter")
    expect(dialog.get_by_role("alert")).to_contain_text("already a user named 'annotator'")
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Invite a person")).to_be_focused()


def test_search_narrows_the_list(site: Site, opened: Opener) -> None:
    add_user(site.store, "simulated one", "annotator", "simulated")
    page = opened(f"{site.url}/sign-in?token={site.link('admin')}").page
    page.goto(site.url + "/people")
    page.get_by_role("searchbox").fill("RESEARCHER")
    expect(page.locator("#people tbody tr th")).to_contain_text(["researcher"])
    page.get_by_role("searchbox").fill("nobody like that")
    expect(page.locator("#people")).to_contain_text("Nobody fits that search.")
    expect(page.locator("#simulated")).to_contain_text("Simulated annotators (1)")


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: look["color_scheme"])
def test_axe_finds_nothing_on_the_plain_pages(
    site: Site, opened: Opener, look: dict[str, object]
) -> None:
    page = opened(site.url + "/sign-in", **look).page
    page.locator("#name").fill("nobody")
    page.locator("#password").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_be_visible()
    page.locator("summary").click()
    assert (axe_findings(page), too_wide(page)) == ([], 0)
    user = add_user(site.store, f"guest {look['color_scheme']}")
    invited = f"/invite?token={users.issue(site.store, user.user_id, 'invite')}"
    for path in ("/sign-in", invited, "/invite?token=x"):
        page.goto(site.url + path)
        assert (path, axe_findings(page), too_wide(page)) == (path, [], 0)
    page.goto(f"{site.url}/sign-in?token={site.link('admin')}")
    page.goto(site.url + "/sign-in")
    expect(page.locator('a[href="/people"]')).to_be_visible()
    assert (axe_findings(page), too_wide(page)) == ([], 0)


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: look["color_scheme"])
def test_axe_finds_nothing_on_the_people_page(
    site: Site, opened: Opener, look: dict[str, object]
) -> None:
    page = opened(f"{site.url}/sign-in?token={site.link('admin')}", **look).page
    page.goto(site.url + "/people")
    expect(page.locator("#people tbody tr").first).to_be_visible()
    assert (axe_findings(page), too_wide(page)) == ([], 0)
    for button in ("#invite", '[data-focus="link annotator"]', '[data-focus="toggle annotator"]'):
        page.locator(button).click()
        assert (button, axe_findings(page), too_wide(page)) == (button, [], 0)
        page.keyboard.press("Escape")


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: look["color_scheme"])
def test_axe_finds_nothing_on_the_own_account(
    site: Site, opened: Opener, look: dict[str, object]
) -> None:
    user = add_user(site.store, f"ann {look['color_scheme']}")
    page = opened(f"{site.url}/sign-in?token={site.link(user.name)}", **look).page
    page.goto(site.url + "/annotate#account")
    account = page.locator(".account")
    account.locator("[name=label]").fill("laptop")
    account.locator(".api form [type=submit]").click()
    expect(account.locator(".secret")).to_be_visible()
    account.locator("[name=add]").fill("de")
    account.locator("[name=add]").press("Enter")
    account.locator("[name=new]").fill("short")
    account.locator(".password form [type=submit]").click()
    expect(account.get_by_role("alert").filter(visible=True)).to_have_count(1)
    assert (axe_findings(page), too_wide(page)) == ([], 0)
    if look["width"] == 390:
        assert small_targets(page) == []


def test_the_own_account(site: Site, opened: Opener) -> None:
    add_user(site.store, "lin")
    watched = opened(f"{site.url}/sign-in?token={site.link('lin')}")
    page = watched.page
    page.goto(site.url + "/annotate#account")
    account = page.locator(".account")
    expect(account).to_contain_text("Signed in as lin, annotator.")
    account.get_by_label("Add a language").fill("german")
    account.get_by_label("Add a language").press("Enter")
    account.get_by_label("Daily goal").fill("120")
    account.get_by_role("button", name="Save").click()
    expect(page.locator("#status")).to_have_text("Saved.")
    expect(page.locator("#status")).to_be_in_viewport()
    lin = users.named(site.store, "lin")
    assert (lin.languages, lin.goal) == (("de",), 120)

    account.get_by_label("New password").fill("short")
    account.get_by_role("button", name="Set password").click()
    expect(account.get_by_role("alert").filter(visible=True)).to_contain_text("10 characters")
    account.get_by_label("New password").fill(PASSWORD)
    account.get_by_role("button", name="Set password").click()
    expect(account.get_by_label("Current password")).to_be_visible()

    account.get_by_label("What is it for?").fill("laptop")
    account.get_by_role("button", name="Make a token").click()
    secret = account.get_by_label("New token").input_value()
    with site.visitor() as program, site.visitor() as other:
        program.headers["Authorization"] = f"Bearer {secret}"
        assert may_read(program)
        assert axe_findings(page) == []
        account.get_by_role("button", name="Revoke the token laptop").click()
        expect(account).to_contain_text("You have no tokens.")
        assert not may_read(program)
        assert sign_in(other, "lin").status_code == 303
        account.get_by_role("button", name="Sign out everywhere").click()
        expect(page).to_have_url(re.compile("/sign-in"))
        assert not may_read(other)
    assert (watched.faults, watched.reached) == ([], [])
