"""Requests that must not share a batch with others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from train.policy.traffic import Traffic


class Refused(Exception):
    pass


def begun(task: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=task)
    thread.start()
    return thread


def test_who_is_alone_waits_for_those_under_way_and_new_ones_wait() -> None:
    traffic, order = Traffic(Refused), []
    under_way, go_on, inside = threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        with traffic.passing():
            under_way.set()
            go_on.wait(10)
            order.append("first")

    def alone() -> None:
        with traffic.alone(), traffic.alone(), traffic.passing():
            inside.set()
            time.sleep(0.1)
            order.append("alone")

    def later() -> None:
        with traffic.passing():
            order.append("later")

    threads = [begun(first)]
    under_way.wait(10)
    threads.append(begun(alone))
    time.sleep(0.1)
    assert not inside.is_set()
    threads.append(begun(later))
    time.sleep(0.1)
    go_on.set()
    for thread in threads:
        thread.join()
    assert order == ["first", "alone", "later"]


def test_who_waited_while_a_rest_began_is_refused() -> None:
    traffic, refused = Traffic(Refused), threading.Event()

    def later() -> None:
        with suppress(Refused), traffic.passing():
            return
        refused.set()

    waiting = threading.Thread(target=later)
    with traffic.alone():
        waiting.start()
        time.sleep(0.1)
        traffic.rest(0)
        assert refused.wait(5)
    waiting.join()


def test_nobody_is_asked_while_it_rests() -> None:
    traffic = Traffic(Refused)
    traffic.rest(0)
    with pytest.raises(Refused), traffic.passing():
        pass
    traffic.end_rest()
    with traffic.passing():
        pass
