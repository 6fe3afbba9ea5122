"""Picks: stored once, never edited.

Undo is a retraction, and the pair comes back to the same annotator. A revision is a retraction and
a new pick of the same pair in one transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from store import line, pairs, standing
from store.database import Store, Tx
from store.history import Pick, pick_of
from store.ids import uuid7
from store.rows import (
    VERDICTS,
    Conflict,
    Invalid,
    Kind,
    NotFound,
    User,
    Verdict,
    is_text,
    utc_now,
)
from store.standing import Standing

LONGEST_MS = 366 * 86_400_000
VERSIONS = range(1, 2**31)  # of guidelines, that the column can hold
DECIDED: tuple[Verdict, ...] = ("left", "right", "ranked")  # with a better side


@dataclass(frozen=True)
class NewJudgment:
    judgment_id: str  # made by the client, so that a repeated request is recognised
    pair_id: str
    verdict: Verdict
    strength: int | None = None  # 1 slightly, 2 clearly, 3 much
    reasons: Sequence[str] = ()
    comment: str | None = None
    edited_text: str | None = None  # the better side as it should have been
    ms_spent: int | None = None  # None: time since the pair was shown
    best: int | None = None  # with ranked: places on the screen, 0 to 3
    worst: int | None = None
    guidelines_version: int | None = None

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise Invalid(f"Unknown verdict {self.verdict!r}: choose {', '.join(VERDICTS)}.")
        if self.strength is not None and self.strength not in (1, 2, 3):
            raise Invalid("strength is 1 (slightly), 2 (clearly) or 3 (much).")
        if self.strength is not None and self.verdict not in ("left", "right"):
            raise Invalid("strength goes with left or right only.")
        if self.edited_text is not None and self.verdict not in DECIDED:
            raise Invalid("edited_text is the better side: it goes with left, right or ranked.")
        if self.guidelines_version is not None and self.guidelines_version not in VERSIONS:
            raise Invalid("There is no such version of the guidelines.")
        self._check_places()
        texts = (self.comment or "", self.edited_text or "", *self.reasons)
        if len(self.reasons) > 20 or any(len(text) > 20_000 for text in texts):
            raise Invalid("At most 20 reasons, and no text above 20,000 characters.")
        if not all(is_text(text) for text in (*texts, self.judgment_id, self.pair_id)):
            raise Invalid("A text holds characters that are not valid Unicode.")
        if self.ms_spent is not None and abs(self.ms_spent) > LONGEST_MS:
            raise Invalid("ms_spent is above a year.")

    def _check_places(self) -> None:
        places = (self.best, self.worst)
        if self.verdict != "ranked":
            if places != (None, None):
                raise Invalid("best and worst go with the verdict ranked only.")
        elif not all(place in range(4) for place in places) or self.best == self.worst:
            raise Invalid("ranked needs best and worst: two different places from 0 to 3.")


@dataclass(frozen=True)
class Undone:
    """A pick that was taken back; its author has the pair on screen again."""

    judgment_id: str
    pair_id: str
    pick: Pick


def judge(store: Store, user: User, new: NewJudgment) -> bool:
    """True when stored, False when the same id was stored before; on disk twice either way.

    Raises NotFound when the pair was never shown to this user, Conflict when enough people judged
    it already, a flag keeps it back or the same id came with another verdict, Invalid when the
    verdict does not fit a pair or a set of four.
    """
    return store.write(lambda tx: _judge(tx, user, new))


def judge_and_lease(
    store: Store,
    user: User,
    new: NewJudgment,
    draw: pairs.Draw,
    life: timedelta,
    pools: Sequence[str],
    kinds: Sequence[Kind] = ("pair", "four"),
) -> tuple[bool, pairs.Lease | None]:
    """`judge` and `pairs.lease_next` at once: the next pair comes back with the vote."""

    def work(tx: Tx) -> tuple[bool, pairs.Lease | None]:
        stored = _judge(tx, user, new)
        return stored, pairs.claim(tx, user.user_id, draw, life, pools, kinds)

    return store.write(work)


def retract(store: Store, user: User, judgment_id: str, lease: timedelta) -> bool:
    """Withdraw a pick. Returns whether its author has the pair on screen again: not when others
    have taken the place or a flag keeps the pair back.

    Annotators reach their own picks, researchers any. Raises NotFound.
    """

    def work(tx: Tx) -> bool:
        found = tx.one(LIVE, {"id": judgment_id})
        if found is None or not (found["user_id"] == user.user_id or user.may("researcher")):
            raise _gone()
        _retract(tx, user, found)
        return _reopen(tx, found, lease)

    return store.write(work)


def undo(
    store: Store, user: User, lease: timedelta, judgment_id: str | None = None
) -> Undone | None:
    """Take back this own pick, or the newest one, and show its pair again; None without one.

    The same `judgment_id` again gets the same answer while the pair is on screen. Raises NotFound
    when it is no own pick that counts, Conflict when the pair cannot come back: the pick stays.
    """

    def work(tx: Tx) -> Undone | None:
        if judgment_id is None:
            found = tx.one(NEWEST, {"user": user.user_id})
            if found is None:
                return None
        else:
            found = tx.one(OWN, {"id": judgment_id, "user": user.user_id})
            if found is None or not (found["live"] or _holds(tx, user, found)):
                raise _gone()
        if found["live"]:
            _retract(tx, user, found)
            if not _reopen(tx, found, lease):  # raising takes the retraction back too
                raise Conflict(
                    "This pair cannot come back to you, so the pick stays. "
                    "You can take it back in My picks.",
                    "pick_stays",
                )
        return Undone(found["judgment_id"], found["pair_id"], pick_of(found))

    return store.write(work)


def revise(store: Store, user: User, judgment_id: str, new: NewJudgment) -> bool:
    """Put `new` in the place of this own pick, of the same pair with its sides as they were shown.

    False when the id of `new` was stored before. Raises what `judge` raises, and NotFound when
    there is no such own pick that counts.
    """

    def work(tx: Tx) -> bool:
        if _known(tx, user, new):
            return False
        found = tx.one(OWN, {"id": judgment_id, "user": user.user_id})
        if found is None or not found["live"]:
            raise _gone()
        if found["pair_id"] != new.pair_id:
            raise Invalid("A revision is of the same pair. Send its pair_id.")
        _retract(tx, user, found)
        _store(tx, user, new, found["shown_order"], found["ms_spent"])
        return True

    return store.write(work)


def search(
    store: Store, user_id: str | None, since: datetime | None, limit: int
) -> list[dict[str, Any]]:
    """Live picks, newest first."""
    return store.read(
        """select j.judgment_id as id, j.pair_id, u.name as "user", j.verdict, j.strength,
                  j.reasons, j.comment, j.edited_text, j.ms_spent, j.source, j.created
           from judgment_live j join app_user u on u.user_id = j.user_id
           where ($user is null or j.user_id = $user) and ($since is null or j.created >= $since)
           order by j.seq desc limit $limit""",
        {"user": user_id, "since": since, "limit": limit},
    )


KNOWN = "select pair_id, user_id, verdict from judgment where judgment_id = $id"
LIVE = "select * from judgment_live where judgment_id = $id"
OWN = """
select *, judgment_id not in (select judgment_id from retraction) as live from judgment
where judgment_id = $id and user_id = $user
"""
NEWEST = """
select *, true as live from judgment_live where user_id = $user order by seq desc limit 1
"""
# A pair that was sampled again for a turn may be picked once, and later turns follow from it.
TURN_TAKEN = """
select 1 from judgment_live j join pair p on p.pair_id = j.pair_id
where p.conversation_id = $conversation and p.turn = $turn
"""
LATER_TURNS = """
select pair_id from pair
where conversation_id = $conversation and turn >= $turn and pair_id <> $pair
"""
PAIR = "select * from pair where pair_id = $id"


def _judge(tx: Tx, user: User, new: NewJudgment) -> bool:
    if _known(tx, user, new):
        return False
    _store(tx, user, new)
    return True


def _known(tx: Tx, user: User, new: NewJudgment) -> bool:
    """Whether this id was stored before. Raises Conflict when it was for something else."""
    known = tx.one(KNOWN, {"id": new.judgment_id})
    if known is None:
        return False
    if (known["pair_id"], known["user_id"]) != (new.pair_id, user.user_id):
        raise Conflict("This judgment id was used for another pick. Make a new uuid.", "pick_used")
    if known["verdict"] != new.verdict:
        stored = known["verdict"].replace("_", " ")
        raise Conflict(f"This pair was saved as {stored} already. Undo first.")
    return True


def _store(
    tx: Tx, user: User, new: NewJudgment, order: str | None = None, ms_spent: int | None = None
) -> None:
    """`order`: of the sides in an earlier pick of the pair; None: as on the screen now."""
    pair = standing.of_pair(tx, new.pair_id)
    if pair is None or not (order or user.user_id in pair.shown):
        raise NotFound("This pair was not shown to you. Ask for the next pair.", "pair_not_shown")
    _check(tx, pair, user, new)
    now = utc_now()
    if new.ms_spent is not None:
        ms_spent = new.ms_spent
    elif ms_spent is None:
        ms_spent = round((now - pair.shown[user.user_id]).total_seconds() * 1000)
    tx.insert("judgment", _row(tx, user, new, order or pair.orders[user.user_id], ms_spent, now))
    if not pair.picked:
        _journal_pair(tx, new.pair_id)
    standing.end_leases(tx, pair, user.user_id, new.verdict)
    if new.verdict in standing.UNCOUNTED:
        line.forget(tx)  # another annotator may have it now
    if pair.conversation_id:
        _end_later_turns(tx, pair, user.user_id)


def _check(tx: Tx, pair: Standing, user: User, new: NewJudgment) -> None:
    """Raises Conflict or Invalid."""
    if user.user_id in pair.verdicts:
        raise Conflict(
            "This pair is judged already. Go on with the next one, or undo first.", "pair_judged"
        )
    if pair.kept_back or pair.counted_without(user.user_id) >= pair.wanted:
        # One sentence for both: which it is would tell what others picked.
        raise Conflict("This pair needs no more picks. Go on with the next one.", "pair_done")
    if pair.kind == "four" and new.verdict in ("left", "right"):
        raise Invalid("Of four answers name the best and the worst: the verdict is ranked.")
    if pair.kind != "four" and new.verdict == "ranked":
        raise Invalid("ranked is for sets of four answers: choose left or right here.")
    if pair.conversation_id:
        turn = {"conversation": pair.conversation_id, "turn": pair.turn}
        if tx.one(TURN_TAKEN, turn):
            raise Conflict(
                "This turn is judged already. Go on with the next one, or undo first.",
                "turn_judged",
            )


def _row(
    tx: Tx, user: User, new: NewJudgment, order: str, ms_spent: int, now: datetime
) -> dict[str, Any]:
    preferred = {"left": order[0], "right": order[1]}.get(new.verdict)
    return {
        "judgment_id": new.judgment_id,
        "seq": tx.next_seq(),
        "pair_id": new.pair_id,
        "user_id": user.user_id,
        "verdict": new.verdict,
        "preferred": preferred,
        "left_side": order[0] if len(order) == 2 else None,
        "shown_order": order,
        "best": None if new.best is None else order[new.best],
        "worst": None if new.worst is None else order[new.worst],
        "strength": new.strength,
        "reasons": list(new.reasons),
        "comment": new.comment,
        "edited_text": new.edited_text,
        "ms_spent": max(0, ms_spent),
        "guidelines_version": new.guidelines_version,
        "source": "simulated" if user.source == "simulated" else "human",
        "created": now,
    }


def _journal_pair(tx: Tx, pair_id: str) -> None:
    """A pick without its texts is worth nothing: its pair stands beside it."""
    (pair,) = tx.all(PAIR, {"id": pair_id})
    tx.also_journal("pair", pair)


def _end_later_turns(tx: Tx, pair: Standing, user_id: str) -> None:
    """What was sampled for later turns continued another answer."""
    values = {"conversation": pair.conversation_id, "turn": pair.turn, "pair": pair.pair_id}
    for row in tx.all(LATER_TURNS, values):
        later = standing.of_pair(tx, row["pair_id"])
        if later and user_id in later.running:
            standing.end_lease(tx, later, user_id)


def _retract(tx: Tx, user: User, found: dict[str, Any]) -> None:
    row = {
        "retraction_id": uuid7(),
        "seq": tx.next_seq(),
        "judgment_id": found["judgment_id"],
        "user_id": user.user_id,
        "created": utc_now(),
    }
    tx.insert("retraction", row)
    line.forget(tx)


def _reopen(tx: Tx, found: dict[str, Any], lease: timedelta) -> bool:
    pair = standing.of_pair(tx, found["pair_id"])
    assert pair is not None
    return standing.reopen(tx, pair, found["user_id"], found["shown_order"], lease)


def _holds(tx: Tx, user: User, found: dict[str, Any]) -> bool:
    """Whether the pair of this pick is on the user's screen."""
    pair = standing.of_pair(tx, found["pair_id"])
    return pair is not None and user.user_id in pair.running


def _gone() -> NotFound:
    return NotFound("There is no such pick of yours that still counts.", "pick_gone")
