"""How often a sign-in may fail: by name from one address, and from one address at all."""

from __future__ import annotations

import math
import time
from ipaddress import IPv6Address, ip_address

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from store.names import normal
from store.rows import PrefloopError

PER_NAME = RateLimitItemPerMinute(5, 5, namespace="name")
PER_ADDRESS = RateLimitItemPerMinute(30, 15, namespace="address")


class TooManyAttempts(PrefloopError):
    """Nothing was checked; `seconds` is how long to wait (HTTP 429)."""

    def __init__(self, seconds: int) -> None:
        self.seconds, self.minutes = seconds, math.ceil(seconds / 60)
        plural = "" if self.minutes == 1 else "s"
        super().__init__(f"Too many failed attempts. Try again in {self.minutes} minute{plural}.")


class SignInLimit:
    """Counts failures only. A restart of the app forgets them."""

    def __init__(self) -> None:
        self._window = MovingWindowRateLimiter(MemoryStorage())

    def check(self, name: str, address: str) -> None:
        """Raises TooManyAttempts."""
        waits = [
            self._window.get_window_stats(item, *keys).reset_time - time.time()
            for item, keys in _limits(name, address)
            if not self._window.test(item, *keys)
        ]
        if waits:
            raise TooManyAttempts(max(1, math.ceil(max(waits))))

    def failed(self, name: str, address: str) -> None:
        for item, keys in _limits(name, address):
            self._window.hit(item, *keys)


def _limits(name: str, address: str) -> tuple[tuple[RateLimitItemPerMinute, tuple[str, ...]], ...]:
    network = _network(address)
    return (PER_NAME, (network, normal(name)[:64])), (PER_ADDRESS, (network,))


def _network(address: str) -> str:
    """One IPv6 household has 2**64 addresses and counts as one."""
    try:
        parsed = ip_address(address)
    except ValueError:  # a Unix socket has none
        return address
    if isinstance(parsed, IPv6Address):
        return str(IPv6Address(int(parsed) >> 64 << 64))
    return str(parsed)
