"""Undo over HTTP: any number of steps back, each of them once, and never a pick lost."""

from __future__ import annotations

import httpx

from tests.desk_page import DESK, new_pair, new_pick, send, shown
from tests.website import Site, error_code


def test_undo_walks_back(site: Site, page: httpx.Client) -> None:
    for _ in range(3):
        new_pair(site)
    items, verdicts = [shown(page)], ("left", "tie", "right")
    for verdict in verdicts:
        more = {"strength": 2, "edited_text": "Mended."} if verdict == "right" else {}
        screen = send(page, new_pick(items[-1], verdict, comment=verdict, **more))["screen"]
        items.append(screen["item"])
    for item, verdict in zip(reversed(items[:3]), reversed(verdicts), strict=True):
        answer = page.post(f"{DESK}/undo").json()
        assert answer["undone"] is True
        back = answer["screen"]["item"]
        assert back["pair_id"] == item["pair_id"]
        assert [a["text"] for a in back["answers"]] == [a["text"] for a in item["answers"]]
        assert (back["before"]["verdict"], back["before"]["comment"]) == (verdict, verdict)
        edited = "Mended." if verdict == "right" else None
        assert back["before"]["edited_text"] == edited
    answer = page.post(f"{DESK}/undo").json()
    assert answer["undone"] is False and answer["screen"]["item"]["before"] is None
    assert page.get(f"{DESK}/picks").json() == {"picks": [], "more": False}


def test_a_repeated_undo_takes_back_one_pick(site: Site, page: httpx.Client) -> None:
    for _ in range(3):
        new_pair(site)
    screen = page.post(f"{DESK}/next").json()
    assert screen["undo"] is None
    picks = []
    for _ in range(2):
        picks.append(new_pick(screen["item"]))
        screen = send(page, picks[-1])["screen"]
        assert screen["undo"] == picks[-1]["id"]
    answers = [page.post(f"{DESK}/undo", json={"judgment_id": screen["undo"]}) for _ in range(2)]
    for answer in answers:
        assert answer.json()["undone"] is True
        back = answer.json()["screen"]
        assert (back["item"]["pair_id"], back["undo"]) == (picks[1]["pair_id"], picks[0]["id"])
        assert back["item"]["before"]["verdict"] == "left"
    with site.signed_in("annotator") as other:
        answer = other.post(f"{DESK}/undo", json={"judgment_id": picks[0]["id"]})
        assert (answer.status_code, error_code(answer)) == (404, "not_found")


def test_a_pick_stays_when_its_pair_is_with_others(site: Site, page: httpx.Client) -> None:
    pair_id = new_pair(site)
    pick = new_pick(shown(page), "skip")
    send(page, pick)
    with site.signed_in("annotator") as other:
        assert shown(other)["pair_id"] == pair_id
    answer = page.post(f"{DESK}/undo", json={"judgment_id": pick["id"]})
    assert (answer.status_code, error_code(answer)) == (409, "conflict")
    assert "the pick stays" in answer.json()["error"]["message"]
    [listed] = page.get(f"{DESK}/picks").json()["picks"]
    assert listed["id"] == pick["id"]
    assert page.delete(f"/api/v1/judgments/{pick['id']}").status_code == 200
    assert page.get(f"{DESK}/picks").json()["picks"] == []
