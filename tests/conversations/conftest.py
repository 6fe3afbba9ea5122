"""An annotator who talks with a stand-in, over HTTP."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator

import httpx
import pytest

from store import pools
from store.pools import Pool
from store.rows import User
from tests.desk_page import POLICY
from tests.stored import add_policy
from tests.vllm_stand_in import StandIn, stand_in, streamed
from tests.website import Site, made_site


@pytest.fixture(scope="module")
def vllm() -> Iterator[StandIn]:
    with stand_in() as made:
        made.adapters[POLICY] = "there"
        yield made


@pytest.fixture(scope="module")
def site(vllm: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with made_site(tmp_path_factory.mktemp("site"), vllm.url) as made:
        add_policy(made.store, POLICY)
        yield made


@pytest.fixture(autouse=True)
def _as_it_was(vllm: StandIn) -> Iterator[None]:
    yield
    vllm.streams, vllm.gone = streamed, threading.Event()
    vllm.asked.clear()


@pytest.fixture
def pool(site: Site, user: User) -> Iterator[Pool]:
    """A pool of this annotator's own, without openings; it nearly always comes first."""
    made = pools.add(
        site.store,
        f"Talk {uuid.uuid4()}",
        mode="conversation",
        annotators=[user.user_id],
        turns=2,
        weight=1000,
    )
    pools.change(site.store, "everything", weight=0.001)
    yield made
    pools.change(site.store, made.pool_id, active=False)


@pytest.fixture
def page(site: Site, user: User, pool: Pool) -> Iterator[httpx.Client]:
    with site.signed_in(user.name) as client:
        yield client
