"""Who calls the HTTP API: the holder of a bearer token, or of a session cookie."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import HTTPException, Request

from annotate.accounts import Accounts
from annotate.security import session_user
from store.rows import Role, User

Guard = Callable[[Role], Callable[[Request], User]]  # role: a dependency that gives the caller


def guard(accounts: Accounts) -> Guard:
    def needs(role: Role) -> Callable[[Request], User]:
        def user(request: Request) -> User:
            found = _caller(request, accounts)
            if found is None:
                hint = "Send Authorization: Bearer TOKEN; `prefloop users token NAME` makes one."
                detail = {"code": "not_signed_in", "message": "Sign in first.", "hint": hint}
                raise HTTPException(401, detail)
            if not found.may(role):
                detail = {"code": "forbidden", "message": f"This needs the role {role}."}
                raise HTTPException(403, detail)
            return found

        return user

    return needs


def _caller(request: Request, accounts: Accounts) -> User | None:
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return accounts.by_token(secret)
    return session_user(request, accounts)
