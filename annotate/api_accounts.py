"""Account routes of the HTTP API: one's own account, and for admins everybody's."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Request
from pydantic import Field

from annotate.accounts import Accounts
from annotate.api_guard import Guard
from annotate.api_json import Body, iso
from annotate.app_file import ADMIN
from annotate.navigation import pages_for
from annotate.security import address_of
from store import people, users
from store.people import Person
from store.rows import Conflict, Role, User

Password = Annotated[str, Field(max_length=1024)]  # the rules have sentences of their own


class PasswordIn(Body):
    current: Password | None = None
    new: Password


class TokenIn(Body):
    label: str = Field(min_length=1, max_length=64)


class AccountIn(Body):
    languages: list[str] | None = None
    goal: int | None = None


class UserIn(Body):
    name: str
    role: Role = "annotator"
    source: Literal["human", "simulated"] = "human"


class UserChangeIn(Body):
    role: Role | None = None
    active: bool | None = None


class InviteIn(Body):
    role: Role | None = None  # with a role the person is new
    days: int = 7


def add_account_routes(api: APIRouter, accounts: Accounts, needs: Guard) -> None:
    _own_routes(api, accounts, needs)
    _token_routes(api, accounts, needs)
    _people_routes(api, accounts, needs)
    _access_routes(api, accounts, needs)


def _own_routes(api: APIRouter, accounts: Accounts, needs: Guard) -> None:
    anyone = Depends(needs("annotator"))
    store = accounts.store

    @api.get("/account")
    def account(user: User = anyone) -> dict[str, Any]:
        return account_json(accounts, user)

    @api.patch("/account")
    def change(body: AccountIn, user: User = anyone) -> dict[str, Any]:
        """A field that is not sent stays; `goal` null is the configured goal."""
        if body.languages is not None:
            users.set_languages(store, user.user_id, body.languages)
        if "goal" in body.model_fields_set:
            users.set_goal(store, user.user_id, body.goal)
        return account_json(accounts, users.get(store, user.user_id) or user)

    @api.post("/account/password", status_code=204)
    def password(body: PasswordIn, request: Request, user: User = anyone) -> None:
        login_id, address = _login_of(request), address_of(request)
        accounts.change_password(user, body.current, body.new, address=address, login_id=login_id)

    @api.post("/account/sign-out-everywhere", status_code=204)
    def sign_out_everywhere(request: Request, user: User = anyone) -> None:
        users.end_logins(store, user.user_id)
        request.session.clear()


def _token_routes(api: APIRouter, accounts: Accounts, needs: Guard) -> None:
    anyone = Depends(needs("annotator"))
    store = accounts.store

    @api.get("/account/tokens")
    def tokens(user: User = anyone) -> dict[str, Any]:
        found = people.api_tokens(store, user.user_id)
        return {"tokens": [asdict(token) | {"created": iso(token.created)} for token in found]}

    @api.post("/account/tokens", status_code=201)
    def make_token(body: TokenIn, request: Request, user: User = anyone) -> dict[str, Any]:
        """The only answer that holds the secret."""
        _login_of(request)
        return {"token": users.issue(store, user.user_id, "api", body.label), "label": body.label}

    @api.delete("/account/tokens/{token_id}")
    def end_token(token_id: str, user: User = anyone) -> dict[str, Any]:
        users.end_token(store, user.user_id, token_id)
        return {"token_id": token_id, "ended": True}


def _people_routes(api: APIRouter, accounts: Accounts, needs: Guard) -> None:
    admin = Depends(needs("admin"))
    store = accounts.store

    @api.get("/users")
    def everyone(user: User = admin) -> dict[str, Any]:
        return {"users": [person_json(person) for person in people.everyone(store)]}

    @api.post("/users", status_code=201)
    def add(body: UserIn, user: User = admin) -> dict[str, Any]:
        return user_json(users.add(store, body.name, body.role, body.source))

    @api.patch("/users/{name}")
    def change(name: str, body: UserChangeIn, user: User = admin) -> dict[str, Any]:
        named = users.named(store, name)
        if named.name == ADMIN and (body.active is False or body.role not in (None, "admin")):
            # its token is in app.json
            raise Conflict(
                f"{ADMIN} is the local user of prefloop's own commands and stays.",
                "local_user",
                name=ADMIN,
            )
        if named.user_id == user.user_id and body.active is False:
            raise Conflict("You cannot disable yourself.", "yourself")
        changed = users.set_access(store, named.user_id, role=body.role, active=body.active)
        return user_json(changed)


def _access_routes(api: APIRouter, accounts: Accounts, needs: Guard) -> None:
    admin = Depends(needs("admin"))
    store = accounts.store

    @api.post("/users/{name}/invite", status_code=201)
    def invite(name: str, body: InviteIn, user: User = admin) -> dict[str, Any]:
        secret, expires = accounts.invite(name, body.role, body.days)
        return {"path": f"/invite?token={secret}", "expires": iso(expires)}

    @api.post("/users/{name}/token", status_code=201)
    def token(name: str, user: User = admin) -> dict[str, Any]:
        return {"token": users.issue(store, _active(name).user_id, "api", "command line")}

    @api.post("/users/{name}/link", status_code=201)
    def link(name: str, user: User = admin) -> dict[str, Any]:
        return {"path": f"/sign-in?token={accounts.link(_active(name))}"}

    def _active(name: str) -> User:
        user = users.named(store, name)
        if not user.active:
            raise Conflict(
                f"{name} is disabled. Enable the account first.", "user_disabled", name=name
            )
        return user


def _login_of(request: Request) -> str:
    """The login of a browser's session: a token that leaked must not make more access of itself."""
    if "authorization" in request.headers:
        message = "This is for a signed-in browser; an API token cannot do it."
        raise HTTPException(403, {"code": "forbidden", "message": message})
    return str(request.session["login"])


def account_json(accounts: Accounts, user: User) -> dict[str, Any]:
    return user_json(user) | {
        "has_password": accounts.has_password(user),
        "pages": [{"page": page.name, "path": page.path} for page in pages_for(user.role)],
    }


def user_json(user: User) -> dict[str, Any]:
    return {
        "user_id": user.user_id,
        "name": user.name,
        "role": user.role,
        "source": user.source,
        "active": user.active,
        "languages": list(user.languages),
        "goal": user.goal,
    }


def person_json(person: Person) -> dict[str, Any]:
    return user_json(person.user) | {
        "created": iso(person.created),
        "has_password": person.has_password,
        "invited_until": iso(person.invited_until) if person.invited_until else None,
        "tokens": person.tokens,
        "picks": person.picks,
        "last_pick": iso(person.last_pick) if person.last_pick else None,
        "local": person.user.name == ADMIN,
    }
