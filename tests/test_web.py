"""The web app over HTTP without vLLM: who may do what, and what a browser may be made to do."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import gradio as gr
import httpx
import itsdangerous
import pytest
from fastapi.routing import APIRoute

from annotate.security import SHELL_PAGES, acting_user
from store import users
from store.rows import ROLES, Role
from tests.stored import add_user
from tests.website import SESSION_KEY, Site, error_code, made_site

ROLE_OF_ROUTE: dict[str, Role] = {
    "POST /pairs/next": "annotator",
    "POST /judgments": "annotator",
    "DELETE /judgments/{judgment_id}": "annotator",
    "GET /judgments": "annotator",
    "GET /stats": "annotator",
    "GET /desk": "annotator",
    "POST /desk/conversations/{conversation_id}/end": "annotator",
    "POST /desk/conversations/{conversation_id}/turns": "annotator",
    "GET /desk/guidelines": "annotator",
    "POST /desk/judgments": "annotator",
    "POST /desk/next": "annotator",
    "GET /desk/pairs/{pair_id}/answers/{index}": "annotator",
    "GET /desk/pairs/{pair_id}/prompt/{index}": "annotator",
    "GET /desk/picks": "annotator",
    "GET /desk/picks/{judgment_id}": "annotator",
    "POST /desk/picks/{judgment_id}/revise": "annotator",
    "GET /desk/practice": "annotator",
    "POST /desk/practice/{practice_id}": "annotator",
    "POST /desk/undo": "annotator",
    "GET /policies": "researcher",
    "GET /policies/current": "researcher",
    "GET /policies/{policy_id}": "researcher",
    "POST /policies/{policy_id}/sample": "researcher",
    "POST /policies/{policy_id}/promote": "researcher",
    "POST /policies/{policy_id}/retire": "researcher",
    "POST /policies/rollback": "researcher",
    "POST /runs": "researcher",
    "POST /runs/preview": "researcher",
    "GET /runs": "researcher",
    "GET /runs/settings/{kind}": "researcher",
    "GET /runs/{run_id}": "researcher",
    "GET /runs/{run_id}/log": "researcher",
    "GET /runs/{run_id}/progress": "researcher",
    "GET /runs/{run_id}/samples": "researcher",
    "POST /runs/{run_id}/cancel": "researcher",
    "POST /runs/{run_id}/pause": "researcher",
    "POST /runs/{run_id}/repeat": "researcher",
    "POST /runs/{run_id}/resume": "researcher",
    "POST /prompts": "researcher",
    "GET /prompts": "researcher",
    "POST /preferences": "researcher",
    "GET /export/{format_}": "researcher",
    "GET /flags": "researcher",
    "POST /flags/{judgment_id}": "researcher",
    "GET /guidelines": "researcher",
    "POST /guidelines": "researcher",
    "POST /guidelines/preview": "researcher",
    "GET /guidelines/{version}": "researcher",
    "GET /pools": "researcher",
    "POST /pools": "researcher",
    "PATCH /pools/{pool_id}": "researcher",
    "GET /practice": "researcher",
    "POST /practice": "researcher",
    "POST /practice/order": "researcher",
    "PATCH /practice/{practice_id}": "researcher",
    "DELETE /practice/{practice_id}": "researcher",
    "GET /account": "annotator",
    "PATCH /account": "annotator",
    "POST /account/password": "annotator",
    "POST /account/sign-out-everywhere": "annotator",
    "GET /account/tokens": "annotator",
    "POST /account/tokens": "annotator",
    "DELETE /account/tokens/{token_id}": "annotator",
    "GET /users": "admin",
    "POST /users": "admin",
    "PATCH /users/{name}": "admin",
    "POST /users/{name}/invite": "admin",
    "POST /users/{name}/token": "admin",
    "POST /users/{name}/link": "admin",
    "POST /backup": "admin",
}
MOUNTS: dict[str, Role] = {
    "/annotate": "annotator",
    "/research": "researcher",
    "/train": "researcher",
    "/pools": "researcher",
    "/people": "admin",
}
JOIN = {"fn_index": 0, "data": [], "session_hash": "matrix"}
HTML = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with made_site(tmp_path_factory.mktemp("site")) as made:
        yield made


@pytest.fixture(scope="module")
def clients(site: Site) -> Iterator[dict[str, httpx.Client]]:
    """One signed-in browser for each role, and one without a login under ''."""
    with ExitStack() as opened:
        made = {role: opened.enter_context(site.signed_in(role)) for role in ROLES}
        yield made | {"": opened.enter_context(site.visitor())}


# --- roles --------------------------------------------------------------------------------------


def test_every_api_route_has_its_row_in_the_matrix(site: Site) -> None:
    served = set()
    for route in site.app.routes:
        if isinstance(route, APIRoute) and route.path.startswith("/api/"):
            served |= {f"{method} {route.path[len('/api/v1') :]}" for method in route.methods}
    assert served == ROLE_OF_ROUTE.keys()


@pytest.mark.parametrize("route", ROLE_OF_ROUTE)
@pytest.mark.parametrize("role", ["", *ROLES])
def test_api_role_matrix(clients: dict[str, httpx.Client], role: str, route: str) -> None:
    if role and route == "POST /account/sign-out-everywhere":
        return  # it would end the logins of the other tests: see test_accounts.py
    method, path = route.split(" ")
    answer = clients[role].request(method, "/api/v1" + re.sub(r"\{.*?\}", "nothing", path))
    if not role:
        assert (answer.status_code, error_code(answer)) == (401, "not_signed_in")
    elif ROLES.index(role) < ROLES.index(ROLE_OF_ROUTE[route]):  # type: ignore[arg-type]
        assert (answer.status_code, error_code(answer)) == (403, "forbidden")
    else:
        assert answer.status_code in (200, 204, 404, 409, 422)


@pytest.mark.parametrize("mount", MOUNTS)
@pytest.mark.parametrize("role", ["", *ROLES])
def test_page_role_matrix(clients: dict[str, httpx.Client], role: str, mount: str) -> None:
    allowed = bool(role) and ROLES.index(role) >= ROLES.index(MOUNTS[mount])  # type: ignore[arg-type]
    client, expected = clients[role], 200 if allowed else 401
    assert client.get(f"{mount}/").status_code == expected
    assert client.get(f"{mount}/config").status_code == expected
    joined = client.post(f"{mount}/gradio_api/queue/join", json=JOIN)
    assert joined.status_code == (404 if mount in SHELL_PAGES else expected)
    opened = client.get(f"{mount}/", headers=HTML)
    assert opened.status_code == (200 if allowed else 303)
    if not allowed:
        assert opened.headers["location"] == "/sign-in"


def test_handlers_check_the_role_themselves(site: Site) -> None:
    annotator = users.named(site.store, "annotator")
    asking = gr.Request(username=annotator.user_id)
    assert acting_user(site.accounts, asking, "annotator") == annotator
    for request in (asking, gr.Request(username=None), gr.Request(username="nobody")):
        with pytest.raises(gr.Error, match="sign-in ended"):
            acting_user(site.accounts, request, "researcher")


def test_health_and_metrics_are_open(clients: dict[str, httpx.Client]) -> None:
    health = clients[""].get("/healthz")
    assert health.status_code == 200
    assert health.json().keys() == {"status", "policy", "version"}
    metrics = clients[""].get("/metrics")
    assert metrics.status_code == 200
    assert "\nprefloop_policy_server_up 0\n" in metrics.text


# --- sign-in ------------------------------------------------------------------------------------


def test_link_works_once(site: Site) -> None:
    secret = site.link("researcher")
    with site.visitor() as first, site.visitor() as second:
        assert first.get("/sign-in", params={"token": secret}).headers["location"] == "/"
        assert first.get("/").headers["location"] == "/research"
        refused = second.get("/sign-in", params={"token": secret})
        assert refused.status_code == 200
        assert "already used" in refused.text
        assert "prefloop" not in second.cookies
        assert second.get("/research/").status_code == 401
        reloaded = first.get("/sign-in", params={"token": secret})  # by the one who used it
        assert reloaded.headers["location"] == "/"


def test_cookie_is_kept_from_scripts_and_other_sites(site: Site) -> None:
    with site.visitor() as client:
        answer = client.get("/sign-in", params={"token": site.link("annotator")})
    attributes = answer.headers["set-cookie"].lower()
    assert "httponly" in attributes
    assert "samesite=lax" in attributes


def test_sign_out_ends_the_login_on_the_server(site: Site) -> None:
    with site.signed_in("annotator") as client, site.visitor() as thief:
        cookie = client.cookies["prefloop"]
        assert client.post("/sign-out").headers["location"] == "/sign-in"
        thief.cookies["prefloop"] = cookie
        assert thief.get("/annotate/").status_code == 401
        assert thief.get("/api/v1/stats").status_code == 401


def test_disabled_user_is_out_at_once(site: Site) -> None:
    user = add_user(site.store, "leaver", "researcher")
    token = {"Authorization": f"Bearer {users.issue(site.store, user.user_id, 'api')}"}
    with site.signed_in("leaver") as client, site.visitor() as program:
        assert client.get("/research/").status_code == 200
        assert program.get("/api/v1/runs", headers=token).status_code == 200
        unused = site.link("leaver")
        users.set_access(site.store, user.user_id, active=False)
        assert client.get("/research/").status_code == 401
        assert client.post("/research/gradio_api/queue/join", json=JOIN).status_code == 401
        assert client.get("/api/v1/runs").status_code == 401
        assert program.get("/api/v1/runs", headers=token).status_code == 401
        assert "already used" in program.get("/sign-in", params={"token": unused}).text


def test_the_local_admin_cannot_be_disabled(site: Site) -> None:
    add_user(site.store, "second", "admin")
    with site.signed_in("second") as second:
        for name, sentence in (("admin", "local user"), ("second", "yourself")):
            answer = second.patch(f"/api/v1/users/{name}", json={"active": False})
            assert (answer.status_code, error_code(answer)) == (409, "conflict")
            assert sentence in answer.text
    assert users.named(site.store, "admin").active


def signed(session: dict[str, Any], key: str) -> str:
    payload = base64.b64encode(json.dumps(session).encode())
    return itsdangerous.TimestampSigner(key).sign(payload).decode()


def test_session_cookie_cannot_be_forged(site: Site) -> None:
    admin, annotator = (users.named(site.store, name) for name in ("admin", "annotator"))
    login = users.issue(site.store, annotator.user_id, "login")
    true = signed({"user": annotator.user_id, "login": login}, SESSION_KEY)
    forged = [
        true[:-5] + ("A" if true[-5] != "A" else "B") + true[-4:],
        "A" + true[1:],
        signed({"user": admin.user_id, "login": login}, "another key"),
        signed({"user": admin.user_id, "login": login}, SESSION_KEY),  # a login of somebody else
        signed({"user": annotator.user_id}, SESSION_KEY),
        signed({"user": annotator.user_id, "login": 7}, SESSION_KEY),
        "",
    ]
    assert stats_with_cookie(site, true) == 200
    assert [stats_with_cookie(site, cookie) for cookie in forged] == [401] * len(forged)


def stats_with_cookie(site: Site, cookie: str) -> int:
    with site.visitor() as client:
        client.cookies["prefloop"] = cookie
        return client.get("/api/v1/stats").status_code


# --- what other sites and strangers may make a browser do ---------------------------------------


@pytest.mark.parametrize(
    "path", ["/sign-out", "/api/v1/pairs/next", "/annotate/gradio_api/queue/join"]
)
@pytest.mark.parametrize(
    "header",
    [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}],
    ids=str,
)
def test_foreign_origin_is_refused(
    clients: dict[str, httpx.Client], path: str, header: dict[str, str]
) -> None:
    answer = clients["annotator"].post(path, headers=header)
    assert (answer.status_code, error_code(answer)) == (403, "cross_origin")
    assert clients["annotator"].get("/api/v1/stats").status_code == 200  # still signed in


def test_own_origin_passes(site: Site, clients: dict[str, httpx.Client]) -> None:
    headers = {"Origin": site.url, "Sec-Fetch-Site": "same-origin"}
    answer = clients["annotator"].post("/api/v1/pairs/next", headers=headers)
    assert answer.status_code in (200, 204)


@pytest.mark.parametrize("path", ["/", "/sign-in", "/annotate/", "/api/v1/stats", "/healthz"])
def test_foreign_host_name_is_refused(clients: dict[str, httpx.Client], path: str) -> None:
    assert clients["admin"].get(path, headers={"Host": "evil.example"}).status_code == 400


@pytest.mark.parametrize(
    "path", ["/sign-in", "/annotate/", "/research/", "/api/v1/stats", "/static/style.css", "/none"]
)
def test_headers(clients: dict[str, httpx.Client], path: str) -> None:
    answer = clients["admin"].get(path, headers={"Origin": "http://evil.example"})
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy or "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert ("'unsafe-eval'" in policy) == path.startswith("/research")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin"
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_annotate_page_loads_no_picture_by_address(clients: dict[str, httpx.Client]) -> None:
    policy = clients["annotator"].get("/annotate/").headers["content-security-policy"]
    assert "img-src data: blob:;" in policy
    assert "script-src-attr 'none'" in policy


@pytest.mark.parametrize("mount", MOUNTS)
def test_there_are_no_uploads(clients: dict[str, httpx.Client], mount: str) -> None:
    files = {"files": ("page.html", b"<script>1</script>")}
    answer = clients["admin"].post(f"{mount}/gradio_api/upload", files=files)
    assert (answer.status_code, error_code(answer)) == (404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/api/v1/nothing", None, 404, "not_found"),
        ("PUT", "/api/v1/runs", None, 405, "method_not_allowed"),
        ("GET", "/api/v1/runs/run-999999", None, 404, "not_found"),
        ("POST", "/api/v1/runs", {"kind": "magic"}, 422, "invalid"),
        ("POST", "/api/v1/runs", {"kind": "rm", "more": 1}, 422, "invalid"),
        ("POST", "/api/v1/policies/rollback", None, 409, "conflict"),
        ("GET", "/api/v1/export/floppy", None, 422, "invalid"),
        ("GET", "/api/v1/judgments?since=soon", None, 422, "invalid"),
    ],
)
def test_errors_have_one_form(
    clients: dict[str, httpx.Client], method: str, path: str, body: Any, status: int, code: str
) -> None:
    answer = clients["admin"].request(method, path, json=body)
    assert (answer.status_code, error_code(answer)) == (status, code)
