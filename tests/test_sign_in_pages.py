"""The plain pages in both languages: what they say, and what a password manager and a screen reader
find in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest

from annotate.language import catalogue
from annotate.passwords import REASONS
from tests.members import accept, invited, sign_in
from tests.website import Site, made_site

ZH = {"Accept-Language": "zh-CN,zh;q=0.9"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with made_site(tmp_path_factory.mktemp("site")) as made:
        yield made


class Controls(HTMLParser):
    """Inputs by name, ids that a label points to, and whether anything is a script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.inputs: dict[str, dict[str, str | None]] = {}
        self.labelled: set[str | None] = set()
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.add(tag)
        assert not [name for name in given if name.startswith("on")]
        if tag == "input":
            self.inputs[given["name"] or ""] = given
        elif tag == "label":
            self.labelled.add(given["for"])


def test_the_sign_in_form_helps_password_managers(site: Site) -> None:
    with site.visitor() as client:
        found = Controls(client.get("/sign-in").text)
    assert found.inputs["name"]["autocomplete"] == "username"
    assert found.inputs["password"]["autocomplete"] == "current-password"
    assert found.labelled == {"name", "password"}
    assert "script" not in found.tags


def test_the_invite_form_helps_password_managers(site: Site) -> None:
    with site.signed_in("admin") as admin, site.visitor() as client:
        found = Controls(client.get(invited(admin, "ann")).text)
    assert (found.inputs["name"]["value"], found.inputs["name"]["autocomplete"]) == (
        "ann",
        "username",
    )
    assert found.inputs["password"]["autocomplete"] == "new-password"
    assert found.inputs["again"]["autocomplete"] == "new-password"
    assert found.labelled == {"password", "again"}


@pytest.mark.parametrize(
    ("headers", "lang", "title", "wrong"),
    [
        ({}, "en", "Sign in", "The user name or the password is wrong."),
        (ZH, "zh-CN", "登录", "用户名或密码不正确。"),
        ({"Accept-Language": "xx"}, "en", "Sign in", "The user name or the password is wrong."),
    ],
)
def test_pages_speak_the_language_of_the_browser(
    site: Site, headers: dict[str, str], lang: str, title: str, wrong: str
) -> None:
    with site.visitor() as client:
        client.headers.update(headers)
        page = client.get("/sign-in").text
        assert f'<html lang="{lang}">' in page and f"<h1>{title}</h1>" in page
        assert wrong in sign_in(client, "nobody").text


def test_a_language_link_holds_for_this_browser(site: Site) -> None:
    with site.signed_in("admin") as admin, site.visitor() as client:
        path = invited(admin, "bao")
        [link] = re.findall(r'href="(/invite\?[^"]*)" lang="zh-CN"', client.get(path).text)
        page = client.get(link.replace("&amp;", "&"))
        assert "欢迎，bao" in page.text and "设置密码" in page.text
        assert client.cookies["prefloop_lang"] == "zh-CN"
        assert "登录" in client.get("/sign-in").text
        assert "密码至少需要 10 个字符。" in accept(client, path, "short").text
        assert "欢迎，bao" in client.get(path).text, "it is not spent"
        assert "简体中文" in client.get(path, params={"lang": "en"}).text


def test_an_unknown_language_is_not_stored(site: Site) -> None:
    with site.visitor() as client:
        answer = client.get("/sign-in", params={"lang": "<script>"})
        assert answer.status_code == 200
        assert "set-cookie" not in answer.headers
        assert "<script>" not in answer.text


@pytest.mark.parametrize("role", ["annotator", "researcher", "admin"])
def test_the_signed_in_page_lists_what_is_open(site: Site, role: str) -> None:
    with site.signed_in(role) as client:
        page = client.get("/sign-in", headers=ZH).text
    shown = re.findall(r'class="btn" href="(/\w+)"', page)
    expected = ["/annotate", "/research", "/train", "/pools", "/people"]
    assert shown == expected[: {"annotator": 1, "researcher": 4, "admin": 5}[role]]
    assert 'method="post" action="/sign-out"' in page and "退出登录" in page


def test_what_a_visitor_writes_is_shown_as_text(site: Site) -> None:
    with site.visitor() as client:
        page = sign_in(client, '"><script>alert(1)</script>').text
    assert "<script" not in page
    assert "&quot;&gt;&lt;script&gt;" in page


def test_plain_pages_are_not_cached(site: Site) -> None:
    with site.visitor() as client:
        for path in ("/sign-in", "/invite?token=x"):
            assert client.get(path).headers["cache-control"] == "no-store"


def test_the_rules_of_passwords_are_translated(site: Site) -> None:
    for code, sentence in REASONS.items():
        assert catalogue("en")[f"error.{code}"] == sentence
        assert catalogue("zh-CN")[f"error.{code}"] != sentence


def test_a_page_of_another_role_leads_to_the_open_ones(site: Site) -> None:
    with site.signed_in("annotator") as client:
        answer = client.get("/people/", headers={"Accept": "text/html"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
        page = client.get("/sign-in")
    assert "Signed in as annotator" in page.text
