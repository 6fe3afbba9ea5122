"""Own progress in Chromium, from picks, runs and promotions that are in the store."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from annotate.desk import DeskConfig
from store import pairs, policies, runs, snapshots, users
from store.database import Store
from store.rows import User
from tests.chromium import Opener, axe_findings
from tests.desk_browser import sit_down
from tests.stored import (
    add_imports,
    add_pair,
    add_picks,
    add_policy,
    add_prompt,
    add_user,
    completion,
    pick,
)
from tests.website import made_site

pytestmark = [pytest.mark.slow, pytest.mark.browser]

TRAINED, BEFORE = "policy-000007", "policy-000000"
EARLIER = "update judgment set created = created - to_days($days) where judgment_id = $id"


def trained_with_picks_of(store: Store, user: User, folder: Path) -> None:
    """TRAINED learned from picks of three days of this user, and won 7 of 12 duels with BEFORE."""
    add_policy(store, BEFORE)
    add_imports(store, 10)
    for days, judgment_id in enumerate(add_picks(store, user, 3)):
        store.write(lambda tx, at={"days": days, "id": judgment_id}: tx.all(EARLIER, at))
    run_id = runs.add(store, "round", {}, None)
    snapshots.freeze(store, run_id, folder, ["human", "import"])
    policies.add(
        store,
        TRAINED,
        parent=BEFORE,
        run_id=run_id,
        base_model="base",
        adapter_path=f"policies/{TRAINED}",
        adapter_sha256="0" * 64,
    )
    policies.decide(store, TRAINED, "promote", "Promoted: it is better.")
    sides = completion("New", 1, TRAINED), completion("Old", 2, BEFORE)
    for number in range(12):
        pairs.add(store, add_prompt(store, f"Duel {number}?"), [1], *sides)
        pick(store, user, "left" if number < 7 else "right", ms_spent=4200)


def test_progress_tells_what_the_picks_did(tmp_path: Path, opened: Opener) -> None:
    settings = DeskConfig(leaderboard=True)
    with made_site(tmp_path / "data", settings=settings) as site:
        user, bob = users.named(site.store, "annotator"), add_user(site.store, "bob")
        trained_with_picks_of(site.store, user, tmp_path / "frozen")
        for number in range(2):
            add_pair(site.store, f"Of bob {number}?", policy=TRAINED)
            pick(site.store, bob)
        watched = sit_down(opened, site)
        page = watched.page
        expect(page.locator("#progress")).to_have_text("13 of 80 today4.2 s each")
        page.locator("#progress").click()
        expect(page.locator("#progress-card dl > div").first).to_be_visible()
        facts = page.locator("#progress-card dl > div").all_inner_texts()
        assert [" ".join(fact.split()) for fact in facts] == [
            "Your picks in all 15",
            "Median time of a pick 4.2 s",
            "Days in a row 3 days",
            "Team 15 today, 17 in all, 2 annotators",
        ]
        expect(page.locator("#progress-card .trained")).to_have_text(
            "Your picks trained policy-000007: it won 58% of its duels."
        )
        board = [re.compile(r"annotator\s*13"), re.compile(r"bob\s*2")]
        expect(page.locator("#progress-card .board li")).to_have_text(board)
        assert (axe_findings(page), watched.faults) == ([], [])


def test_names_of_others_are_shown_only_where_that_is_configured(
    tmp_path: Path, opened: Opener
) -> None:
    with made_site(tmp_path / "data") as site:
        add_policy(site.store)
        add_picks(site.store, add_user(site.store, "bob"), 1)
        page = sit_down(opened, site, locale="zh-CN").page
        page.locator("#progress").click()
        card = page.locator("#progress-card")
        expect(card).to_contain_text("今天 1，共 1，1 位标注员")
        expect(card.locator(".board, .trained")).to_have_count(0)
        assert "bob" not in card.inner_text()
