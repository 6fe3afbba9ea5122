"""Annotators cannot tell what made an answer, and no answer has a place of its own on screens."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from store import flags, pairs, pools, users
from store.database import Tx
from store.judgments import NewJudgment
from store.rows import Completion, User
from tests.desk_page import DESK, POLICY, new_pair, new_pick, send, shown
from tests.stored import add_prompt, add_user
from tests.website import Site

SEED = 987_654_321
TOKEN, LOGPROB = 1_123_581_321, -314159.25  # long, so that no time or id holds them by chance


def telling(text: str, seed: int) -> Completion:
    """One whose policy and seed would be found if they came along anywhere."""
    return Completion(text, [TOKEN], LOGPROB, 1, "stop", POLICY, seed, {"top_p": 0.87654321})


def add_telling(site: Site, *texts: str, wanted: int = 1) -> str:
    prompt_id = add_prompt(site.store, f"What is {uuid.uuid4()}?")
    sides = (telling(text, SEED + number) for number, text in enumerate(texts))
    return pairs.add(site.store, prompt_id, [TOKEN], *sides, wanted=wanted)


def walk(value: Any) -> Iterator[Any]:
    """Every key and every value of some JSON."""
    yield value
    if isinstance(value, dict):
        for key, part in value.items():
            yield key
            yield from walk(part)
    elif isinstance(value, list):
        for part in value:
            yield from walk(part)


def test_nothing_that_an_annotator_reads_tells_policy_seed_or_other_picks(
    site: Site, page: httpx.Client, user: User
) -> None:
    pair_id = add_telling(site, "Left hand.", "Right hand.", wanted=3)
    other = add_user(site.store, f"other {uuid.uuid4()}")
    assert site.desk.next_lease(other) is not None
    theirs = NewJudgment(str(uuid.uuid4()), pair_id, "left", comment="A secret remark.")
    site.desk.judge_only(other, theirs)
    four_id = add_telling(site, "One.", "Two.", "Three.", "Four.")
    for one in (pair_id, four_id):
        assert uuid.UUID(one).version == 4  # 7 would tell when it was sampled

    item = shown(page)
    pick = new_pick(item)
    next_item = send(page, pick)["screen"]["item"]
    assert {item["pair_id"], next_item["pair_id"]} == {pair_id, four_id}
    four_pick = new_pick(next_item, "ranked", best=1, worst=2)
    revised = new_pick(item, "tie")
    answers = [
        page.get(DESK),
        page.post(f"{DESK}/judgments", json=four_pick),
        page.post(f"{DESK}/undo"),
        page.post(f"{DESK}/next"),
        page.get(f"{DESK}/picks"),
        page.get(f"{DESK}/picks/{pick['id']}"),
        page.get(f"{DESK}/picks", params={"q": "secret remark"}),
        page.post(f"{DESK}/picks/{pick['id']}/revise", json=revised),
        page.get(f"{DESK}/guidelines"),
        page.post(f"{DESK}/practice/none", json={"verdict": "left"}),
        page.get(f"{DESK}/pairs/{pair_id}/answers/0"),
        page.get(f"{DESK}/pairs/{pair_id}/prompt/0"),
        page.post(f"{DESK}/judgments", json=new_pick(item)),
        page.post("/api/v1/pairs/next", json={"kinds": ["pair", "four"]}),
        page.get("/api/v1/judgments"),
        page.get("/api/v1/stats"),
        page.get("/annotate/"),
    ]
    secrets = (POLICY, SEED, SEED + 1, TOKEN, "314159", "87654321", other.name, "secret remark")
    for answer in answers:
        told = f"{answer.headers} {answer.text}".replace("q=secret", "")
        assert [secret for secret in secrets if str(secret) in told] == [], answer.url
        if answer.headers["content-type"] == "application/json":
            names = {part for part in walk(answer.json()) if isinstance(part, str)}
            told_names = {
                "policy",
                "policy_id",
                "seed",
                "sampling",
                "shown_order",
                "order",
                "wanted",
            }
            assert not names & told_names
    [listed] = page.get(f"{DESK}/picks", params={"verdict": "tie"}).json()["picks"]
    assert listed["id"] == revised["id"]


def test_the_policy_that_own_picks_trained_may_be_named(site: Site, page: httpx.Client) -> None:
    """Nothing else about policies may: see above."""
    assert page.get(DESK).json()["progress"].keys() == {
        "today",
        "goal",
        "total",
        "median_seconds",
        "streak_days",
        "team",
        "trained",
    }


@pytest.mark.parametrize("done", ["judged", "flagged", "removed"])
def test_a_refused_pick_tells_nothing_of_others(
    site: Site, page: httpx.Client, user: User, done: str
) -> None:
    pair_id = add_telling(site, "Left hand.", "Right hand.", wanted=2)
    item = shown(page)
    other, boss = add_user(site.store, "other"), users.named(site.store, "researcher")
    assert site.desk.next_lease(other) is not None
    if done == "judged":
        site.store.write(lambda tx: tx.all("update pair set wanted = 1"))
    theirs = NewJudgment(str(uuid.uuid4()), pair_id, "left" if done == "judged" else "flag")
    site.desk.judge_only(other, theirs)
    if done == "removed":
        flags.resolve(site.store, boss, theirs.judgment_id, "removed", None)
    answer = page.post(f"{DESK}/judgments", json=new_pick(item))
    assert answer.status_code == 409
    assert answer.json()["error"]["message"] == (
        "This pair needs no more picks. Go on with the next one."
    )


def test_each_side_is_left_half_of_the_time(site: Site) -> None:
    draws = 10_000
    left = Counter(site.desk.draw(2)[0] for _ in range(draws))
    assert left.keys() == {"a", "b"}
    assert abs(left["a"] - draws / 2) < 4 * (draws / 4) ** 0.5  # four standard errors


def test_each_of_four_is_everywhere_a_quarter_of_the_time(site: Site) -> None:
    draws = 10_000
    orders = [site.desk.draw(4) for _ in range(draws)]
    assert {"".join(sorted(order)) for order in orders} == {"abcd"}
    for place in range(4):
        seen = Counter(order[place] for order in orders)
        for side in "abcd":
            assert abs(seen[side] - draws / 4) < 4 * (draws * 3 / 16) ** 0.5


def test_pools_of_two_annotators_draw_their_own_order(site: Site) -> None:
    """The same pair stands in another order on another screen as often as not."""
    pair_ids = [new_pair(site, wanted=2) for _ in range(40)]
    orders = []
    for name in ("left-handed", "right-handed"):
        someone = add_user(site.store, name)
        leases = {}
        for _ in pair_ids:
            lease = site.desk.next_lease(someone)
            assert lease is not None
            leases[lease.pair_id] = lease.order
            skip = NewJudgment(str(uuid.uuid4()), lease.pair_id, "skip")
            site.desk.judge_only(someone, skip)
        orders.append([leases[pair_id] for pair_id in pair_ids])
    same = sum(one == other for one, other in zip(*orders, strict=True))
    assert 5 < same < 35


@pytest.mark.parametrize(("sides", "leases"), [(2, 2_000), (4, 2_000)])
def test_orders_on_screens_as_they_are_stored(site: Site, sides: int, leases: int) -> None:
    """Also with what the store does to a draw: each completion is at each place equally often."""
    prompt_id = add_prompt(site.store, "Which?")
    texts = [telling(text, SEED) for text in "ABCD"[:sides]]
    pair_id = pairs.add(site.store, prompt_id, [TOKEN], *texts, wanted=0)  # for nobody

    def lease_all(tx: Tx) -> None:
        (pair,) = tx.all("select * from pair where pair_id = $id", {"id": pair_id})
        copies = [pair | {"pair_id": str(uuid.uuid4()), "wanted": 1} for _ in range(leases)]
        tx.insert_all("pair", copies)
        for number in range(leases):
            user_id, life = f"annotator {number}", timedelta(minutes=10)
            kinds = ("pair", "four")
            assert pairs.claim(tx, user_id, site.desk.draw, life, ["everything"], kinds)

    site.store.write(lease_all)
    orders = [row["shown_order"] for row in site.store.read("select * from annotator_event")]
    assert len(orders) == leases
    share = 1 / sides
    for place in range(sides):
        seen = Counter(order[place] for order in orders)
        assert "".join(sorted(seen)) == "abcd"[:sides]
        for times in seen.values():  # four standard errors
            assert abs(times - leases * share) < 4 * (leases * share * (1 - share)) ** 0.5


def test_pools_are_drawn_by_weight(site: Site, user: User) -> None:
    """Also when the rarer pool has the older pairs."""
    draws, share = 200, 0.25
    rare = pools.add(site.store, "Rare", tags=["rare"], weight=share / (1 - share))
    for pool_id in (rare.pool_id, "everything"):
        for _ in range(draws):
            new_pair(site, pool_id=pool_id)
    seen = Counter[str]()
    for _ in range(draws):
        lease = site.desk.next_lease(user)
        assert lease is not None
        seen[pool_of(site, lease.pair_id)] += 1
        site.desk.judge_only(user, NewJudgment(str(uuid.uuid4()), lease.pair_id, "skip"))
    error = 4 * (draws * share * (1 - share)) ** 0.5
    assert error < draws * share, "a pool that is never drawn would pass"
    assert abs(seen[rare.pool_id] - draws * share) < error


def pool_of(site: Site, pair_id: str) -> str:
    row = site.store.read_one("select pool_id from pair where pair_id = $id", {"id": pair_id})
    assert row is not None
    return str(row["pool_id"])
