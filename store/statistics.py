"""Numbers for the pages.

A pick is a live judgment of a person or a simulated annotator, skips and flags left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from store.database import Store
from store.rows import Source, utc_now
from store.runs import LAST_ROUND


@dataclass(frozen=True)
class PickStatistics:
    picks: int
    imported: int
    annotators: int
    median_seconds: float | None  # of people


@dataclass(frozen=True)
class OwnStatistics:
    today: int
    total: int
    median_seconds: float | None  # of today
    streak_days: int  # days in a row with a pick, up to today or, before its first, yesterday


@dataclass(frozen=True)
class TeamStatistics:
    today: int
    total: int
    annotators: int  # who picked today
    board: list[tuple[str, int]]  # name and picks of today, most first


@dataclass(frozen=True)
class TrainedWith:
    """A policy that learned from somebody's picks. Its duels are None until there are some."""

    policy_id: str
    wins: int | None  # blind picks for it against another policy
    losses: int | None
    ties: int | None


def picks(store: Store) -> PickStatistics:
    row = store.read_one(PICKS)
    assert row is not None
    return PickStatistics(**row)


def picks_since_round(store: Store, sources: Sequence[Source]) -> int:
    """Picks from `sources`, those that rounds learn from, since the newest round began."""
    row = store.read_one(SINCE_ROUND, {"sources": list(sources)})
    assert row is not None
    return int(row["n"])


def own(
    store: Store, user_id: str, utc_offset_min: int = 0, now: datetime | None = None
) -> OwnStatistics:
    """`utc_offset_min`: minutes that this person's clock is ahead of UTC; it tells their day."""
    midnight = _midnight(utc_offset_min, now)
    values = {"user": user_id, "midnight": midnight, "offset": utc_offset_min}
    row = store.read_one(OWN, values)
    assert row is not None
    today = (midnight + timedelta(minutes=utc_offset_min)).date()
    return OwnStatistics(
        row["today"], row["total"], row["median_seconds"], streak(set(row["days"] or ()), today)
    )


def streak(days: set[date], today: date) -> int:
    """Days in a row up to today; today itself may still be missing."""
    last = today if today in days else today - timedelta(days=1)
    length = 0
    while last - timedelta(days=length) in days:
        length += 1
    return length


def team(store: Store, utc_offset_min: int = 0, now: datetime | None = None) -> TeamStatistics:
    """Picks of everybody; `utc_offset_min` as in `own`."""
    rows = store.read(TEAM, {"midnight": _midnight(utc_offset_min, now)})
    board = [(row["name"], row["today"]) for row in rows if row["today"]]
    return TeamStatistics(
        today=sum(today for _, today in board),
        total=sum(row["total"] for row in rows),
        annotators=len(board),
        board=board,
    )


def trained_with(store: Store, user_id: str) -> TrainedWith | None:
    """The newest policy that was promoted and whose training data held picks of this user."""
    row = store.read_one(TRAINED, {"user": user_id})
    if row is None:
        return None
    duels = store.read_one(DUELS, {"policy": row["policy_id"]})
    assert duels is not None
    known = any(duels.values())
    return TrainedWith(row["policy_id"], **{k: v if known else None for k, v in duels.items()})


def _midnight(utc_offset_min: int, now: datetime | None) -> datetime:
    """The start of the day in UTC."""
    offset = timedelta(minutes=utc_offset_min)
    local = (now or utc_now()) + offset
    return local.replace(hour=0, minute=0, second=0, microsecond=0) - offset


PICKS = """
select count(*) filter (source <> 'import') as picks,
    count(*) filter (source = 'import') as imported,
    count(distinct user_id) filter (source <> 'import') as annotators,
    median(ms_spent) filter (source = 'human') / 1000.0 as median_seconds
from judgment_live where verdict not in ('skip', 'flag')
"""

SINCE_ROUND = (
    """
select count(*) as n from judgment_live
where verdict not in ('skip', 'flag') and source <> 'import' and list_contains($sources, source)
  and seq > (select coalesce(seq, 0) from ("""
    + LAST_ROUND
    + "))"
)

OWN = """
select count(*) filter (created >= $midnight) as today, count(*) as total,
    median(ms_spent) filter (created >= $midnight) / 1000.0 as median_seconds,
    list(distinct (created + to_minutes($offset))::date) as days
from judgment_live where user_id = $user and verdict not in ('skip', 'flag')
"""

TEAM = """
select u.name, count(*) filter (j.created >= $midnight) as today, count(*) as total
from judgment_live j join app_user u on u.user_id = j.user_id
where j.source <> 'import' and j.verdict not in ('skip', 'flag')
group by u.name order by today desc, u.name
"""

TRAINED = """
select p.policy_id from policy p
join snapshot s on s.run_id = p.run_id
where exists (select 1 from promotion m where m.policy_id = p.policy_id and m.action = 'promote')
  and exists (select 1 from judgment j
              where j.user_id = $user and j.verdict in ('left', 'right', 'ranked')
                and j.seq <= s.up_to_seq
                and not exists (select 1 from retraction r where r.judgment_id = j.judgment_id
                                and r.seq < s.seq))
order by p.seq desc limit 1
"""

# A duel is a pair of answers of two policies.
DUELS = """
select count(*) filter ((j.preferred = 'a') = (p.a_policy_id = $policy)) as wins,
    count(*) filter ((j.preferred = 'a') <> (p.a_policy_id = $policy)) as losses,
    count(*) filter (j.preferred is null) as ties
from judgment_live j join pair p on p.pair_id = j.pair_id
where p.a_policy_id <> p.b_policy_id and $policy in (p.a_policy_id, p.b_policy_id)
  and j.verdict not in ('skip', 'flag')
"""
