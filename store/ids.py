"""Identifiers: uuid7 for facts (RFC 9562), counted names for policies and runs."""

from __future__ import annotations

import os
import time
import uuid


def uuid7() -> str:
    """A time-ordered uuid: 48 bits of milliseconds, then random bits.

    For names, not for order: see `seq`.
    """
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | 7 << 76  # version
    value = value & ~(0x3 << 62) | 2 << 62  # variant
    return str(uuid.UUID(int=value))


def numbered(kind: str, number: int) -> str:
    """`policy-000007`, `run-000012`."""
    return f"{kind}-{number:06d}"


def is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False
