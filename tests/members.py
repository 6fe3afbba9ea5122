"""People of the test site: how they are invited, sign in, and come in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.website import Site

PASSWORD = "a quiet morning"


def invited(admin: httpx.Client, name: str, role: str | None = "annotator", days: int = 7) -> str:
    """The path of a new invite."""
    body = {"days": days} | ({"role": role} if role else {})
    answer = admin.post(f"/api/v1/users/{name}/invite", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["path"])


def accept(client: httpx.Client, path: str, password: str = PASSWORD) -> httpx.Response:
    token = path.partition("token=")[2]
    form = {"token": token, "password": password, "again": password}
    return client.post("/invite", data=form)


def sign_in(client: httpx.Client, name: str, password: str = PASSWORD) -> httpx.Response:
    return client.post("/sign-in", data={"name": name, "password": password})


@contextmanager
def member(site: Site, name: str, role: str = "annotator") -> Iterator[httpx.Client]:
    """The browser of a new person who accepted an invite."""
    with site.signed_in("admin") as admin, site.visitor() as client:
        assert accept(client, invited(admin, name, role)).status_code == 303
        yield client


def may_read(client: httpx.Client) -> bool:
    return client.get("/api/v1/account").status_code == 200


def alert(answer: httpx.Response) -> str:
    found = re.search(r'role="alert">([^<]*)<', answer.text)
    assert found, answer.text
    return found[1]
