"""The annotate page's routes over HTTP: screens, picks, undo, own picks, practice, settings."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from annotate.desk import DeskConfig
from annotate.rendering import SHOWN_CHARS
from store import guidelines, pools, practice, users
from store.rows import Invalid, User
from tests.desk_page import DESK, ITEM, POLICY, new_four, new_pair, new_pick, send, shown
from tests.stored import add_pair, add_policy, count
from tests.website import Site, error_code, made_site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with made_site(tmp_path_factory.mktemp("site")) as made:
        add_policy(made.store, POLICY)
        yield made


@pytest.fixture(autouse=True)
def _used_up(site: Site) -> Iterator[None]:
    """No pair of a test is left over for the next one."""
    yield
    site.store.write(lambda tx: tx.all("update pair set wanted = 0 returning pair_id"))


# --- screens ------------------------------------------------------------------------------------


def test_opening_the_desk(site: Site, page: httpx.Client, user: User) -> None:
    pair_id = new_pair(site, "**Bold** <b>", "<script>alert(1)</script>")
    seen = page.get(DESK, params={"utc_offset": 480}).json()
    assert seen["user"] == {"name": user.name, "role": "annotator", "languages": [], "goal": 80}
    assert seen["settings"]["reasons"] == list(DeskConfig().reasons)
    assert seen["settings"]["fold_height"] == 480
    assert seen["practice"] == [] and seen["waiting"] is None
    item = seen["item"]
    assert item.keys() == ITEM
    assert (item["kind"], item["pair_id"], item["before"]) == ("pair", pair_id, None)
    [asked] = item["prompt"]
    assert asked["role"] == "user" and asked["chars"] == len(asked["content"])
    assert {answer["text"] for answer in item["answers"]} == {
        "**Bold** <b>",
        "<script>alert(1)</script>",
    }
    html = "".join(answer["html"] for answer in item["answers"])
    assert "<strong>Bold</strong> &lt;b&gt;" in html and "<script" not in html
    assert seen["progress"]["goal"] == 80 and seen["progress"]["streak_days"] == 0
    assert seen["progress"]["team"]["board"] is None and seen["progress"]["trained"] is None
    assert shown(page) == item  # still held


def test_long_texts_are_cut_and_can_be_had_whole(site: Site, page: httpx.Client) -> None:
    long = "all of it " * 5000 + "\x00\u202e end"
    new_pair(site, long, "Short.")
    item = shown(page)
    [cut] = [answer for answer in item["answers"] if answer["cut"]]
    assert cut["text"] == long[:SHOWN_CHARS] and cut["chars"] == len(long)
    at = item["answers"].index(cut)
    whole = page.get(f"{DESK}/pairs/{item['pair_id']}/answers/{at}")
    assert whole.headers["content-type"].startswith("text/plain")
    assert whole.text == long
    assert page.get(f"{DESK}/pairs/{item['pair_id']}/answers/{1 - at}").text == "Short."
    assert page.get(f"{DESK}/pairs/{item['pair_id']}/answers/2").status_code == 404
    with site.signed_in("annotator") as other:  # who was not shown it
        answer = other.get(f"{DESK}/pairs/{item['pair_id']}/answers/0")
        assert (answer.status_code, error_code(answer)) == (404, "not_found")


def test_long_prompts_can_be_had_whole(site: Site, page: httpx.Client) -> None:
    long = "🐝" * SHOWN_CHARS + "\x00\u202e end"
    pair_id = add_pair(site.store, long, "A", "B", POLICY)
    [asked] = shown(page)["prompt"]
    assert asked["cut"] and asked["content"] == "🐝" * SHOWN_CHARS
    whole = page.get(f"{DESK}/pairs/{pair_id}/prompt/0")
    assert whole.headers["content-type"].startswith("text/plain")
    assert whole.text == long
    assert page.get(f"{DESK}/pairs/{pair_id}/prompt/1").status_code == 404
    with site.signed_in("annotator") as other:  # who was not shown it
        answer = other.get(f"{DESK}/pairs/{pair_id}/prompt/0")
        assert (answer.status_code, error_code(answer)) == (404, "not_found")


def test_waiting_says_why(site: Site, page: httpx.Client, user: User) -> None:
    seen = page.post(f"{DESK}/next").json()
    assert seen["item"] is None
    assert seen["waiting"]["code"] == "starting"
    site.server._set("down", f"{POLICY} is told in this note")
    try:
        assert page.post(f"{DESK}/next").json()["waiting"]["code"] == "down"
        pair_id = new_pair(site)
        screen = page.post(f"{DESK}/next").json()  # what is there can be judged
        assert screen["waiting"] is None and screen["item"]["pair_id"] == pair_id
        assert send(page, new_pick(screen["item"]))["screen"]["waiting"]["code"] == "down"
    finally:
        site.server._set("starting", "")


def test_no_pool_for_this_annotator(site: Site, page: httpx.Client, user: User) -> None:
    new_pair(site)
    pools.change(site.store, "everything", language="zh-CN")
    try:
        users.set_languages(site.store, user.user_id, ["de"])
        seen = page.post(f"{DESK}/next").json()
        assert (seen["item"], seen["waiting"]["code"]) == (None, "no_pool")
        users.set_languages(site.store, user.user_id, ["zh"])
        assert shown(page)
    finally:
        pools.change(site.store, "everything", language=None)


# --- picks --------------------------------------------------------------------------------------


def test_the_next_pair_comes_with_the_pick(site: Site, page: httpx.Client) -> None:
    ids = {new_pair(site), new_pair(site)}
    first = shown(page)
    pick = new_pick(first, strength=3, reasons=["accuracy"], comment="Yes.", ms_spent=1500)
    stored = send(page, pick)
    assert stored["stored"] is True and stored["id"] == pick["id"]
    second = stored["screen"]["item"]
    assert {first["pair_id"], second["pair_id"]} == ids
    assert stored["screen"]["progress"]["today"] == 1
    again = send(page, pick, 200)
    assert again["stored"] is False and again["screen"]["item"] == second  # nothing is skipped
    last = send(page, new_pick(second, "tie"))
    assert last["screen"]["item"] is None
    assert last["screen"]["waiting"]["code"] == "starting"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"id": "seven"}, 422),
        ({"verdict": "middle"}, 422),
        ({"verdict": "ranked", "best": 0, "worst": 1}, 422),
        ({"best": 0}, 422),
        ({"strength": 4}, 422),
        ({"verdict": "tie", "edited_text": "Better."}, 422),
        ({"guidelines_version": 0}, 422),
        ({"guidelines_version": 2**31}, 422),
        ({"screen": 1}, 422),
        ({"comment": "\ud800"}, 422),
        ({"pair_id": "no-such-pair"}, 404),
    ],
    ids=str,
)
def test_bad_picks_store_nothing(
    site: Site, page: httpx.Client, change: dict[str, Any], status: int
) -> None:
    new_pair(site)
    before = count(site.store, "judgment")
    body = json.dumps(new_pick(shown(page)) | change)
    headers = {"Content-Type": "application/json"}
    answer = page.post(f"{DESK}/judgments", content=body, headers=headers)
    assert answer.status_code == status
    assert error_code(answer) in ("invalid", "not_found")
    assert count(site.store, "judgment") == before


def test_two_tabs_store_one_pick(site: Site, page: httpx.Client) -> None:
    new_pair(site)
    item = shown(page)
    send(page, new_pick(item))
    answer = page.post(f"{DESK}/judgments", json=new_pick(item, "right"))
    assert (answer.status_code, error_code(answer)) == (409, "conflict")
    assert len(page.get(f"{DESK}/picks").json()["picks"]) == 1


def test_a_set_of_four(site: Site, page: httpx.Client, user: User) -> None:
    pair_id = new_four(site)
    item = shown(page)
    assert (item["kind"], item["pair_id"]) == ("four", pair_id)
    texts = [answer["text"] for answer in item["answers"]]
    assert sorted(texts) == ["A", "B", "C", "D"]
    refused = page.post(f"{DESK}/judgments", json=new_pick(item, "left"))
    assert (refused.status_code, error_code(refused)) == (422, "invalid")
    send(page, new_pick(item, "ranked", best=2, worst=0))
    rows = site.store.read("select * from preference where pair_id = $id", {"id": pair_id})
    assert len(rows) == 5
    assert {row["chosen"] for row in rows if row["rejected"] != texts[0]} == {texts[2]}
    back = page.post(f"{DESK}/undo").json()["screen"]["item"]
    assert [answer["text"] for answer in back["answers"]] == texts
    assert (back["before"]["best"], back["before"]["worst"]) == (2, 0)


def test_own_picks_can_be_found_and_revised(site: Site, page: httpx.Client) -> None:
    for number in range(3):
        new_pair(site, f"Dew {number}.", f"Rain {number}.")
    item = shown(page)
    for verdict in ("left", "both_bad", "skip"):
        item = send(page, new_pick(item, verdict, comment=f"So {verdict}."))["screen"]["item"]
    listed = page.get(f"{DESK}/picks").json()["picks"]
    assert [pick["verdict"] for pick in listed] == ["skip", "both_bad", "left"]
    part = page.get(f"{DESK}/picks", params={"limit": 2}).json()
    assert part["more"] and part["picks"] == listed[:2]
    rest = page.get(f"{DESK}/picks", params={"before": listed[1]["seq"]}).json()
    assert not rest["more"] and rest["picks"] == listed[2:]
    assert page.get(f"{DESK}/picks", params={"q": "SO LEFT"}).json()["picks"] == listed[2:]
    assert page.get(f"{DESK}/picks", params={"verdict": "skip"}).json()["picks"] == listed[:1]
    assert page.get(f"{DESK}/picks", params={"limit": 0}).status_code == 422

    old = listed[2]
    opened = page.get(f"{DESK}/picks/{old['id']}").json()
    assert opened["pick"] == old and opened["item"].keys() == ITEM
    assert opened["item"]["before"]["verdict"] == "left"
    assert opened["item"]["before"]["comment"] == "So left."
    new = new_pick(opened["item"], "right", strength=1)
    path = f"{DESK}/picks/{old['id']}/revise"
    assert (page.post(path, json=new).status_code, page.post(path, json=new).status_code) == (
        201,
        200,
    )
    assert page.get(f"{DESK}/picks/{old['id']}").status_code == 404
    [revised] = page.get(f"{DESK}/picks", params={"verdict": "right"}).json()["picks"]
    assert (revised["id"], revised["strength"]) == (new["id"], 1)
    assert len(page.get(f"{DESK}/picks").json()["picks"]) == 3
    with site.signed_in("annotator") as other:
        assert other.get(f"{DESK}/picks/{new['id']}").status_code == 404
        stolen = new | {"id": str(uuid.uuid4())}
        assert other.post(f"{DESK}/picks/{new['id']}/revise", json=stolen).status_code == 404


# --- guidance -----------------------------------------------------------------------------------


def test_guidelines_come_with_their_version(site: Site, page: httpx.Client) -> None:
    assert page.get(f"{DESK}/guidelines").json() == {"version": None}
    admin = users.named(site.store, "admin")
    version = guidelines.publish(site.store, admin, "# Be **fair**\n\n<script>alert(1)</script>")
    seen = page.get(f"{DESK}/guidelines").json()
    assert seen["version"] == version
    assert "<strong>fair</strong>" in seen["html"] and "<script" not in seen["html"]
    new_pair(site)
    screen = page.post(f"{DESK}/next").json()
    assert screen["guidelines_version"] == version
    pick = new_pick(screen["item"], guidelines_version=version)
    send(page, pick)
    row = site.store.read_one("select * from judgment where judgment_id = $id", {"id": pick["id"]})
    assert row is not None and row["guidelines_version"] == version


def test_practice_before_the_first_pick(site: Site, page: httpx.Client) -> None:
    item = practice.save(
        site.store,
        messages=[{"role": "user", "content": "What is dew?"}],
        left_text="Water on *grass*.",
        right_text="A cheese.",
        verdict="left",
        explanation="It is **true**.",
    )
    try:
        [todo] = page.get(DESK).json()["practice"]
        assert todo.keys() == {"practice_id", "prompt", "answers"}
        assert "expected" not in json.dumps(todo) and "true" not in json.dumps(todo["answers"][0])
        assert [answer["text"] for answer in todo["answers"]] == ["Water on *grass*.", "A cheese."]
        path = f"{DESK}/practice/{item.practice_id}"
        assert page.post(path, json={"verdict": "skip"}).status_code == 422
        answer = page.post(path, json={"verdict": "right"}).json()
        assert (answer["correct"], answer["expected"]) == (False, "left")
        assert "<strong>true</strong>" in answer["explanation_html"]
        assert page.get(DESK).json()["practice"] == []
        assert page.get(f"{DESK}/practice").json() == {"practice": [todo]}  # to do it again
        assert page.post(f"{DESK}/practice/none", json={"verdict": "left"}).status_code == 404
    finally:
        practice.remove(site.store, item.practice_id)


def test_progress_counts_the_day_of_the_annotators_clock(site: Site, page: httpx.Client) -> None:
    new_pair(site)
    page.get(DESK, params={"utc_offset": -600})
    done = send(page, new_pick(shown(page), ms_spent=4000))["screen"]["progress"]
    assert (done["today"], done["total"], done["streak_days"]) == (1, 1, 1)
    assert done["median_seconds"] == 4.0
    assert page.get("/api/v1/stats").json() == {
        "own": {"today": 1, "total": 1, "median_seconds": 4.0, "streak_days": 1}
    }


def test_leaderboard_and_goal_are_settings(tmp_path: Any) -> None:
    settings = DeskConfig(leaderboard=True, daily_goal=5)
    with made_site(tmp_path, settings=settings) as site, site.signed_in("annotator") as page:
        add_policy(site.store, POLICY)
        new_pair(site)
        page.get(DESK)
        send(page, new_pick(shown(page)))
        site.desk.progress._team.seconds = 0
        seen = page.post(f"{DESK}/next").json()["progress"]
        assert seen["goal"] == 5
        assert seen["team"] == {
            "today": 1,
            "total": 1,
            "annotators": 1,
            "board": [{"name": "annotator", "today": 1}],
        }


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"overlap_share": 1.5}, "from 0 to 1"),
        ({"overlap_annotators": 0}, "at least 1"),
        ({"daily_goal": 0}, "at least 1"),
        ({"fold_height": 20}, "at least 100"),
        ({"reasons": ("",)}, "1 to 40 characters"),
        ({"skip_reasons": ("x",) * 21}, "at most 20"),
    ],
    ids=str,
)
def test_settings_that_make_no_sense(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Invalid, match=sentence):
        DeskConfig(**wrong)
