"""The line of pairs that wait for annotators, oldest first.

Pairs of the champion stand in it, and pairs of earlier policies that somebody judged and that wait
for further annotators, as the overlap wants it. Those are worth having only while they are fresh:
of the policies that served within the last two promotions, and for one annotator one of them in ten
pairs at the most, so that nobody's picks go to a policy of the past.

Finding them means counting picks and leases of all pairs, too long to do with every pick. So the
writer remembers what stood in the line a moment ago, as a hint: each pair is looked at again in the
transaction that leases it. What puts pairs back into the line makes it forget.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import itemgetter

from store import standing
from store.database import Read, Tx
from store.rows import Kind, utc_now
from store.standing import Standing

LIFE_S = 5.0  # of what is remembered
EMPTY_S = 0.2  # the same for who finds nothing: hundreds may be waiting for the policy server
PROMOTIONS = 2  # back to which pairs of earlier policies are fresh
EARLIER_EVERY = 10  # pairs of one annotator, of which one may be of an earlier policy
MOST = 2000  # pairs remembered of a pool, each: untouched, started, of earlier policies


@dataclass
class Waiting:
    pair_id: str
    pool_id: str
    kind: Kind
    earlier: bool  # of a policy that served before the champion
    judged_by: set[str]  # user ids, skips too
    busy_until: datetime | None = None  # on as many screens as may show it


@dataclass
class Line:
    waiting: dict[str, Waiting]  # by pair id, oldest first
    read: float = field(default_factory=time.monotonic)

    def age_s(self) -> float:
        return time.monotonic() - self.read


def first_free(
    tx: Tx, user_id: str, pools: Sequence[str], kinds: Sequence[Kind], lease_ends: datetime
) -> Standing | None:
    """The oldest pair that this annotator may have, of the first of `pools` that has one; one of an
    earlier policy first where that is due.

    The caller leases it until `lease_ends`.
    """
    line: Line | None = tx.memo.get("line")
    if line and line.age_s() < LIFE_S:
        found = _first(tx, line, user_id, pools, kinds, lease_ends)
        if found or line.age_s() < EMPTY_S:
            return found
    tx.memo["line"] = line = _read(tx)
    return _first(tx, line, user_id, pools, kinds, lease_ends)


def join(tx: Tx, pair_id: str, pool_id: str, kind: Kind, policy_id: str | None) -> None:
    """A new pair of the champion is the last in line."""
    line: Line | None = tx.memo.get("line")
    if line and policy_id == champion(tx.all):  # another one may serve since it was sampled
        line.waiting[pair_id] = Waiting(pair_id, pool_id, kind, False, set())


def forget(tx: Tx) -> None:
    """Other pairs wait now than a moment ago."""
    tx.memo.pop("line", None)


def champion(read: Read) -> str | None:
    """Id of the policy that serves annotators."""
    return next(iter(_served(read)), None)


def _served(read: Read) -> list[str]:
    """Ids of the policies that serve or served annotators, the newest decision first."""
    decisions = sorted(read(PROMOTED, {}), key=itemgetter("seq"), reverse=True)
    return [decision["policy_id"] for decision in decisions]


def _first(
    tx: Tx,
    line: Line,
    user_id: str,
    pools: Sequence[str],
    kinds: Sequence[Kind],
    lease_ends: datetime,
) -> Standing | None:
    now = utc_now()
    rank = {pool_id: place for place, pool_id in enumerate(pools)}
    # Pairs of the champion that this annotator gets before the next of an earlier policy.
    until: dict[str, int] = tx.memo.setdefault("until_earlier", {})
    due = not until.get(user_id)
    offered = [
        one
        for one in line.waiting.values()
        if one.pool_id in rank and one.kind in kinds and (due or not one.earlier)
    ]
    # Within a pool oldest first.
    for one in sorted(offered, key=lambda one: (not one.earlier, rank[one.pool_id])):
        if user_id in one.judged_by or (one.busy_until and one.busy_until > now):
            continue
        pair = standing.of_pair(tx, one.pair_id)
        if pair and user_id in pair.verdicts:
            one.judged_by.add(user_id)
            continue
        if pair and user_id in pair.ended:  # put aside
            continue
        places = pair.places_for(user_id) if pair else 0
        if places < 2:  # none is left once this annotator has it
            ends = [*(pair.running.values() if pair else ()), *([lease_ends] * places)]
            one.busy_until = min(ends, default=None)
            if not ends:
                del line.waiting[one.pair_id]
        if places:
            left = EARLIER_EVERY if one.earlier else until.get(user_id, 0)
            until[user_id] = max(0, left - 1)
            return pair
    return None


def _read(tx: Tx) -> Line:
    served = _served(tx.all)
    values = {
        "now": utc_now(),
        "champion": served[0] if served else None,
        "earlier": served[1 : PROMOTIONS + 1],
        "kept_back": standing.kept_back(tx.all),
        "most": MOST,
    }
    rows = (row | {"judged_by": set(row["judged_by"] or ())} for row in tx.all(WAITING, values))
    return Line({row["pair_id"]: Waiting(**row) for row in rows})


PROMOTED = "select policy_id, seq from promotion where action in ('promote', 'rollback')"

# What was sampled before a change of its pool's mode is judged too.
WAITING = (
    """
with offered as (
    select pair_id, seq, pool_id, kind, wanted, a_policy_id is distinct from $champion as earlier
    from pair
    where source = 'sampled' and conversation_id is null
      and (a_policy_id = $champion or wanted > 1 and list_contains($earlier, a_policy_id))
), running as ("""
    + standing.RUNNING
    + """), taken as (
    select pair_id, user_id, verdict not in ('skip', 'flag') as counts, true as judged
    from judgment
    where pair_id in (select pair_id from offered)
      and judgment_id not in (select judgment_id from retraction)
    union all
    select pair_id, user_id, true, false from running
)
select o.pair_id, o.pool_id, o.kind, o.earlier, t.judged_by from offered o
left join (
    select pair_id, count(*) filter (counts) as n, bool_or(counts and judged) as started,
        list(user_id) filter (judged) as judged_by
    from taken group by pair_id
) t on t.pair_id = o.pair_id
where (not o.earlier or t.started) and coalesce(t.n, 0) < o.wanted
  and not list_contains($kept_back::varchar[], o.pair_id)
qualify row_number() over (
    partition by o.pool_id, o.earlier, t.judged_by is null order by o.seq
) <= $most
order by o.seq
"""
)
