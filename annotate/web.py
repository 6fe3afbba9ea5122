"""The web app: sign-in, the two Gradio mounts, the HTTP API, and the guards around them all."""

from __future__ import annotations

import os
from collections.abc import Mapping

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read by gradio at import

import gradio as gr
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.staticfiles import StaticFiles

from annotate.accounts import Accounts
from annotate.annotate_page import build_annotate_page
from annotate.desk import Desk
from annotate.research import Research
from annotate.research_page import build_research_page
from annotate.security import (
    NoUploads,
    SameOrigin,
    SecurityHeaders,
    SignInRedirect,
    needs,
    session_user,
)
from annotate.sign_in_page import ENDED, SPENT, sign_in_page, signed_in_page
from annotate.theme import ICON_SVG, STATIC, make_theme, page_head
from store.rows import Conflict, Invalid, NotFound, PrefloopError, Role

COOKIE_DAYS = 14  # the login itself can be ended earlier on the server
HTTP_CODES = {
    400: "bad_request",
    401: "not_signed_in",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    413: "too_large",
    422: "invalid",
    429: "too_many_requests",
    503: "unavailable",
}


def create_app(
    *,
    desk: Desk,
    research: Research,
    accounts: Accounts,
    api: APIRouter,
    session_key: str,
    secure_cookie: bool,
    allowed_hosts: list[str],
    version: str,
) -> FastAPI:
    """The whole site. `allowed_hosts` are host names without a port."""
    app = FastAPI(
        title="prefloop", version=version, docs_url=None, redoc_url=None, openapi_url=None
    )
    app.add_middleware(CORSMiddleware, allow_origins=[])  # its presence stops Gradio's own
    _add_error_handlers(app)
    app.include_router(api)
    _add_sign_in(app, accounts)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    annotate, research_page = (
        build_annotate_page(desk, accounts),
        build_research_page(research, accounts),
    )
    _mount(app, annotate, "/annotate", accounts, "annotator")
    _mount(app, research_page, "/research", accounts, "researcher")
    _add_guards(app, session_key, secure_cookie, allowed_hosts)
    return app


def _mount(app: FastAPI, page: gr.Blocks, path: str, accounts: Accounts, role: Role) -> None:
    gr.mount_gradio_app(
        app,
        page,
        path,
        auth_dependency=needs(accounts, role),
        theme=make_theme(),
        head=page_head(),
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        show_error=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        max_file_size="1kb",
    )


def _add_guards(app: FastAPI, session_key: str, secure: bool, allowed_hosts: list[str]) -> None:
    """Middleware runs from the last added to the first: the host check comes before all."""
    app.add_middleware(SignInRedirect)
    app.add_middleware(
        SessionMiddleware,
        secret_key=session_key,
        session_cookie="__Host-prefloop" if secure else "prefloop",
        https_only=secure,
        same_site="lax",
        max_age=COOKIE_DAYS * 24 * 3600,
    )
    app.add_middleware(NoUploads)
    app.add_middleware(SameOrigin)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=allowed_hosts, www_redirect=False)


# --- sign-in -----------------------------------------------------------------------------------


def _add_sign_in(app: FastAPI, accounts: Accounts) -> None:
    @app.get("/")
    def home(request: Request) -> RedirectResponse:
        user = session_user(request, accounts)
        if user is None:
            return RedirectResponse("/sign-in", 303)
        return RedirectResponse("/research" if user.may("researcher") else "/annotate", 303)

    @app.get("/sign-in")
    def sign_in(request: Request, token: str | None = None, ended: bool = False) -> Response:
        # A GET that changes state is acceptable here only: the token is the secret itself, no
        # other site knows it, and it is spent by this request.
        if token is not None and _redeem(request, accounts, token):
            return RedirectResponse("/", 303)
        user = session_user(request, accounts)
        if user is not None:  # also a reload of the spent link by the one who used it
            return RedirectResponse("/", 303) if token else HTMLResponse(signed_in_page(user))
        problem = SPENT if token is not None else ENDED if ended else None
        return HTMLResponse(sign_in_page(problem))

    @app.post("/sign-out")
    def sign_out(request: Request) -> RedirectResponse:
        login_id = request.session.get("login")
        if isinstance(login_id, str):
            accounts.sign_out(login_id)
        request.session.clear()
        return RedirectResponse("/sign-in", 303)

    @app.get("/manifest.json")
    def manifest() -> dict[str, str]:  # every Gradio page asks for it at the root
        return {"name": "prefloop", "display": "browser"}

    @app.get("/favicon.ico")
    def icon() -> Response:
        return Response(ICON_SVG, media_type="image/svg+xml")


def _redeem(request: Request, accounts: Accounts, token: str) -> bool:
    redeemed = accounts.redeem_link(token[:512])
    if redeemed is None:
        return False
    user, login_id = redeemed
    request.session.clear()
    request.session.update(user=user.user_id, login=login_id)
    return True


# --- errors ------------------------------------------------------------------------------------


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(PrefloopError)
    async def ours(request: Request, error: PrefloopError) -> JSONResponse:
        """The one place where an error of ours becomes an HTTP answer."""
        for kind, status, code in _STATUS:
            if isinstance(error, kind):
                return _error(status, code, str(error))
        return _error(503, "unavailable", str(error))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        if isinstance(error.detail, dict):  # the raiser has already said it in our form
            return JSONResponse({"error": error.detail}, error.status_code, error.headers)
        code = HTTP_CODES.get(error.status_code, "error")
        return _error(error.status_code, code, str(error.detail), error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "body")
        return _error(422, "invalid", f"{where}: {first['msg']}" if where else first["msg"])


_STATUS: tuple[tuple[type[PrefloopError], int, str], ...] = (
    (NotFound, 404, "not_found"),
    (Conflict, 409, "conflict"),
    (Invalid, 422, "invalid"),
)


def _error(
    status: int, code: str, message: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers)
