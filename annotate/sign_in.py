"""Signing in and out: plain pages and forms without script. All state is on the server; the cookie
holds two ids."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qsl

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from annotate.accounts import Accounts, WrongPassword
from annotate.language import COOKIE, language_of, languages
from annotate.passwords import BadPassword
from annotate.security import address_of, session_user
from annotate.sign_in_limit import TooManyAttempts
from annotate.sign_in_page import SignInPages
from annotate.theme import ICON_SVG
from store.rows import User

LARGEST_FORM = 16_384  # bytes
LANGUAGE_DAYS = 365
Fields = dict[str, str]


def add_sign_in(app: FastAPI, accounts: Accounts) -> None:
    _add_root(app, accounts)
    _add_password(app, accounts)
    _add_invites(app, accounts)


def _add_root(app: FastAPI, accounts: Accounts) -> None:
    @app.get("/")
    def home(request: Request) -> RedirectResponse:
        user = session_user(request, accounts)
        if user is None:
            return RedirectResponse("/sign-in", 303)
        return RedirectResponse("/research" if user.may("researcher") else "/annotate", 303)

    @app.post("/sign-out")
    def sign_out(request: Request) -> RedirectResponse:
        _end_session(request, accounts)
        return RedirectResponse("/sign-in", 303)

    @app.get("/manifest.json")
    def manifest() -> dict[str, str]:  # every Gradio page asks for it at the root
        return {"name": "prefloop", "display": "browser"}

    @app.get("/favicon.ico")
    def icon() -> Response:
        return Response(ICON_SVG, media_type="image/svg+xml")


def _add_password(app: FastAPI, accounts: Accounts) -> None:
    @app.get("/sign-in")
    def page(request: Request, token: str | None = None, ended: bool = False) -> Response:
        # A GET that changes state is acceptable here only: the token is the secret itself, no
        # other site knows it, and it is spent by this request.
        redeemed = accounts.redeem_link(token[:512]) if token is not None else None
        if redeemed is not None:
            return _signed_in(request, accounts, *redeemed)
        user = session_user(request, accounts)
        if user is not None and token is not None:  # a reload by the one who used the link
            return RedirectResponse("/", 303)
        if user is not None:
            return _answer(request, lambda pages: pages.signed_in(user))
        problem = "signin.spent" if token is not None else "signin.ended" if ended else None
        return _answer(request, lambda pages: pages.sign_in(problem))

    @app.post("/sign-in")
    def sign_in(request: Request, fields: Fields = Depends(_fields)) -> Response:
        name, password = fields.get("name", "").strip(), fields.get("password", "")
        try:
            user, login = accounts.sign_in(name, password, address_of(request))
        except WrongPassword:
            return _answer(request, lambda pages: pages.sign_in("signin.wrong", name), 403)
        except TooManyAttempts as error:
            return _wait(request, error, name)
        return _signed_in(request, accounts, user, login)


def _add_invites(app: FastAPI, accounts: Accounts) -> None:
    @app.get("/invite")
    def page(request: Request, token: str = "") -> Response:
        user = accounts.invited(token[:512])
        if user is None:
            return _answer(request, lambda pages: pages.invite_gone(), 410)
        return _answer(request, lambda pages: pages.invite(user, token))

    @app.post("/invite")
    def accept(request: Request, fields: Fields = Depends(_fields)) -> Response:
        token, password = fields.get("token", "")[:512], fields.get("password", "")
        user, problem = accounts.invited(token), "signin.differ"
        if user is None:
            return _answer(request, lambda pages: pages.invite_gone(), 410)
        try:
            if password == fields.get("again"):
                accepted = accounts.accept_invite(token, password)
                if accepted is None:  # spent by another request just now
                    return _answer(request, lambda pages: pages.invite_gone(), 410)
                return _signed_in(request, accounts, *accepted)
        except BadPassword as error:
            problem = f"error.{error.code}"
        return _answer(request, lambda pages: pages.invite(user, token, problem), 422)


# --- the session -------------------------------------------------------------------------------


def _signed_in(request: Request, accounts: Accounts, user: User, login: str) -> Response:
    _end_session(request, accounts)
    request.session.update(user=user.user_id, login=login)
    return RedirectResponse("/", 303)


def _end_session(request: Request, accounts: Accounts) -> None:
    login_id = request.session.get("login")
    if isinstance(login_id, str):
        accounts.sign_out(login_id)
    request.session.clear()


# --- requests and answers ----------------------------------------------------------------------


async def _fields(request: Request) -> Fields:
    """A form as browsers send it. Raises HTTPException for one that no page of ours sends."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_FORM:
            raise HTTPException(413, "This form is too large.")
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=10))
    except ValueError:
        raise HTTPException(422, "This form cannot be read.") from None


def _answer(
    request: Request, page: Callable[[SignInPages], str], status: int = 200
) -> HTMLResponse:
    """The page in the reader's language; `?lang=` chooses one for this browser."""
    chosen = request.query_params.get("lang")
    lang = chosen if chosen in languages() else language_of(request)
    answer = HTMLResponse(page(SignInPages(lang)), status)
    answer.headers["Cache-Control"] = "no-store"
    if chosen == lang:
        answer.set_cookie(COOKIE, lang, max_age=LANGUAGE_DAYS * 86_400, samesite="lax")
    return answer


def _wait(request: Request, error: TooManyAttempts, name: str) -> Response:
    def page(pages: SignInPages) -> str:
        return pages.sign_in("signin.wait", name, n=error.minutes)

    answer = _answer(request, page, 429)
    answer.headers["Retry-After"] = str(error.seconds)
    return answer
