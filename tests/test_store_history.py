"""Prompts, policies, runs and statistics: what is true now, as a view over what happened."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import get_args

import pytest

from store import judgments, policies, prompts, runs, statistics
from store.database import Store
from store.rows import NotFound, Source, utc_now
from tests.stored import LEASE, add_imports, add_pair, add_picks, add_policy, add_user, pick

SOURCES: tuple[Source, ...] = get_args(Source)


def statuses(store: Store) -> dict[str, str]:
    return {policy.policy_id: policy.status for policy in policies.everyone(store)}


def champion(store: Store) -> str | None:
    found = policies.champion(store)
    return found.policy_id if found else None


def previous(store: Store) -> str | None:
    found = policies.previous_champion(store)
    return found.policy_id if found else None


def test_the_status_of_a_policy_follows_the_decisions(store: Store) -> None:
    assert champion(store) is None
    zero = add_policy(store, promote=False)
    assert statuses(store) == {zero: "candidate"}
    policies.decide(store, zero, "promote", "first")
    one, two = (add_policy(store, f"policy-00000{n}", promote=False) for n in (1, 2))
    policies.decide(store, one, "promote", "better")
    policies.decide(store, two, "reject", "repeats itself")
    assert statuses(store) == {two: "rejected", one: "champion", zero: "retired"}
    policies.decide(store, zero, "rollback", "one was worse")
    assert statuses(store) == {two: "rejected", one: "retired", zero: "champion"}
    policies.decide(store, two, "promote", "a person wants it")
    policies.decide(store, one, "retire", "old")
    assert statuses(store) == {two: "champion", one: "retired", zero: "retired"}
    assert policies.get(store, one).reason == "old"


def test_there_is_one_champion_at_any_time(store: Store) -> None:
    for number in range(5):
        add_policy(store, f"policy-00000{number}")
        assert list(statuses(store).values()).count("champion") == 1
        assert champion(store) == f"policy-00000{number}"


def test_a_rollback_goes_to_the_champion_before(store: Store) -> None:
    assert previous(store) is None
    zero = add_policy(store)
    assert previous(store) is None
    one = add_policy(store, "policy-000001")
    assert previous(store) == zero
    rejected = add_policy(store, "policy-000002", promote=False)
    policies.decide(store, rejected, "reject", "worse")
    assert previous(store) == zero
    add_policy(store, "policy-000003")
    assert previous(store) == one
    policies.decide(store, one, "rollback", "three was worse")
    assert (champion(store), previous(store)) == (one, zero)


def test_rollbacks_go_further_back_each_time(store: Store) -> None:
    for number in range(4):
        add_policy(store, f"policy-00000{number}")
    for number in (2, 1, 0):
        assert previous(store) == f"policy-00000{number}"
        policies.decide(store, f"policy-00000{number}", "rollback", "back")
    assert previous(store) is None
    add_policy(store, "policy-000004")
    assert previous(store) == "policy-000000"


def test_retired_by_a_person_is_told_from_a_past_champion(store: Store) -> None:
    past, out, new = (add_policy(store, f"policy-00000{n}") for n in range(3))
    policies.decide(store, out, "retire", "out for good")
    assert {policies.get(store, name).status for name in (past, out)} == {"retired"}
    gone = [policies.get(store, name).retired_for_good for name in (past, out, new)]
    assert gone == [False, True, False]
    candidate = add_policy(store, "policy-000003", promote=False)
    assert not policies.get(store, candidate).retired_for_good


def test_a_rollback_passes_over_what_a_person_retired(store: Store) -> None:
    zero, one = add_policy(store), add_policy(store, "policy-000001")
    add_policy(store, "policy-000002")
    policies.decide(store, one, "retire", "out for good")
    assert previous(store) == zero


def test_a_policy_name_is_never_used_twice(store: Store) -> None:
    assert policies.next_id(store) == "policy-000000"
    add_policy(store, "policy-000004", promote=False)
    assert policies.next_id(store) == "policy-000005"
    for name in ("policy-000011", "policy-000012.tmp", "policy-x", ".policy-000099"):
        (store.data_dir / "policies" / name).mkdir(parents=True)
    assert policies.next_id(store) == "policy-000012"


def test_an_unknown_policy_or_run_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound, match="policies list"):
        policies.get(store, "policy-000404")
    with pytest.raises(NotFound, match="run-000404"):
        runs.get(store, "run-000404")


def test_a_run_is_what_its_last_event_says(store: Store) -> None:
    boss = add_user(store, "boss", "researcher")
    run_id = runs.add(store, "dpo", {"lr": 1e-3}, boss.user_id)
    assert run_id == "run-000001"
    queued = runs.get(store, run_id)
    assert (queued.status, queued.config, queued.metrics) == ("queued", {"lr": 1e-3}, {})
    runs.mark(store, run_id, "running")
    runs.mark(store, run_id, "done", policy_id="policy-000001", metrics={"accuracy": 0.7})
    done = runs.get(store, run_id)
    assert (done.status, done.policy_id, done.metrics) == (
        "done",
        "policy-000001",
        {"accuracy": 0.7},
    )
    assert done.created <= queued.changed < done.changed


def test_a_failed_run_says_why(store: Store) -> None:
    run_id = runs.add(store, "rm", {}, None)
    runs.mark(store, run_id, "failed", reason="The disk is full.")
    assert runs.get(store, run_id).reason == "The disk is full."


def test_the_parts_of_a_round_are_its_children(store: Store) -> None:
    round_id = runs.add(store, "round", {}, None)
    parts = [runs.add(store, kind, {}, None, round_id) for kind in ("rm", "dpo")]
    other = runs.add(store, "dpo", {}, None)
    assert [run.run_id for run in runs.children(store, round_id)] == parts
    assert runs.children(store, other) == []
    assert [run.run_id for run in runs.newest(store, 2)] == [other, parts[1]]


def test_unfinished_runs_are_the_queued_and_the_running(store: Store) -> None:
    made = [runs.add(store, "rm", {}, None) for _ in range(5)]
    for run_id, status in zip(made[1:], ("running", "done", "failed", "cancelled"), strict=True):
        runs.mark(store, run_id, status)  # type: ignore[arg-type]
    assert [run.run_id for run in runs.unfinished(store)] == made[:2]


def test_a_run_never_gets_the_folder_of_another(store: Store) -> None:
    """Runs are not in the journal: a rebuilt database forgets them, their folders stay."""
    (store.data_dir / "runs" / "run-000041").mkdir(parents=True)
    assert runs.add(store, "rm", {}, None) == "run-000042"
    assert runs.add(store, "rm", {}, None) == "run-000043"


def test_picks_are_live_judgments_of_people(store: Store) -> None:
    add_policy(store)
    ann, bot = add_user(store, "ann"), add_user(store, "bot", source="simulated")
    add_picks(store, ann, 3)
    add_picks(store, ann, 1, "tie")
    add_picks(store, bot, 2)
    add_picks(store, ann, 2, "skip")
    add_picks(store, ann, 1, "flag")
    (undone,) = add_picks(store, ann, 1)
    judgments.retract(store, ann, undone, LEASE)
    found = statistics.picks(store)
    assert (found.picks, found.annotators, found.imported) == (6, 2, 0)


def test_picks_since_the_round_start_again_when_it_begins(store: Store) -> None:
    add_policy(store)
    ann = add_user(store, "ann")
    add_picks(store, ann, 3)
    assert statistics.picks_since_round(store, SOURCES) == 3
    runs.mark(store, runs.add(store, "rm", {}, None), "running")
    assert statistics.picks_since_round(store, SOURCES) == 3, "only a round counts"
    round_id = runs.add(store, "round", {}, None)
    add_picks(store, ann, 1)
    assert statistics.picks_since_round(store, SOURCES) == 4, "it waits, and will learn from all"
    runs.mark(store, round_id, "running")
    assert statistics.picks_since_round(store, SOURCES) == 0
    add_picks(store, ann, 2)
    runs.mark(store, round_id, "paused")
    runs.mark(store, round_id, "running")
    assert statistics.picks_since_round(store, SOURCES) == 2, "its picks are frozen"
    assert statistics.picks(store).picks == 6


def test_picks_since_the_round_are_those_that_one_would_learn_from(store: Store) -> None:
    add_policy(store)
    add_picks(store, add_user(store, "ann"), 3)
    add_picks(store, add_user(store, "bot", source="simulated"), 2)
    add_imports(store, 4)
    since = [statistics.picks_since_round(store, [source]) for source in SOURCES]
    assert since == [3, 2, 0], "an import is no new pick"
    assert statistics.picks_since_round(store, SOURCES) == 5


def test_a_round_that_never_ran_is_no_last_one(store: Store) -> None:
    add_policy(store)
    add_picks(store, add_user(store, "ann"), 3)
    never, paused, first = (runs.add(store, "round", {}, None) for _ in range(3))
    runs.mark(store, never, "cancelled")
    assert (runs.last_round(store), statistics.picks_since_round(store, SOURCES)) == (None, 3)
    runs.mark(store, first, "running")
    began = runs.get(store, first).changed
    runs.mark(store, first, "done")
    assert runs.last_round(store) == began
    runs.mark(store, paused, "running")  # asked for before, begun after
    assert runs.last_round(store) == runs.get(store, paused).changed > began


def test_own_statistics_are_of_one_annotator_and_of_today(store: Store) -> None:
    add_policy(store)
    ann, bob = add_user(store, "ann"), add_user(store, "bob")
    assert statistics.own(store, ann.user_id) == statistics.OwnStatistics(0, 0, None, 0)
    add_picks(store, bob, 1)
    for ms in (2000, 4000, 9000):
        add_pair(store, f"Question of {ms} ms?")
        pick(store, ann, ms_spent=ms)
    assert statistics.own(store, ann.user_id) == statistics.OwnStatistics(3, 3, 4.0, 1)
    tomorrow = utc_now() + timedelta(days=1)
    own = statistics.own(store, ann.user_id, now=tomorrow)
    assert own == statistics.OwnStatistics(0, 3, None, 1)


def test_the_median_time_is_that_of_people(store: Store) -> None:
    add_policy(store)
    ann, bot = add_user(store, "ann"), add_user(store, "bot", source="simulated")
    for user, ms in ((bot, 10), (bot, 20), (bot, 30), (ann, 4000), (ann, 6000)):
        add_pair(store, f"Question of {ms} ms?")
        pick(store, user, ms_spent=ms)
    assert statistics.picks(store).median_seconds == 5.0


def test_the_time_of_a_pick_counts_from_when_it_was_shown(store: Store) -> None:
    add_policy(store)
    ann = add_user(store, "ann")
    add_picks(store, ann, 1)
    row = store.read_one("select ms_spent from judgment")
    assert row is not None and 0 <= row["ms_spent"] < 60_000


def test_the_search_lists_live_picks_newest_first(store: Store) -> None:
    add_policy(store)
    ann, bob = add_user(store, "ann"), add_user(store, "bob")
    first, second, third = add_picks(store, ann, 3)
    of_bob = add_picks(store, bob, 1)
    judgments.retract(store, ann, second, LEASE)
    found = judgments.search(store, ann.user_id, None, 10)
    assert [row["id"] for row in found] == [third, first]
    assert {row["user"] for row in found} == {"ann"}
    assert [row["id"] for row in judgments.search(store, None, None, 1)] == of_bob
    assert judgments.search(store, None, utc_now() + timedelta(days=1), 10) == []


def test_prompts_come_back_with_their_place_in_the_pool(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        store.write(lambda tx: prompts.insert(tx, [new_prompt("Why?")], "preferences"))
        assert prompts.count(store) == 0
        assert prompts.add(store, [new_prompt("Why?"), new_prompt("How?")], "import") == (2, 0)
        assert prompts.add(store, [new_prompt("Why?"), new_prompt("How?")], "import") == (0, 2)
        assert prompts.count(store) == 2
    (tmp_path / "prefloop.duckdb").unlink()
    with Store.open(tmp_path) as store:
        assert prompts.count(store) == 2


def new_prompt(text: str) -> prompts.NewPrompt:
    return prompts.NewPrompt([{"role": "user", "content": text}])
