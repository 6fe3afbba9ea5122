"""People over HTTP: invites, roles, disabling, tokens, own settings, and the `users` command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import typer
from typer.testing import CliRunner

from annotate.api_client import ApiClient
from annotate.commands import add_commands
from annotate.passwords import REASONS
from store import users
from store.database import Store
from store.journal import read_journal
from store.rows import Conflict, utc_now
from tests.members import PASSWORD, accept, alert, invited, may_read, member, sign_in
from tests.stored import add_user
from tests.website import Site, error_code, made_site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with made_site(tmp_path_factory.mktemp("site")) as made:
        yield made


@pytest.fixture
def admin(site: Site) -> Iterator[httpx.Client]:
    with site.signed_in("admin") as client:
        yield client


# --- invites ------------------------------------------------------------------------------------


def test_looking_at_an_invite_does_not_spend_it(site: Site, admin: httpx.Client) -> None:
    path = invited(admin, "mona", "researcher")
    with site.visitor() as client:
        for _ in range(2):
            page = client.get(path)
            assert page.status_code == 200
            assert "Welcome, mona" in page.text
            assert "prefloop" not in client.cookies
        answer = accept(client, path)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert client.get("/").headers["location"] == "/research"


def test_an_invite_is_spent_once(site: Site, admin: httpx.Client) -> None:
    path = invited(admin, "nora")
    with site.visitor() as first, site.visitor() as second:
        assert accept(first, path).status_code == 303
        assert second.get(path).status_code == 410
        refused = accept(second, path, "stolen password")
        assert refused.status_code == 410
        assert "no longer valid" in refused.text
        assert sign_in(second, "nora", "stolen password").status_code == 403
        assert may_read(first)


def test_a_refused_password_does_not_spend_the_invite(site: Site, admin: httpx.Client) -> None:
    path = invited(admin, "olaf")
    token = path.partition("token=")[2]
    with site.visitor() as client:
        short = accept(client, path, "short")
        assert (short.status_code, alert(short)) == (422, REASONS["password_short"])
        form = {"token": token, "password": PASSWORD, "again": "another morning"}
        differ = client.post("/invite", data=form)
        assert (differ.status_code, alert(differ)) == (422, "The two passwords differ.")
        assert accept(client, path).status_code == 303


@pytest.mark.parametrize("token", ["", "wrong", "%F0%9F", "x" * 4000])
def test_a_wrong_invite_says_so(site: Site, token: str) -> None:
    with site.visitor() as client:
        page = client.get(f"/invite?token={token}")
        assert page.status_code == 410
        assert "Ask an admin for a new link." in page.text


def test_an_expired_invite_says_so(site: Site, admin: httpx.Client) -> None:
    path = invited(admin, "pia", days=1)
    past = {"past": utc_now() - timedelta(seconds=1)}
    sql = "update api_token set expires = $past where kind = 'invite'"
    site.store.write(lambda tx: tx.all(sql, past))
    with site.visitor() as client:
        assert client.get(path).status_code == 410
        assert accept(client, path).status_code == 410


@pytest.mark.parametrize("days", [0, 31, -1])
def test_an_invite_is_good_for_up_to_a_month(admin: httpx.Client, days: int) -> None:
    answer = admin.post("/api/v1/users/late/invite", json={"role": "annotator", "days": days})
    assert (answer.status_code, error_code(answer)) == (422, "invalid")
    assert "1 to 30 days" in answer.text
    assert admin.post("/api/v1/users/late/invite", json={"days": 3}).status_code == 404


def test_an_invite_resets_a_password(site: Site, admin: httpx.Client) -> None:
    with member(site, "quin") as before, site.visitor() as after:
        replaced, path = invited(admin, "quin", None), invited(admin, "quin", None)
        assert after.get(replaced).status_code == 410, "the newer invite took its place"
        assert accept(after, path, "another morning").status_code == 303
        assert (may_read(before), may_read(after)) == (False, True)
        assert sign_in(before, "quin").status_code == 403


def test_a_known_name_is_not_invited_as_a_new_person(admin: httpx.Client) -> None:
    invited(admin, "rosa")
    answer = admin.post("/api/v1/users/rosa/invite", json={"role": "admin"})
    assert (answer.status_code, error_code(answer)) == (409, "conflict")
    assert "already a user" in answer.text


# --- people -------------------------------------------------------------------------------------


def test_disabling_ends_everything_at_once(site: Site, admin: httpx.Client) -> None:
    with member(site, "sven", "researcher") as client, site.visitor() as other:
        secret = client.post("/api/v1/account/tokens", json={"label": "job"}).json()["token"]
        invite, link = invited(admin, "sven", None), site.link("sven")
        page = client.get("/pools/")
        assert page.status_code == 200
        body = {"active": False}
        assert admin.patch("/api/v1/users/sven", json=body).json()["active"] is False
        assert client.get("/pools/config").status_code == 401, "the open page's next request"
        assert not may_read(client)
        assert other.get(invite).status_code == 410
        assert "already used" in other.get("/sign-in", params={"token": link}).text
        assert sign_in(other, "sven").status_code == 403
        other.headers["Authorization"] = f"Bearer {secret}"
        assert not may_read(other)
        for action in ("invite", "link", "token"):
            assert admin.post(f"/api/v1/users/sven/{action}", json={}).status_code == 409


def test_enabling_gives_back_the_account_and_not_the_tokens(
    site: Site, admin: httpx.Client
) -> None:
    with member(site, "tara") as client, site.visitor() as other:
        secret = client.post("/api/v1/account/tokens", json={"label": "job"}).json()["token"]
        for active in (False, True):
            admin.patch("/api/v1/users/tara", json={"active": active})
        assert not may_read(client), "the login of before has ended"
        assert sign_in(client, "tara").status_code == 303
        other.headers["Authorization"] = f"Bearer {secret}"
        assert not may_read(other)


def test_a_role_holds_from_the_next_request(site: Site, admin: httpx.Client) -> None:
    with member(site, "ugo") as client:
        assert client.get("/pools/").status_code == 401
        admin.patch("/api/v1/users/ugo", json={"role": "researcher"})
        assert client.get("/pools/").status_code == 200
        admin.patch("/api/v1/users/ugo", json={"role": "annotator"})
        assert client.get("/pools/config").status_code == 401
        assert client.get("/api/v1/runs").status_code == 403


def test_role_and_state_change_in_one_write(site: Site, admin: httpx.Client) -> None:
    add_user(site.store, "uma")
    body = {"role": "researcher", "active": False}
    changed = admin.patch("/api/v1/users/uma", json=body).json()
    assert (changed["role"], changed["active"]) == ("researcher", False)
    facts = read_journal(site.store.data_dir / "journal.jsonl")
    written = [row for table, row in facts if table == "app_user" and row["name"] == "uma"]
    assert [(row["role"], row["active"]) for row in written] == [
        ("annotator", True),
        ("researcher", False),
    ]


def test_the_last_active_admin_stays(store: Store) -> None:
    first, second = add_user(store, "first", "admin"), add_user(store, "second", "admin")
    users.set_access(store, second.user_id, active=False)
    for change in (
        lambda: users.set_access(store, first.user_id, active=False),
        lambda: users.set_access(store, first.user_id, role="researcher"),
    ):
        with pytest.raises(Conflict, match="last active admin"):
            change()
    users.set_access(store, first.user_id, role="admin")  # no change of who is one
    users.set_access(store, second.user_id, active=True)
    users.set_access(store, first.user_id, role="annotator")
    assert [user.name for user in users.everyone(store) if user.may("admin")] == ["second"]


def test_the_people_list(site: Site, admin: httpx.Client) -> None:
    with member(site, "vera") as client:
        client.post("/api/v1/account/tokens", json={"label": "job"})
        invited(admin, "wim", days=2)
        listed = {person["name"]: person for person in admin.get("/api/v1/users").json()["users"]}
    vera, wim = listed["vera"], listed["wim"]
    assert (vera["has_password"], vera["tokens"], vera["picks"], vera["last_pick"]) == (
        True,
        1,
        0,
        None,
    )
    assert (wim["has_password"], wim["tokens"]) == (False, 0)
    assert wim["invited_until"].endswith("Z")
    assert listed["admin"]["local"] and not vera["local"]
    assert "hash" not in str(listed) and "argon2" not in str(listed)


# --- tokens -------------------------------------------------------------------------------------


def test_a_token_is_shown_once(site: Site) -> None:
    with member(site, "xena") as client, site.visitor() as program:
        made = client.post("/api/v1/account/tokens", json={"label": "laptop"})
        secret = made.json()["token"]
        assert made.status_code == 201 and len(secret) >= 43
        listed = client.get("/api/v1/account/tokens")
        assert secret not in listed.text
        [token] = listed.json()["tokens"]
        assert token.keys() == {"token_id", "label", "tail", "created"}
        assert (token["label"], token["tail"]) == ("laptop", secret[-4:])
        program.headers["Authorization"] = f"Bearer {secret}"
        assert may_read(program)
        assert client.delete(f"/api/v1/account/tokens/{token['token_id']}").status_code == 200
        assert not may_read(program)
        again = client.delete(f"/api/v1/account/tokens/{token['token_id']}")
        assert (again.status_code, error_code(again)) == (404, "not_found")


def test_nobody_ends_the_token_of_another(site: Site) -> None:
    with member(site, "yara") as yara, member(site, "zoe") as zoe:
        yara.post("/api/v1/account/tokens", json={"label": "job"})
        [token] = yara.get("/api/v1/account/tokens").json()["tokens"]
        assert zoe.delete(f"/api/v1/account/tokens/{token['token_id']}").status_code == 404
        assert len(yara.get("/api/v1/account/tokens").json()["tokens"]) == 1


@pytest.mark.parametrize(
    ("path", "body"), [("tokens", {"label": "more"}), ("password", {"new": "another morning"})]
)
def test_a_token_makes_no_further_access(site: Site, path: str, body: dict[str, str]) -> None:
    secret = users.issue(site.store, users.named(site.store, "annotator").user_id, "api")
    with site.visitor() as program:
        program.headers["Authorization"] = f"Bearer {secret}"
        answer = program.post(f"/api/v1/account/{path}", json=body)
        assert (answer.status_code, error_code(answer)) == (403, "forbidden")


# --- own settings -------------------------------------------------------------------------------


def test_languages_and_goal(site: Site) -> None:
    add_user(site.store, "polyglot")
    with site.signed_in("polyglot") as client:
        changed = client.patch("/api/v1/account", json={"languages": ["zh-CN", "en"], "goal": 120})
        assert changed.json()["languages"] == ["zh-CN", "en"]
        assert client.patch("/api/v1/account", json={"languages": []}).json()["goal"] == 120
        assert client.patch("/api/v1/account", json={"goal": None}).json()["goal"] is None
        for bad in ({"languages": ["<b>"]}, {"goal": 0}, {"goal": 10_001}, {"role": "admin"}):
            answer = client.patch("/api/v1/account", json=bad)
            assert (answer.status_code, error_code(answer)) == (422, "invalid")
        assert users.named(site.store, "polyglot").role == "annotator"


# --- commands -----------------------------------------------------------------------------------


def test_the_users_command(site: Site) -> None:
    secret = users.issue(site.store, users.named(site.store, "admin").user_id, "api")

    def connect(
        config_file: Path | None, data_dir: Path | None, *, policy: bool = False
    ) -> AbstractContextManager[ApiClient]:
        return ApiClient(site.url, secret)

    cli = typer.Typer()
    add_commands(cli, connect)

    def said(*arguments: str) -> str:
        done = CliRunner().invoke(cli, ["users", *arguments])
        assert done.exit_code == 0, done.output
        return done.output

    link = said("add", "cleo", "--role", "researcher").splitlines()[-1]
    assert link.startswith(site.url + "/invite?token=")
    with site.visitor() as client:
        assert accept(client, link).status_code == 303
        assert said("role", "cleo", "annotator") == "cleo is annotator now.\n"
        assert client.get("/api/v1/account").json()["role"] == "annotator"
        assert "cleo is disabled" in said("disable", "cleo")
        assert not may_read(client)
        assert "disabled" in next(line for line in said("list").splitlines() if "cleo" in line)
        assert "can sign in again" in said("enable", "cleo")
        again = said("invite", "cleo").splitlines()[-1]
        assert accept(client, again, "another morning").status_code == 303
