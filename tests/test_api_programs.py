"""What programs judge over the HTTP API: pairs, sets of four, the next one with a pick."""

from __future__ import annotations

import httpx

from annotate.api_client import ApiClient
from annotate.simulate import Plan, simulate
from store import users
from tests.desk_page import new_four, new_pair, new_pick
from tests.website import Site


def test_programs_get_the_next_pair_with_a_pick(site: Site, page: httpx.Client) -> None:
    new_pair(site), new_pair(site)
    pair = page.post("/api/v1/pairs/next").json()
    pick = new_pick(pair)
    answer = page.post("/api/v1/judgments?next=true", json=pick)
    assert answer.status_code == 201
    following = answer.json()["next"]
    assert following.keys() == {"pair_id", "prompt", "left", "right", "lease_expires"}
    assert page.post("/api/v1/pairs/next").json() == following
    last = page.post("/api/v1/judgments?next=true", json=new_pick(following)).json()
    assert last["next"] is None
    assert "next" not in page.post("/api/v1/judgments", json=pick).json()


def test_programs_ask_for_sets_of_four(site: Site, page: httpx.Client) -> None:
    new_four(site)
    new_four(site)
    assert page.post("/api/v1/pairs/next").status_code == 204
    both = {"kinds": ["pair", "four"]}
    four = page.post("/api/v1/pairs/next", json=both).json()
    assert four.keys() == {"pair_id", "prompt", "answers", "lease_expires"}
    assert [answer.keys() for answer in four["answers"]] == [{"text"}] * 4
    pick = new_pick(four, "ranked", best=0, worst=3)
    params = {"next": True, "kinds": ["pair", "four"]}
    following = page.post("/api/v1/judgments", params=params, json=pick).json()["next"]
    assert len(following["answers"]) == 4
    assert page.post("/api/v1/pairs/next", json={"kinds": ["conversation"]}).status_code == 422


def test_simulated_annotators_judge_pairs_and_sets_of_four(site: Site) -> None:
    pair_ids = [new_pair(site, f"Yes {n}.", f"Yes {n}, so it is.") for n in range(4)]
    four_id = new_four(site)
    admin = users.named(site.store, "admin")
    with ApiClient(site.url, users.issue(site.store, admin.user_id, "api")) as client:
        done: list[int] = []
        assert simulate(client, Plan("concise", picks=5, annotators=2), done.append) == 4
    assert sorted(done) == [1, 2, 3, 4, 5]
    rows = site.store.read("select * from judgment_live where source = 'simulated'")
    assert {row["pair_id"] for row in rows} == {*pair_ids, four_id}
    decided = {row["pair_id"]: row["preferred"] for row in rows if row["verdict"] != "tie"}
    assert decided == dict.fromkeys(pair_ids, "a")  # four answers of one letter are all the same
