"""People, simulated annotators and their secrets.

A change of a person gives the row a new `seq` and journals it, so that a rebuilt database has the
newest state. Secrets are kept as sha256 only; the plain text is shown once.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import timedelta
from typing import Any, Literal

from store.database import Store, Tx
from store.ids import uuid7
from store.names import is_name, normal
from store.rows import ROLES, Conflict, Invalid, NotFound, Role, Source, User, utc_now

TokenKind = Literal["api", "link", "login", "invite"]
LIFETIME: dict[TokenKind, timedelta | None] = {
    "api": None,
    "link": timedelta(days=1),
    "login": timedelta(days=30),
    "invite": timedelta(days=7),
}
TAIL = 4  # characters of a secret that a list may show
LARGEST_GOAL = 10_000  # picks a day
LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}")


# --- people ------------------------------------------------------------------------------------


def add(store: Store, name: str, role: Role, source: Source = "human") -> User:
    """Raises Invalid for a bad name or role, Conflict when the name is taken."""
    name = normal(name)
    if not is_name(name):
        raise Invalid(
            "A user name has 1 to 64 letters, digits, spaces or . _ @ + - "
            "and starts with a letter or digit.",
            "user_name",
        )
    _check_role(role)

    def work(tx: Tx) -> User:
        if tx.one("select 1 from app_user where name = $name", {"name": name}):
            raise Conflict(f"There is already a user named {name!r}.", "user_taken", name=name)
        row = {
            "user_id": uuid7(),
            "seq": tx.next_seq(),
            "name": name,
            "role": role,
            "source": source,
            "active": True,
            "created": utc_now(),
            "password_hash": None,
            "languages": [],
            "goal": None,
        }
        tx.insert("app_user", row)
        return user_of(row)

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
    return user_of(row) if row else None


def by_name(store: Store, name: str) -> User | None:
    row = store.read_one("select * from app_user where name = $name", {"name": normal(name)})
    return user_of(row) if row else None


def named(store: Store, name: str) -> User:
    """Raises NotFound with the names that exist."""
    if user := by_name(store, name):
        return user
    known = ", ".join(user.name for user in everyone(store)[:10]) or "none yet"
    raise NotFound(f"There is no user {name!r}. Users: {known}.")


def everyone(store: Store) -> list[User]:
    """In the order in which they were added."""
    return [user_of(row) for row in store.read("select * from app_user order by user_id")]


def set_access(
    store: Store, user_id: str, *, role: Role | None = None, active: bool | None = None
) -> User:
    """The user as changed; None leaves it as it is.

    Disabling ends every login, token and link at once; picks stay. Enabling gives back the account,
    not what ended. Raises Invalid for an unknown role, Conflict for the last active admin.
    """
    if role is not None:
        _check_role(role)
    given = {"role": role, "active": active}

    def work(tx: Tx) -> User:
        if active is False or role not in (None, "admin"):
            _keep_an_admin(tx, user_id)
        if active is False:
            _end_secrets(tx, user_id)
        return _change(tx, user_id, **{key: new for key, new in given.items() if new is not None})

    return store.write(work)


def set_languages(store: Store, user_id: str, languages: list[str]) -> None:
    """The languages this person can judge, as codes such as `en`; none named: every one."""
    if len(languages) > 50 or not all(LANGUAGE.fullmatch(code) for code in languages):
        raise Invalid(
            "A language is a code such as en, de or zh-CN; at most 50 of them.", "languages"
        )
    store.write(lambda tx: _change(tx, user_id, languages=list(dict.fromkeys(languages))))


def set_goal(store: Store, user_id: str, goal: int | None) -> None:
    """Picks a day that this person aims at; None: the configured goal."""
    if goal is not None and not 1 <= goal <= LARGEST_GOAL:
        raise Invalid(f"A daily goal is 1 to {LARGEST_GOAL:,} picks.", "goal", most=LARGEST_GOAL)
    store.write(lambda tx: _change(tx, user_id, goal=goal))


def password_hash(store: Store, user_id: str) -> str | None:
    row = store.read_one("select password_hash from app_user where user_id = $id", {"id": user_id})
    return row["password_hash"] if row else None


def set_password(store: Store, user_id: str, hashed: str, keep: str | None) -> None:
    """Ends the person's logins and links but for the login `keep`. API tokens go on."""

    def work(tx: Tx) -> None:
        _change(tx, user_id, password_hash=hashed)
        _end_secrets(tx, user_id, ("login", "link", "invite"), keep)

    store.write(work)


def refresh_hash(store: Store, user_id: str, old: str, hashed: str) -> None:
    """The same password under newer parameters, unless it was changed meanwhile."""

    def work(tx: Tx) -> None:
        known = tx.one("select password_hash from app_user where user_id = $id", {"id": user_id})
        if known and known["password_hash"] == old:
            _change(tx, user_id, password_hash=hashed)

    store.write(work)


# --- secrets -----------------------------------------------------------------------------------


def issue(
    store: Store,
    user_id: str,
    kind: TokenKind,
    label: str | None = None,
    life: timedelta | None = None,
) -> str:
    """A new secret of 256 bits, good for `life` or as long as its kind is. Only its hash is stored.

    An invite takes the place of the one before.
    """
    secret, life = secrets.token_urlsafe(32), life or LIFETIME[kind]

    def work(tx: Tx) -> str:
        if kind == "invite":
            _end_secrets(tx, user_id, ("invite",))
        _insert_token(tx, secret, user_id, kind, label, life)
        return secret

    return store.write(work)


def end_token(store: Store, user_id: str, token_id: str) -> None:
    """End one API token of this user. Raises NotFound when there is no such live one."""

    def work(tx: Tx) -> None:
        ended = tx.all(
            "update api_token set ended = $now where token_id = $token and user_id = $id "
            "and kind = 'api' and ended is null returning 1",
            {"token": token_id, "id": user_id, "now": utc_now()},
        )
        if not ended:
            raise NotFound("There is no such token of yours that still works.", "token_gone")

    store.write(work)


def end_tokens(store: Store, user_id: str, label: str) -> None:
    """End the live tokens of this user that carry the label."""
    sql = (
        "update api_token set ended = $now where user_id = $id and label = $label and ended is null"
    )
    store.write(lambda tx: tx.all(sql, {"id": user_id, "label": label, "now": utc_now()}))


def end_logins(store: Store, user_id: str) -> None:
    """Sign this user out everywhere; links that could sign in end too, API tokens go on."""
    store.write(lambda tx: _end_secrets(tx, user_id, ("login", "link", "invite")))


def holder(store: Store, secret: str, kind: TokenKind) -> User | None:
    """The active user whose live secret this is."""
    row = store.read_one(LIVE_TOKEN, {"hash": _hash(secret), "kind": kind, "now": utc_now()})
    return user_of(row) if row else None


def spend(store: Store, secret: str, kind: TokenKind) -> User | None:
    """Like `holder`, and the secret ends with it: of two simultaneous callers one gets the user."""
    return store.write(lambda tx: _spend(tx, secret, kind))


def accept_invite(store: Store, invite: str, hashed: str) -> tuple[User, str] | None:
    """Spend an invite, set the password, end what signed in before. Returns the user and a new
    login; None when the invite is unknown, used or expired, and then nothing has changed."""
    login = secrets.token_urlsafe(32)

    def work(tx: Tx) -> tuple[User, str] | None:
        user = _spend(tx, invite, "invite")
        if user is None:
            return None
        _change(tx, user.user_id, password_hash=hashed)
        _end_secrets(tx, user.user_id, ("login", "link", "invite"))
        _insert_token(tx, login, user.user_id, "login", None, LIFETIME["login"])
        return user, login

    return store.write(work)


# --- inside a transaction ----------------------------------------------------------------------


def _change(tx: Tx, user_id: str, **values: Any) -> User:
    """Raises NotFound. The columns come from code."""
    row = tx.one("select * from app_user where user_id = $id", {"id": user_id})
    if row is None:
        raise NotFound("There is no such user.")
    row |= values | {"seq": tx.next_seq()}
    tx.all(UPDATE_USER, {column: row[column] for column in CHANGEABLE} | {"user_id": user_id})
    tx.also_journal("app_user", row)
    return user_of(row)


def _keep_an_admin(tx: Tx, user_id: str) -> None:
    admins = tx.all("select user_id from app_user where role = 'admin' and active")
    if [row["user_id"] for row in admins] == [user_id]:
        raise Conflict(
            "This is the last active admin. Make somebody else an admin first.", "last_admin"
        )


def _end_secrets(
    tx: Tx,
    user_id: str,
    kinds: tuple[TokenKind, ...] = ("api", "link", "login", "invite"),
    keep: str | None = None,
) -> None:
    values = {"id": user_id, "kinds": list(kinds), "keep": keep and _hash(keep), "now": utc_now()}
    tx.all(
        "update api_token set ended = $now where user_id = $id and ended is null "
        "and list_contains($kinds, kind) and token_hash is distinct from $keep",
        values,
    )


def _insert_token(
    tx: Tx, secret: str, user_id: str, kind: TokenKind, label: str | None, life: timedelta | None
) -> None:
    now = utc_now()
    row = {
        "token_hash": _hash(secret),
        "token_id": uuid7(),
        "user_id": user_id,
        "label": label,
        "tail": secret[-TAIL:],
        "kind": kind,
        "created": now,
        "expires": now + life if life else None,
    }
    tx.insert("api_token", row)


def _spend(tx: Tx, secret: str, kind: TokenKind) -> User | None:
    row = tx.one(LIVE_TOKEN, {"hash": _hash(secret), "kind": kind, "now": utc_now()})
    if row is None:
        return None  # a secret of another kind must not end here
    sql = "update api_token set ended = $now where token_hash = $hash"
    tx.all(sql, {"hash": _hash(secret), "now": utc_now()})
    return user_of(row)


CHANGEABLE = ("seq", "role", "active", "password_hash", "languages", "goal")
UPDATE_USER = """
update app_user set seq = $seq, role = $role, active = $active, password_hash = $password_hash,
    languages = $languages, goal = $goal
where user_id = $user_id
"""
LIVE_TOKEN = """
select u.* from api_token t join app_user u on u.user_id = t.user_id
where t.token_hash = $hash and t.kind = $kind and t.ended is null and u.active
  and (t.expires is null or t.expires > $now)
"""


def _check_role(role: str) -> None:
    if role not in ROLES:
        raise Invalid(f"Unknown role {role!r}: choose {', '.join(ROLES)}.")


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def user_of(row: dict[str, Any]) -> User:
    return User(
        row["user_id"],
        row["name"],
        row["role"],
        row["source"],
        row["active"],
        tuple(row["languages"] or ()),
        row["goal"],
    )
