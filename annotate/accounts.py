"""Who is asking: one-time links, browser sessions, API tokens."""

from __future__ import annotations

from store import users
from store.database import Store
from store.rows import User


class Accounts:
    def __init__(self, store: Store) -> None:
        self.store = store

    def user(self, user_id: str | None) -> User | None:
        """Read on every request, so that a disabled user is out at once."""
        user = users.get(self.store, user_id) if user_id else None
        return user if user and user.active else None

    def redeem_link(self, token: str) -> tuple[User, str] | None:
        """The user of a one-time link and a new login; None when it is unknown, used or expired."""
        user = users.spend(self.store, token, "link")
        return (user, users.issue(self.store, user.user_id, "login")) if user else None

    def login_valid(self, user_id: str, login_id: str) -> bool:
        user = users.holder(self.store, login_id, "login")
        return user is not None and user.user_id == user_id

    def sign_out(self, login_id: str) -> None:
        users.spend(self.store, login_id, "login")

    def by_token(self, secret: str) -> User | None:
        return users.holder(self.store, secret, "api")

    def link(self, user: User) -> str:
        """The secret of a new sign-in link, good for one use within a day."""
        return users.issue(self.store, user.user_id, "link")
