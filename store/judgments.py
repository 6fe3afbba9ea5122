"""Picks: stored once, never edited.

Undo is a retraction, and the pair comes back to the same annotator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from store import pairs
from store.database import Store, Tx
from store.ids import uuid7
from store.rows import VERDICTS, Conflict, Invalid, NotFound, User, Verdict, is_text, utc_now

LONGEST_MS = 366 * 86_400_000


@dataclass(frozen=True)
class NewJudgment:
    judgment_id: str  # made by the client, so that a repeated request is recognised
    pair_id: str
    verdict: Verdict
    strength: int | None = None  # 1 slightly, 2 clearly, 3 much
    reasons: Sequence[str] = ()
    comment: str | None = None
    edited_text: str | None = None
    ms_spent: int | None = None  # None: time since the pair was shown

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise Invalid(f"Unknown verdict {self.verdict!r}: choose {', '.join(VERDICTS)}.")
        if self.strength is not None and self.strength not in (1, 2, 3):
            raise Invalid("strength is 1 (slightly), 2 (clearly) or 3 (much).")
        if self.strength is not None and self.verdict not in ("left", "right"):
            raise Invalid("strength goes with left or right only.")
        texts = (self.comment or "", self.edited_text or "", *self.reasons)
        if len(self.reasons) > 20 or any(len(text) > 20_000 for text in texts):
            raise Invalid("At most 20 reasons, and no text above 20,000 characters.")
        if not all(is_text(text) for text in (*texts, self.judgment_id, self.pair_id)):
            raise Invalid("A text holds characters that are not valid Unicode.")
        if self.ms_spent is not None and abs(self.ms_spent) > LONGEST_MS:
            raise Invalid("ms_spent is above a year.")


def judge(store: Store, user: User, new: NewJudgment) -> bool:
    """True when stored, False when the same id was stored before; on disk twice either way.

    Raises NotFound when the pair was never shown to this user, Conflict when it was judged already
    or the same id came with another verdict.
    """

    def work(tx: Tx) -> bool:
        if known := tx.one(KNOWN, {"id": new.judgment_id}):
            if (known["pair_id"], known["user_id"]) != (new.pair_id, user.user_id):
                raise Conflict("This judgment id was used for another pick. Make a new uuid.")
            if known["verdict"] != new.verdict:
                stored = known["verdict"].replace("_", " ")
                raise Conflict(f"This pair was saved as {stored} already. Undo first.")
            return False
        shown = tx.one(SHOWN, {"pair": new.pair_id, "user": user.user_id})
        if shown is None:
            raise NotFound("This pair was not shown to you. Ask for the next pair.")
        if tx.one(TAKEN, {"pair": new.pair_id, "user": user.user_id}):
            raise Conflict("This pair is judged already. Go on with the next one, or undo first.")
        tx.insert("judgment", _row(tx, user, new, shown))
        _journal_pair(tx, new.pair_id)
        return True

    return store.write(work)


def retract(store: Store, user: User, judgment_id: str, lease: timedelta) -> str:
    """Take a pick back and give its pair to its author again. Returns the pair's id.

    Annotators reach their own picks, researchers any. Raises NotFound.
    """

    def work(tx: Tx) -> str:
        found = tx.one("select * from judgment_live where judgment_id = $id", {"id": judgment_id})
        if found is None or not (found["user_id"] == user.user_id or user.may("researcher")):
            raise NotFound("There is no such pick of yours that still counts.")
        row = {
            "retraction_id": uuid7(),
            "seq": tx.next_seq(),
            "judgment_id": judgment_id,
            "user_id": user.user_id,
            "created": utc_now(),
        }
        tx.insert("retraction", row)
        pairs.insert_lease(
            tx, "reopened", found["user_id"], found["pair_id"], found["left_side"], lease
        )
        return found["pair_id"]

    return store.write(work)


def newest_of(store: Store, user_id: str) -> str | None:
    """The id of this user's last live pick, for undo."""
    sql = "select judgment_id from judgment_live where user_id = $user order by seq desc limit 1"
    row = store.read_one(sql, {"user": user_id})
    return row["judgment_id"] if row else None


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
SHOWN = """
select * from annotator_event where pair_id = $pair and user_id = $user order by seq desc limit 1
"""
TAKEN = """
select 1 from judgment_live
where pair_id = $pair and (user_id = $user or verdict <> 'skip')
"""
PAIR_AND_PROMPT = (
    "select * from pair where pair_id = $pair",
    "select t.* from prompt t join pair p on p.prompt_id = t.prompt_id where p.pair_id = $pair",
)


def preferred_side(verdict: Verdict, left_side: str) -> str | None:
    """Which stored side is better: the verdict names what was on screen."""
    if verdict == "left":
        return left_side
    if verdict == "right":
        return "b" if left_side == "a" else "a"
    return None


def _row(tx: Tx, user: User, new: NewJudgment, shown: dict[str, Any]) -> dict[str, Any]:
    now = utc_now()
    spent = new.ms_spent
    if spent is None:
        spent = round((now - shown["created"]).total_seconds() * 1000)
    return {
        "judgment_id": new.judgment_id,
        "seq": tx.next_seq(),
        "pair_id": new.pair_id,
        "user_id": user.user_id,
        "verdict": new.verdict,
        "preferred": preferred_side(new.verdict, shown["left_side"]),
        "left_side": shown["left_side"],
        "strength": new.strength,
        "reasons": list(new.reasons),
        "comment": new.comment,
        "edited_text": new.edited_text,
        "ms_spent": max(0, spent),
        "source": "simulated" if user.source == "simulated" else "human",
        "created": now,
    }


def _journal_pair(tx: Tx, pair_id: str) -> None:
    """A pick without its texts is worth nothing: pair and prompt stand beside it."""
    pair_sql, prompt_sql = PAIR_AND_PROMPT
    for table, sql in (("pair", pair_sql), ("prompt", prompt_sql)):
        row = tx.one(sql, {"pair": pair_id})
        assert row is not None
        tx.also_journal(table, row)
