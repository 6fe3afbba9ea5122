"""Who may do what, and what a browser may be made to do.

Roles are read from the store on every request and again inside every Gradio handler: a private
Gradio function can be called by any signed-in user who knows its number, so a page is no boundary.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from html import escape

import gradio as gr
from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from annotate.accounts import Accounts
from annotate.language import FALLBACK, catalogue, language_of, translate
from store.rows import PrefloopError, Role, User

log = logging.getLogger(__name__)
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


# --- who ---------------------------------------------------------------------------------------


def session_user(request: Request, accounts: Accounts) -> User | None:
    """The signed-in user, or None. The cookie holds ids only; both are looked up each time."""
    user_id, login_id = request.session.get("user"), request.session.get("login")
    if not isinstance(user_id, str) or not isinstance(login_id, str):
        return None
    user = accounts.user(user_id)
    if user is None or not user.active or not accounts.login_valid(user_id, login_id):
        return None
    return user


def address_of(request: Request) -> str:
    """Where the request came from; uvicorn has put in what a proxy on this machine says."""
    return request.client.host if request.client else ""


def needs(accounts: Accounts, role: Role) -> Callable[[Request], Awaitable[str | None]]:
    """A Gradio `auth_dependency`: the user id, or None, which Gradio answers with 401."""

    def allowed(request: Request) -> str | None:
        user = session_user(request, accounts)
        return user.user_id if user is not None and user.may(role) else None

    async def user_id(request: Request) -> str | None:
        return await run_in_threadpool(allowed, request)  # the look-up may wait for the store

    return user_id


def acting_user(accounts: Accounts, request: gr.Request, role: Role) -> User:
    """The user behind a Gradio event. Its session hash comes from the client and proves nothing."""
    user = accounts.user(request.username)
    if user is None or not user.may(role):
        ended = translate(lang_of(request), "error.signed_out")
        raise gr.Error(escape(ended), title="", print_exception=False)
    return user


def lang_of(request: gr.Request) -> str:
    """The language of whoever caused a Gradio event."""
    return language_of(request.request) if request.request else FALLBACK


@contextmanager
def shown_to_user(lang: str) -> Iterator[None]:
    """The one place where an error of ours becomes page text, in `lang`. Any other exception is a
    bug: Gradio would drop the click in silence, so the page says that it failed and the log why."""
    try:
        yield
    except gr.Error:
        raise
    except PrefloopError as error:
        message = escape(sentence(error, lang))  # Gradio renders the message as HTML
        raise gr.Error(message, title="", print_exception=False) from error
    except Exception as bug:
        log.exception("a page handler failed")
        message = escape(translate(lang, "error.bug"))
        raise gr.Error(message, title="", print_exception=False) from bug


def sentence(error: PrefloopError, lang: str) -> str:
    """As sentence() of api.js: the store's own English words where the catalogues have none."""
    key = f"error.{error.key}"
    return translate(lang, key, **error.values) if key in catalogue(lang) else str(error)


# --- what --------------------------------------------------------------------------------------


def _policy(**changes: str) -> str:
    rules = {
        "default-src": "'self'",
        "img-src": "'self' data: blob:",
        "script-src": "'self' 'unsafe-inline'",
        "script-src-attr": "'none'",
        "style-src": "'self' 'unsafe-inline'",
        "font-src": "'self' data:",
        "connect-src": "'self'",
        "object-src": "'none'",
        "frame-src": "'none'",
        "base-uri": "'self'",  # Gradio sets a base element
        "form-action": "'self'",
        "frame-ancestors": "'none'",
    }
    rules |= {name.replace("_", "-"): value for name, value in changes.items()}
    return "; ".join(f"{name} {value}" for name, value in rules.items())


# Model text is shown on these pages: nothing is fetched for it, and no form in it can be sent.
SHELL_PAGES = ("/annotate", "/train", "/pools", "/people")
CALLS = ("queue/join", "run", "call", "api")
SHELL_CSP = _policy(img_src="data: blob:", form_action="'none'")
# gr.HTML compiles its template in the browser, so this page needs eval; it never gets model text.
RESEARCH_CSP = _policy(script_src="'self' 'unsafe-inline' 'unsafe-eval'", form_action="'none'")
PLAIN_CSP = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)


def csp_for(path: str) -> str:
    if path.startswith(SHELL_PAGES):
        return SHELL_CSP
    return RESEARCH_CSP if path.startswith("/research") else PLAIN_CSP


class SecurityHeaders:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = csp_for(scope["path"])
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "same-origin"
            await send(message)

        await self.app(scope, receive, send_with_headers)


class SameOrigin:
    """Refuses state-changing requests that another site made the browser send."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in SAFE_METHODS and _foreign(scope):
            await _refusal(403, "cross_origin", "This request came from another site.")(
                scope, receive, send
            )
            return
        await self.app(scope, receive, send)


def _foreign(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    origin = headers.get("origin")
    if origin and origin.split("://", 1)[-1] != headers.get("host"):
        return True
    return headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")


class ClosedDoors:
    """Gradio takes any file from any signed-in user, but no page of ours has an upload; and it
    stumbles over calls to a page that has no functions."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _closed(scope["path"]):
            await _refusal(404, "not_found", "There is nothing here.")(scope, receive, send)
            return
        await self.app(scope, receive, send)


def _closed(path: str) -> bool:
    if "/gradio_api/upload" in path:
        return True
    return path.startswith(SHELL_PAGES) and any(f"/gradio_api/{door}" in path for door in CALLS)


def _refusal(status: int, code: str, message: str) -> JSONResponse:
    return JSONResponse({"error": {"code": code, "message": message}}, status)


class SignInRedirect:
    """A person who opens a page without a login gets the sign-in page; programs keep the 401."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _opens_a_page(scope):
            await self.app(scope, receive, send)
            return
        redirect: Response | None = None

        async def send_or_redirect(message: Message) -> None:
            nonlocal redirect
            if message["type"] == "http.response.start" and message["status"] == 401:
                redirect = RedirectResponse("/sign-in", 303)
            if redirect is None:
                await send(message)

        await self.app(scope, receive, send_or_redirect)
        if redirect is not None:
            await redirect(scope, receive, send)


def _opens_a_page(scope: Scope) -> bool:
    return scope["method"] == "GET" and "text/html" in Headers(scope=scope).get("accept", "")
