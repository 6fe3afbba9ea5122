"""Passwords: argon2id with the library's own parameters, and few rules."""

from __future__ import annotations

import secrets

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

from store.rows import Invalid, is_text

SHORTEST, LONGEST = 10, 256  # characters
_hasher = PasswordHasher()
# Verified for a person without a password, so that the time of an answer tells nothing.
_nobodys = _hasher.hash(secrets.token_urlsafe())


class BadPassword(Invalid):
    """A password that cannot be taken. `code` is a key of REASONS."""

    def __init__(self, code: str) -> None:
        super().__init__(REASONS[code], code)
        self.code = code


REASONS = {
    "password_short": f"A password has at least {SHORTEST} characters.",
    "password_long": f"A password has at most {LONGEST} characters.",
    "password_name": "A password must not be the user name.",
    "password_text": "The password holds characters that are not valid Unicode.",
}


def check(password: str, name: str) -> None:
    """Whether `name` may choose this password. Raises BadPassword."""
    if not is_text(password):
        raise BadPassword("password_text")
    if len(password) < SHORTEST:
        raise BadPassword("password_short")
    if len(password) > LONGEST:
        raise BadPassword("password_long")
    if password.strip().casefold() == name.casefold():
        raise BadPassword("password_name")


def hashed(password: str) -> str:
    """What the store keeps of a password. About 0.05 s and 64 MiB."""
    return _hasher.hash(password)


def matches(known: str | None, password: str) -> bool:
    """Whether this is the password behind the hash. Takes its time also when there is no hash."""
    if len(password) > LONGEST or not is_text(password):
        password, known = "", None
    try:
        _hasher.verify(known or _nobodys, password)
    except VerifyMismatchError:
        return False
    return known is not None


def outdated(known: str) -> bool:
    """True for a hash of other parameters than those of today."""
    return _hasher.check_needs_rehash(known)
