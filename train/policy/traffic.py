"""Requests for answers that are under way, and whether new ones may begin."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

WAIT_S = 120.0  # the client's own patience


class Traffic:
    """Thread-safe. `refusal` makes what is raised while no request may begin."""

    def __init__(self, refusal: Callable[[], Exception]) -> None:
        self._refusal = refusal
        self._resting = False
        self._under_way = 0
        self._alone: int | None = None  # id of the thread that has the server for itself
        self._changed = threading.Condition()

    @property
    def resting(self) -> bool:
        return self._resting

    def rest(self, timeout_s: float) -> None:
        """No new requests; those under way may end, for as long as this."""
        with self._changed:
            self._resting = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._under_way == 0, timeout_s)

    def end_rest(self) -> None:
        self._resting = False

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Around a request. One to a server that sleeps would wait for its whole rest."""
        with self._changed:
            me = threading.get_ident()
            self._changed.wait_for(lambda: self._resting or self._alone in (None, me), WAIT_S)
            if self._resting:  # perhaps only since it waits
                raise self._refusal()
            self._under_way += 1
        try:
            yield
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Around requests that share no batch: those under way end first, new ones wait. Within
        another `alone` of the same thread it does nothing."""
        me = threading.get_ident()
        if self._alone == me:
            yield
            return
        with self._changed:
            self._changed.wait_for(lambda: self._alone is None, WAIT_S)
            self._alone = me
            self._changed.wait_for(lambda: self._under_way == 0, WAIT_S)
        try:
            yield
        finally:
            with self._changed:
                self._alone = None
                self._changed.notify_all()
