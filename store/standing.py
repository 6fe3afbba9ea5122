"""Where one pair stands: who judged it, who has it on screen, and what keeps it back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any, Literal

from store.database import Read, Tx
from store.ids import uuid7
from store.rows import Kind, Verdict, utc_now

UNCOUNTED: tuple[Verdict, ...] = ("skip", "flag")  # leave the pair for another annotator

# Leases that run. An end carries the lease_expires of what it ends, so one filter finds both.
RUNNING = """
select pair_id, user_id from annotator_event where lease_expires > $now
group by pair_id, user_id having arg_max(kind, seq) <> 'ended'
"""


@dataclass(frozen=True)
class Pair:
    """What the desk needs of a pair, or of a set of four."""

    pair_id: str
    prompt_id: str
    kind: Kind
    wanted: int
    conversation_id: str | None
    turn: int | None
    a_text: str
    b_text: str
    c_text: str | None  # of sets of four
    d_text: str | None

    def texts(self, order: str) -> tuple[str, ...]:
        """In this order of the sides."""
        sides = {"a": self.a_text, "b": self.b_text, "c": self.c_text, "d": self.d_text}
        return tuple(sides[side] or "" for side in order)


@dataclass(frozen=True)
class Standing(Pair):
    """One pair with its live picks and its leases."""

    verdicts: dict[str, Verdict]  # user id: of their live pick
    picked: bool  # by anybody ever: then the pair is in the journal
    kept_back: bool  # by a flag
    running: dict[str, datetime]  # user id: when the lease ends; newest lease last
    ended: set[str]  # user ids whose lease ended before its time
    orders: dict[str, str]  # user id: sides in the order on their screen
    shown: dict[str, datetime]  # user id: when they last got it

    def counted_without(self, user_id: str) -> int:
        """Picks of others that count."""
        return sum(
            verdict not in UNCOUNTED and user != user_id for user, verdict in self.verdicts.items()
        )

    def places_for(self, user_id: str) -> int:
        """How many more screens may show it, this user's among them."""
        if self.kept_back:
            return 0
        leased = sum(user != user_id for user in self.running)
        return max(0, self.wanted - self.counted_without(user_id) - leased)


def pair_of(read: Read, pair_id: str) -> Pair:
    """Of a pair that is there."""
    (row,) = read(PAIR, {"pair": pair_id})
    return Pair(**row)


def of_pair(tx: Tx, pair_id: str) -> Standing | None:
    """None when there is no such pair."""
    values = {"pair": pair_id}
    pair = tx.one(PAIR, values)
    if pair is None:
        return None
    picks = tx.all(PICKS, values)
    if picks:  # of most pairs there are none yet
        picks = tx.all(PICKS_NOW, values)
    events = sorted(tx.all(EVENTS, values), key=itemgetter("seq"))
    now = utc_now()
    running: dict[str, datetime] = {}
    ended: set[str] = set()
    for event in events:
        user_id = event["user_id"]
        running.pop(user_id, None)
        ended.discard(user_id)
        if event["lease_expires"] > now and event["kind"] == "ended":
            ended.add(user_id)
        elif event["lease_expires"] > now:
            running[user_id] = event["lease_expires"]
    return Standing(
        **pair,
        verdicts={pick["user_id"]: pick["verdict"] for pick in picks if pick["live"]},
        picked=bool(picks),
        kept_back=any(map(_keeps_back, picks)),
        running=running,
        ended=ended,
        orders={event["user_id"]: event["shown_order"] for event in events},
        shown={e["user_id"]: e["created"] for e in events if e["kind"] != "ended"},
    )


def kept_back(read: Read) -> list[str]:
    """Pairs that a flag keeps out of all queues: until returned by a researcher, for good if
    removed."""
    if not read(FLAGS, {}):
        return []
    flags = read(FLAGS_NOW, {})
    return [flag["pair_id"] for flag in flags if _keeps_back(flag)]


def _keeps_back(pick: dict[str, Any]) -> bool:
    unresolved = pick["action"] is None and pick["live"]
    return pick["verdict"] == "flag" and (pick["action"] == "removed" or unresolved)


def insert_event(
    tx: Tx,
    kind: Literal["shown", "reopened", "ended"],
    user_id: str,
    pair_id: str,
    order: str,
    lease_expires: datetime,
) -> None:
    row = {
        "event_id": uuid7(),
        "seq": tx.next_seq(),
        "user_id": user_id,
        "kind": kind,
        "pair_id": pair_id,
        "shown_order": order,
        "lease_expires": lease_expires,
        "created": utc_now(),
    }
    tx.insert("annotator_event", row)


def end_leases(tx: Tx, standing: Standing, user_id: str, verdict: Verdict) -> None:
    """After this pick: its own lease, all of a flagged pair, and the newest ones too many."""
    others = [user for user in standing.running if user != user_id]
    if verdict == "flag":
        room = 0
    else:
        counted = standing.counted_without(user_id) + (verdict not in UNCOUNTED)
        room = max(0, standing.wanted - counted)
    ending = others[room:]
    if user_id in standing.running:
        ending.append(user_id)
    for user in ending:
        end_lease(tx, standing, user)


def end_lease(tx: Tx, standing: Standing, user_id: str) -> None:
    insert_event(
        tx,
        "ended",
        user_id,
        standing.pair_id,
        standing.orders[user_id],
        standing.running[user_id],
    )


def reopen(tx: Tx, standing: Standing, user_id: str, order: str, life: timedelta) -> bool:
    """Show it to its author again, unless others have taken the place. Returns whether."""
    if not standing.places_for(user_id):
        return False
    insert_event(tx, "reopened", user_id, standing.pair_id, order, utc_now() + life)
    return True


# This runs with every pick, in short statements of one table: DuckDB spends more on a join of a few
# rows, and on sorting them, than on several of these.
PAIR = """
select pair_id, prompt_id, kind, wanted, conversation_id, turn, a_text, b_text, c_text, d_text
from pair where pair_id = $pair
"""
PICKS = "select 1 from judgment where pair_id = $pair"
FLAGS = "select 1 from judgment where verdict = 'flag'"
NOW = """
select j.pair_id, j.user_id, j.verdict, r.judgment_id is null as live, f.action
from judgment j
left join retraction r on r.judgment_id = j.judgment_id
left join flag_resolution f on f.judgment_id = j.judgment_id
"""
PICKS_NOW = NOW + "where j.pair_id = $pair order by j.seq"
FLAGS_NOW = NOW + "where j.verdict = 'flag'"
EVENTS = """
select seq, user_id, kind, shown_order, lease_expires, created from annotator_event
where pair_id = $pair
"""
