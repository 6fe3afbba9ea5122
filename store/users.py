"""People, simulated annotators and their secrets.

Secrets are kept as sha256 only; the plain text is shown once.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import timedelta
from typing import Any, Literal

from store.database import Store, Tx
from store.ids import uuid7
from store.rows import ROLES, Conflict, Invalid, NotFound, Role, Source, User, utc_now

TokenKind = Literal["api", "link", "login"]
LIFETIME: dict[TokenKind, timedelta | None] = {
    "api": None,
    "link": timedelta(days=1),
    "login": timedelta(days=30),
}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@+-]{0,63}")


def add(store: Store, name: str, role: Role, source: Source = "human") -> User:
    """Raises Invalid for a bad name or role, Conflict when the name is taken."""
    if not NAME.fullmatch(name):
        raise Invalid(
            "A user name has 1 to 64 letters, digits, spaces or . _ @ + - "
            "and starts with a letter or digit."
        )
    if role not in ROLES:
        raise Invalid(f"Unknown role {role!r}: choose {', '.join(ROLES)}.")

    def work(tx: Tx) -> User:
        if tx.one("select 1 from app_user where name = $name", {"name": name}):
            raise Conflict(f"There is already a user named {name!r}.")
        row = {
            "user_id": uuid7(),
            "seq": tx.next_seq(),
            "name": name,
            "role": role,
            "source": source,
            "active": True,
        }
        tx.insert("app_user", row | {"created": utc_now()})
        return _user(row)

    return store.write(work)


def ensure(store: Store, name: str, role: Role, source: Source) -> User:
    """The user of that name, made if missing."""
    if user := by_name(store, name):
        return user
    try:
        return add(store, name, role, source)
    except Conflict:  # somebody else made it just now
        return named(store, name)


def get(store: Store, user_id: str) -> User | None:
    row = store.read_one("select * from app_user where user_id = $id", {"id": user_id})
    return _user(row) if row else None


def by_name(store: Store, name: str) -> User | None:
    row = store.read_one("select * from app_user where name = $name", {"name": name})
    return _user(row) if row else None


def named(store: Store, name: str) -> User:
    """Raises NotFound with the names that exist."""
    if user := by_name(store, name):
        return user
    known = ", ".join(user.name for user in everyone(store)[:10]) or "none yet"
    raise NotFound(f"There is no user {name!r}. Users: {known}.")


def everyone(store: Store) -> list[User]:
    return [_user(row) for row in store.read("select * from app_user order by seq")]


def disable(store: Store, user_id: str) -> None:
    """Ends every session and token at once; picks stay."""

    def work(tx: Tx) -> None:
        now = utc_now()
        tx.all("update app_user set active = false where user_id = $id", {"id": user_id})
        tx.all(
            "update api_token set ended = $now where user_id = $id and ended is null",
            {"id": user_id, "now": now},
        )
        for row in tx.all("select * from app_user where user_id = $id", {"id": user_id}):
            tx.also_journal("app_user", row)  # a rebuilt database must not let them in again

    store.write(work)


def issue(store: Store, user_id: str, kind: TokenKind, label: str | None = None) -> str:
    """A new secret of 256 bits. Only its hash is stored."""
    secret = secrets.token_urlsafe(32)
    now, life = utc_now(), LIFETIME[kind]
    row = {
        "token_hash": _hash(secret),
        "user_id": user_id,
        "kind": kind,
        "label": label,
        "created": now,
        "expires": now + life if life else None,
    }
    store.write(lambda tx: tx.insert("api_token", row))
    return secret


def end_tokens(store: Store, user_id: str, label: str) -> None:
    """End the live tokens of this user that carry the label."""
    sql = (
        "update api_token set ended = $now where user_id = $id and label = $label and ended is null"
    )
    store.write(lambda tx: tx.all(sql, {"id": user_id, "label": label, "now": utc_now()}))


def holder(store: Store, secret: str, kind: TokenKind) -> User | None:
    """The active user whose live secret this is."""
    row = store.read_one(LIVE_TOKEN, {"hash": _hash(secret), "kind": kind, "now": utc_now()})
    return _user(row) if row else None


def spend(store: Store, secret: str, kind: TokenKind) -> User | None:
    """Like `holder`, and the secret ends with it: of two simultaneous callers one gets the user."""

    def work(tx: Tx) -> User | None:
        row = tx.one(LIVE_TOKEN, {"hash": _hash(secret), "kind": kind, "now": utc_now()})
        if row is None:
            return None  # a secret of another kind must not end here
        tx.all(
            "update api_token set ended = $now where token_hash = $hash",
            {"hash": _hash(secret), "now": utc_now()},
        )
        return _user(row)

    return store.write(work)


LIVE_TOKEN = """
select u.* from api_token t join app_user u on u.user_id = t.user_id
where t.token_hash = $hash and t.kind = $kind and t.ended is null and u.active
  and (t.expires is null or t.expires > $now)
"""


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _user(row: dict[str, Any]) -> User:
    return User(row["user_id"], row["name"], row["role"], row["source"], row["active"])
