"""Shared parts of the tests: the real starter, a real store, one real app with vLLM."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from playwright.sync_api import Browser

from store.database import Store
from store.rows import User
from tests.chromium import Opener, launched, opener
from tests.served_app import ServedApp, start_app
from tests.stored import add_policy, add_user
from train.base_model import cache_dir
from train.starter.cache import ensure_starter

if TYPE_CHECKING:
    from tests.website import Site  # with all of Gradio, which many tests can do without


LONGEST = ("test_whole_loop", "test_training_scripts", "test_distributed", "test_faults")  # minutes


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest modules begin, then the slow ones, so that no worker is left alone with one."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path.stem not in LONGEST, item.path not in slow))


@pytest.fixture(scope="session")
def starter_dir() -> Path:
    """The embedded default policy, built at the first use on a machine."""
    return ensure_starter(cache_dir())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "data") as opened:
        yield opened


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """The whole web app with a champion, for one test; some modules share a site of their own."""
    from tests.desk_page import POLICY
    from tests.website import made_site

    with made_site(tmp_path) as made:
        add_policy(made.store, POLICY)
        yield made


@pytest.fixture
def user(site: Site) -> User:
    """A new annotator, who has seen no pair and made no pick yet."""
    return add_user(site.store, f"annotator {uuid.uuid4()}")


@pytest.fixture
def page(site: Site, user: User) -> Iterator[httpx.Client]:
    """The browser of `user`."""
    with site.signed_in(user.name) as client:
        yield client


@pytest.fixture(scope="session")
def served_app(starter_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedApp]:
    """One app with vLLM for all slow tests that do not break it; rounds start only on demand, and
    vLLM is stopped for them."""
    served = start_app(
        tmp_path_factory.mktemp("served") / "data",
        PREFLOOP_LOOP__EVERY_PICKS="0",
        PREFLOOP_TRAIN__GPU_SHARING="stop",
    )
    yield served
    served.stop()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture
def opened(chromium: Browser) -> Iterator[Opener]:
    """Opens an address in a browser without a past; see tests/chromium.py."""
    with opener(chromium) as open_:
        yield open_
