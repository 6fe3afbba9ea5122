"""Signing in over HTTP: passwords, sessions, and the limit on failures."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unicodedata import normalize

import pytest
from argon2 import PasswordHasher

from annotate.accounts import Accounts, WrongPassword
from annotate.passwords import REASONS
from annotate.sign_in_limit import PER_ADDRESS, PER_NAME, SignInLimit, TooManyAttempts
from store import users
from store.database import Store
from tests.members import PASSWORD, alert, may_read, member, sign_in
from tests.stored import add_user
from tests.website import Site, error_code, made_site


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with made_site(tmp_path_factory.mktemp("site")) as made:
        yield made


@pytest.fixture
def site(shared: Site) -> Site:
    """With no failed sign-in behind it."""
    shared.accounts._limit = SignInLimit()
    return shared


# --- passwords ----------------------------------------------------------------------------------


def test_sign_in_with_a_password(site: Site) -> None:
    with member(site, "ann"), site.visitor() as other:
        answer = sign_in(other, "ann")
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert other.get("/").headers["location"] == "/annotate"
        account = other.get("/api/v1/account").json()
        assert (account["name"], account["role"], account["has_password"]) == (
            "ann",
            "annotator",
            True,
        )


@pytest.mark.parametrize(
    ("name", "password"),
    [("bob", "wrong password"), ("nobody", PASSWORD), ("admin", ""), ("", ""), ("bob", "x" * 5000)],
)
def test_what_was_wrong_is_not_told(site: Site, name: str, password: str) -> None:
    if users.by_name(site.store, "bob") is None:
        with member(site, "bob"):
            pass
    with site.visitor() as client:
        answer = sign_in(client, name, password)
        assert answer.status_code == 403
        assert alert(answer) == "The user name or the password is wrong."
        assert "prefloop" not in client.cookies
        assert PASSWORD not in answer.text and "wrong password" not in answer.text


def test_an_unknown_name_costs_the_time_of_a_password(store: Store) -> None:
    ann, accounts = add_user(store, "ann"), Accounts(store)
    accounts.change_password(ann, None, PASSWORD, address="", login_id="")
    add_user(store, "link-only")

    def quickest(name: str) -> float:
        """Seconds of one refusal; the quickest of a few, as other processes run too."""
        taken = []
        for number in range(5):
            start = time.perf_counter()
            with pytest.raises(WrongPassword):
                accounts.sign_in(name, "not the password", f"10.0.0.{number}")
            taken.append(time.perf_counter() - start)
        return min(taken)

    known, unknown, without = quickest("ann"), quickest("nobody"), quickest("link-only")
    assert min(unknown, without) > 0.5 * known > 0.005


@pytest.mark.parametrize(
    ("password", "code"),
    [
        ("123456789", "password_short"),
        ("x" * 257, "password_long"),
        ("Clara Oswald", "password_name"),
        ("clara oswald ", "password_name"),
    ],
)
def test_rules_of_passwords(site: Site, password: str, code: str) -> None:
    if users.by_name(site.store, "Clara Oswald") is None:
        add_user(site.store, "Clara Oswald")
    with site.signed_in("Clara Oswald") as client:
        answer = client.post("/api/v1/account/password", json={"new": password})
        assert (answer.status_code, error_code(answer)) == (422, code)
        assert answer.json()["error"]["message"] == REASONS[code]
        assert not client.get("/api/v1/account").json()["has_password"]


@pytest.mark.parametrize(
    "password", ["ten chars!", "x" * 256, "密码密码密码密码密码", " spaces at both ends "]
)
def test_any_characters_make_a_password(site: Site, password: str) -> None:
    name = f"any {abs(hash(password))}"
    add_user(site.store, name)
    with site.signed_in(name) as client, site.visitor() as other:
        assert client.post("/api/v1/account/password", json={"new": password}).status_code == 204
        assert sign_in(other, name, password).status_code == 303


def test_a_new_password_ends_the_other_logins(site: Site) -> None:
    with member(site, "dora") as here, site.visitor() as there, site.visitor() as later:
        assert sign_in(there, "dora").status_code == 303
        path = "/api/v1/account/password"
        wrong = here.post(path, json={"current": "not this one", "new": "another morning"})
        assert (wrong.status_code, error_code(wrong)) == (403, "wrong_password")
        missing = here.post(path, json={"new": "another morning"})
        assert (missing.status_code, error_code(missing)) == (403, "wrong_password")
        assert may_read(there)
        changed = here.post(path, json={"current": PASSWORD, "new": "another morning"})
        assert changed.status_code == 204
        assert (may_read(here), may_read(there)) == (True, False)
        assert sign_in(later, "dora").status_code == 403
        assert sign_in(later, "dora", "another morning").status_code == 303


def test_a_password_is_hashed_again_when_parameters_change(site: Site) -> None:
    user = add_user(site.store, "erik")
    old = PasswordHasher(time_cost=1, memory_cost=8192).hash(PASSWORD)
    users.set_password(site.store, user.user_id, old, keep=None)
    with site.visitor() as client:
        assert sign_in(client, "erik").status_code == 303
        renewed = users.password_hash(site.store, user.user_id)
        assert renewed is not None and renewed != old
        assert renewed.startswith("$argon2id$") and "m=65536" in renewed
        assert sign_in(client, "erik").status_code == 303


def test_a_rebuilt_store_knows_the_passwords(tmp_path: Path) -> None:
    with Store.open(tmp_path / "data") as store:
        ann, bob = add_user(store, "ann"), add_user(store, "bob")
        accounts = Accounts(store)
        accounts.change_password(ann, None, PASSWORD, address="", login_id="")
        accounts.change_password(bob, None, PASSWORD, address="", login_id="")
        users.set_access(store, bob.user_id, active=False)
        users.set_access(store, bob.user_id, active=True)
        users.set_languages(store, bob.user_id, ["en", "zh-CN"])
        users.set_access(store, bob.user_id, role="researcher")
    (tmp_path / "data" / "prefloop.duckdb").unlink()
    with Store.open(tmp_path / "data") as store:
        assert Accounts(store).sign_in("ann", PASSWORD, "")[0].name == "ann"
        bob = users.named(store, "bob")
        assert (bob.active, bob.role, bob.languages) == (True, "researcher", ("en", "zh-CN"))
        assert PASSWORD not in (tmp_path / "data" / "journal.jsonl").read_text()


# --- the session --------------------------------------------------------------------------------


def test_each_sign_in_has_a_login_of_its_own(site: Site) -> None:
    with member(site, "finn") as client, site.visitor() as thief:
        first = client.cookies["prefloop"]
        assert sign_in(client, "finn").status_code == 303
        assert client.cookies["prefloop"] != first
        thief.cookies["prefloop"] = first
        assert (may_read(client), may_read(thief)) == (True, False), "the earlier login has ended"


def test_a_session_from_before_is_not_taken_over(site: Site) -> None:
    with member(site, "gina") as gina, member(site, "hugo") as hugo:
        cookie = gina.cookies["prefloop"]
        hugo.cookies.clear()
        hugo.cookies["prefloop"] = cookie
        assert sign_in(hugo, "hugo").status_code == 303
        assert hugo.get("/api/v1/account").json()["name"] == "hugo"


def test_sign_out_everywhere(site: Site) -> None:
    with member(site, "ines") as here, site.visitor() as there, site.visitor() as program:
        token = here.post("/api/v1/account/tokens", json={"label": "laptop"}).json()["token"]
        assert sign_in(there, "ines").status_code == 303
        unused = site.link("ines")
        cookie = here.cookies["prefloop"]
        assert here.post("/api/v1/account/sign-out-everywhere").status_code == 204
        here.cookies.clear()
        here.cookies["prefloop"] = cookie
        assert (may_read(here), may_read(there)) == (False, False)
        assert "already used" in there.get("/sign-in", params={"token": unused}).text
        program.headers["Authorization"] = f"Bearer {token}"
        assert may_read(program), "API tokens go on"


def test_another_site_cannot_sign_anybody_in_or_out(site: Site) -> None:
    with member(site, "judy") as client:
        for path in ("/sign-in", "/invite", "/sign-out", "/api/v1/account/sign-out-everywhere"):
            answer = client.post(path, headers={"Origin": "http://evil.example"})
            assert (answer.status_code, error_code(answer)) == (403, "cross_origin")
        assert may_read(client)


@pytest.mark.parametrize("body", [b"name=" + b"a" * 20_000, b"&".join([b"a=b"] * 50), b"\xff=1"])
def test_a_form_that_no_page_sends_is_refused(site: Site, body: bytes) -> None:
    with site.visitor() as client:
        answer = client.post("/sign-in", content=body)
        assert answer.status_code in (413, 422)
        assert error_code(answer) in ("too_large", "invalid")


# --- the limit ----------------------------------------------------------------------------------


def test_failures_of_one_name_make_it_wait(site: Site) -> None:
    with member(site, "kate"), site.visitor() as client:
        assert sign_in(client, "kate").status_code == 303
        for _ in range(PER_NAME.amount):
            assert sign_in(client, "kate", "not the password").status_code == 403
        waiting = sign_in(client, "kate")
        assert waiting.status_code == 429
        assert alert(waiting) == "Too many failed attempts. Try again in 5 minutes."
        assert 200 < int(waiting.headers["retry-after"]) <= 300
        assert sign_in(client, "nobody").status_code == 403, "other names go on"


def test_a_name_in_another_spelling_is_the_same_name() -> None:
    """A person looked up under either one is the same."""
    limit = SignInLimit()
    for number in range(PER_NAME.amount):
        limit.failed(normalize("NFD" if number % 2 else "NFC", "zoë"), "10.0.0.1")
    for form in ("NFC", "NFD"):
        with pytest.raises(TooManyAttempts):
            limit.check(normalize(form, "zoë"), "10.0.0.1")
    limit.check("zoe", "10.0.0.1")


def test_failures_of_one_address_make_every_name_wait(site: Site) -> None:
    limit = site.accounts._limit
    for number in range(PER_ADDRESS.amount):
        limit.failed(f"name {number}", "127.0.0.1")
    with site.visitor() as client:
        answer = sign_in(client, "anybody")
        assert answer.status_code == 429
        assert alert(answer) == "Too many failed attempts. Try again in 15 minutes."
    limit.check("anybody", "127.0.0.2")


def test_one_ipv6_network_is_one_address() -> None:
    limit = SignInLimit()
    for number in range(PER_NAME.amount):
        limit.failed("ann", f"2001:db8::{number:x}")
    with pytest.raises(TooManyAttempts):
        limit.check("ann", "2001:db8::ffff")
    limit.check("ann", "2001:db8:0:1::1")


def test_simultaneous_attempts_cannot_pass_the_limit(store: Store) -> None:
    accounts = Accounts(store)

    def attempt(_: int) -> str:
        try:
            accounts.sign_in("ann", "guess guess", "10.0.0.1")
        except (TooManyAttempts, WrongPassword) as error:
            return type(error).__name__
        return "signed in"

    with ThreadPoolExecutor(12) as pool:
        seen = list(pool.map(attempt, range(12)))
    assert sorted(seen) == ["TooManyAttempts"] * 7 + ["WrongPassword"] * 5


def test_the_limit_covers_a_change_of_password(site: Site) -> None:
    with member(site, "liam") as client:
        body = {"current": "not the password", "new": "another morning"}
        for _ in range(PER_NAME.amount):
            assert client.post("/api/v1/account/password", json=body).status_code == 403
        answer = client.post("/api/v1/account/password", json=body | {"current": PASSWORD})
        assert (answer.status_code, error_code(answer)) == (429, "too_many_requests")
        assert int(answer.headers["retry-after"]) > 0
