"""Who is asking: passwords, one-time links, invites, browser sessions, API tokens."""

from __future__ import annotations

import logging
import threading
from datetime import datetime, timedelta

from annotate import passwords
from annotate.sign_in_limit import SignInLimit
from store import users
from store.database import Store
from store.rows import Conflict, Invalid, PrefloopError, Role, User, utc_now

log = logging.getLogger(__name__)
INVITE_DAYS = (1, 30)


class WrongPassword(PrefloopError):
    """The name or the password is wrong; which of them is not said (HTTP 403)."""


class Accounts:
    def __init__(self, store: Store) -> None:
        self.store = store
        self._limit = SignInLimit()
        # So that the limit counts exactly, and the 64 MiB that a password costs are held once.
        self._one_at_a_time = threading.Lock()

    # --- signing in ------------------------------------------------------------------------------

    def sign_in(self, name: str, password: str, address: str) -> tuple[User, str]:
        """The user and a new login. Raises WrongPassword, TooManyAttempts."""
        user = self._checked(name, password, address)
        log.info("user %s signed in", user.user_id)
        return user, users.issue(self.store, user.user_id, "login")

    def redeem_link(self, token: str) -> tuple[User, str] | None:
        """The user of a one-time link and a new login; None when it is unknown, used or expired."""
        user = users.spend(self.store, token, "link")
        return (user, users.issue(self.store, user.user_id, "login")) if user else None

    def invited(self, invite: str) -> User | None:
        """Whom a live invite is for; looking does not spend it."""
        return users.holder(self.store, invite, "invite")

    def accept_invite(self, invite: str, password: str) -> tuple[User, str] | None:
        """Set the password of the invited user, end what signed in before, and sign in. None when
        the invite is unknown, used or expired. Raises BadPassword, which does not spend it."""
        user = self.invited(invite)
        if user is None:
            return None
        hashed = self._hashed(password, user.name)
        return users.accept_invite(self.store, invite, hashed)

    def login_valid(self, user_id: str, login_id: str) -> bool:
        user = users.holder(self.store, login_id, "login")
        return user is not None and user.user_id == user_id

    def sign_out(self, login_id: str) -> None:
        users.spend(self.store, login_id, "login")

    # --- who it is -------------------------------------------------------------------------------

    def user(self, user_id: str | None) -> User | None:
        """Read on every request, so that a disabled user is out at once."""
        user = users.get(self.store, user_id) if user_id else None
        return user if user and user.active else None

    def by_token(self, secret: str) -> User | None:
        return users.holder(self.store, secret, "api")

    def has_password(self, user: User) -> bool:
        return users.password_hash(self.store, user.user_id) is not None

    # --- giving access ---------------------------------------------------------------------------

    def link(self, user: User) -> str:
        """The secret of a new sign-in link, good for one use within a day."""
        return users.issue(self.store, user.user_id, "link")

    def invite(self, name: str, role: Role | None, days: int) -> tuple[str, datetime]:
        """The secret of a new invite and its end. With a role it makes the user, without one it
        lets a known user set a new password. Raises Invalid, NotFound, Conflict."""
        fewest, most = INVITE_DAYS
        if not fewest <= days <= most:
            raise Invalid(
                f"An invite is good for {fewest} to {most} days.",
                "invite_days",
                fewest=fewest,
                most=most,
            )
        user = users.add(self.store, name, role) if role else users.named(self.store, name)
        if not user.active:
            raise Conflict(
                f"{name} is disabled. Enable the account first.", "user_disabled", name=name
            )
        life = timedelta(days=days)
        return users.issue(self.store, user.user_id, "invite", life=life), utc_now() + life

    def change_password(
        self, user: User, current: str | None, new: str, *, address: str, login_id: str
    ) -> None:
        """Ends the user's other logins. `current` is asked for once there is a password. Raises
        WrongPassword, TooManyAttempts, BadPassword."""
        if self.has_password(user):
            self._checked(user.name, current or "", address)
        hashed = self._hashed(new, user.name)
        users.set_password(self.store, user.user_id, hashed, keep=login_id)

    # --- passwords -------------------------------------------------------------------------------

    def _checked(self, name: str, password: str, address: str) -> User:
        with self._one_at_a_time:
            self._limit.check(name, address)
            user = users.by_name(self.store, name)
            known = users.password_hash(self.store, user.user_id) if user and user.active else None
            if not passwords.matches(known, password) or user is None or known is None:
                self._limit.failed(name, address)
                log.warning("a sign-in from %s failed", address)
                raise WrongPassword("The user name or the password is wrong.")
            if passwords.outdated(known):
                renewed = passwords.hashed(password)
                users.refresh_hash(self.store, user.user_id, known, renewed)
            return user

    def _hashed(self, password: str, name: str) -> str:
        passwords.check(password, name)
        with self._one_at_a_time:
            return passwords.hashed(password)
