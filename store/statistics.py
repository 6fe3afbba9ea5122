"""Numbers for the pages.

A pick is a live judgment of a person or a simulated annotator, skips and flags left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from store.database import Store
from store.rows import utc_now


@dataclass(frozen=True)
class PickStatistics:
    picks: int
    picks_since_round: int
    imported: int
    annotators: int
    median_seconds: float | None  # of people


@dataclass(frozen=True)
class OwnStatistics:
    today: int
    total: int
    median_seconds: float | None  # of today


def picks(store: Store) -> PickStatistics:
    row = store.read_one(PICKS)
    assert row is not None
    return PickStatistics(**row)


def own(store: Store, user_id: str, now: datetime | None = None) -> OwnStatistics:
    midnight = (now or utc_now()).replace(hour=0, minute=0, second=0, microsecond=0)
    row = store.read_one(OWN, {"user": user_id, "midnight": midnight})
    assert row is not None
    return OwnStatistics(**row)


PICKS = """
select count(*) filter (source <> 'import') as picks,
    count(*) filter (
        source <> 'import' and seq > coalesce((select max(seq) from run where kind = 'round'), 0)
    ) as picks_since_round,
    count(*) filter (source = 'import') as imported,
    count(distinct user_id) filter (source <> 'import') as annotators,
    median(ms_spent) filter (source = 'human') / 1000.0 as median_seconds
from judgment_live where verdict not in ('skip', 'flag')
"""

OWN = """
select count(*) filter (created >= $midnight) as today, count(*) as total,
    median(ms_spent) filter (created >= $midnight) / 1000.0 as median_seconds
from judgment_live where user_id = $user and verdict not in ('skip', 'flag')
"""
