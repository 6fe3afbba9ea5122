"""The web app: sign-in, a Gradio mount per role and page, the HTTP API, and the guards around."""

from __future__ import annotations

import os
from collections.abc import Mapping

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read by gradio at import

import gradio as gr
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from annotate.accounts import Accounts
from annotate.api_json import error_json
from annotate.desk import Desk
from annotate.page_shell import Assets, build_shell_page, shell_head
from annotate.passwords import BadPassword
from annotate.research import Research
from annotate.research_page import build_research_page
from annotate.security import (
    ClosedDoors,
    SameOrigin,
    SecurityHeaders,
    SignInRedirect,
    needs,
)
from annotate.sign_in import add_sign_in
from annotate.sign_in_limit import TooManyAttempts
from annotate.theme import STATIC, make_theme, page_head
from store.rows import PrefloopError, Role

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
STATUS = {"not_found": 404, "conflict": 409, "invalid": 422, "wrong_password": 403}


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
    add_sign_in(app, accounts)
    app.mount("/static", Assets(directory=STATIC), name="static")
    head = shell_head("desk.html", "desk.js", ("desk.css", "modes.css", "account.css"))
    _mount(app, build_shell_page("Annotate"), "/annotate", accounts, "annotator", head)
    research_page = build_research_page(research, accounts)
    _mount(app, research_page, "/research", accounts, "researcher", page_head())
    head = shell_head("train.html", "train.js", ("train.css",))
    _mount(app, build_shell_page("Training"), "/train", accounts, "researcher", head)
    head = shell_head("pools.html", "pools.js", ("pools.css",))
    _mount(app, build_shell_page("Pools"), "/pools", accounts, "researcher", head)
    head = shell_head("people.html", "people.js", ("pools.css", "account.css", "people.css"))
    _mount(app, build_shell_page("People"), "/people", accounts, "admin", head)
    _add_guards(app, session_key, secure_cookie, allowed_hosts)
    return app


def _mount(
    app: FastAPI, page: gr.Blocks, path: str, accounts: Accounts, role: Role, head: str
) -> None:
    gr.mount_gradio_app(
        app,
        page,
        path,
        auth_dependency=needs(accounts, role),
        theme=make_theme(),
        head=head,
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
    app.add_middleware(ClosedDoors)
    app.add_middleware(SameOrigin)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=allowed_hosts, www_redirect=False)


# --- errors ------------------------------------------------------------------------------------


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(PrefloopError)
    async def ours(request: Request, error: PrefloopError) -> JSONResponse:
        """The one place where an error of ours becomes an HTTP answer."""
        body = error_json(error)
        return JSONResponse(body, STATUS.get(body["error"]["code"], 503))

    @app.exception_handler(TooManyAttempts)
    async def wait(request: Request, error: TooManyAttempts) -> JSONResponse:
        return _error(429, "too_many_requests", str(error), {"Retry-After": str(error.seconds)})

    @app.exception_handler(BadPassword)
    async def refused(request: Request, error: BadPassword) -> JSONResponse:
        return _error(422, error.code, str(error))

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


def _error(
    status: int, code: str, message: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers)
