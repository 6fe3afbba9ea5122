"""What a user name may be."""

from __future__ import annotations

import unicodedata

LONGEST = 64  # characters


def normal(name: str) -> str:
    """One spelling of what looks the same: a letter with its accent is one character."""
    return unicodedata.normalize("NFC", name)


def is_name(name: str) -> bool:
    """Letters and digits of any script; nothing that is invisible or turns the direction."""
    kinds = [unicodedata.category(character)[0] for character in name]
    return (
        0 < len(name) <= LONGEST
        and kinds[0] in "LN"
        and all(
            kind in "LMN" or character in " ._@+-"
            for kind, character in zip(kinds, name, strict=True)
        )
    )
