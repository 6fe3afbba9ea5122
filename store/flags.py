"""Flagged pairs: out of all queues until a researcher has looked at them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from store import line
from store.database import Store, Tx
from store.ids import uuid7
from store.rows import Conflict, Invalid, Message, NotFound, User, is_text, utc_now

Action = Literal["returned", "removed"]


@dataclass(frozen=True)
class Flag:
    judgment_id: str
    pair_id: str
    user: str  # name of the annotator who flagged it
    reasons: list[str]
    comment: str | None
    created: datetime
    messages: list[Message]
    texts: tuple[str, ...]  # sides a, b and, of four, c, d


def open_flags(store: Store) -> list[Flag]:
    """That wait for a researcher, oldest first."""
    return [_flag(row) for row in store.read(OPEN + "order by j.seq")]


def resolve(store: Store, user: User, judgment_id: str, action: Action, note: str | None) -> None:
    """Give the pair back to the queues of the others, or keep it out of them for good.

    Raises Invalid, NotFound, or Conflict when somebody resolved it already.
    """
    if action not in ("returned", "removed"):
        raise Invalid(f"Unknown action {action!r}: choose returned or removed.")
    if note is not None and not (len(note) <= 20_000 and is_text(note)):
        raise Invalid("A note has at most 20,000 characters.", "flag_note")

    def work(tx: Tx) -> None:
        values = {"id": judgment_id}
        if tx.one("select 1 from flag_resolution where judgment_id = $id", values):
            raise Conflict("This flag is resolved already.", "flag_resolved")
        if not tx.one(OPEN + "and j.judgment_id = $id", values):
            raise NotFound(
                "There is no such open flag. Its author may have taken it back.", "flag_gone"
            )
        row = {
            "resolution_id": uuid7(),
            "seq": tx.next_seq(),
            "judgment_id": judgment_id,
            "user_id": user.user_id,
            "action": action,
            "note": note,
            "created": utc_now(),
        }
        tx.insert("flag_resolution", row)
        line.forget(tx)

    store.write(work)


OPEN = """
select j.judgment_id, j.pair_id, u.name, j.reasons, j.comment, j.created, t.messages,
    p.a_text, p.b_text, p.c_text, p.d_text
from judgment_live j
join app_user u on u.user_id = j.user_id
join pair p on p.pair_id = j.pair_id
join prompt t on t.prompt_id = p.prompt_id
where j.verdict = 'flag' and j.judgment_id not in (select judgment_id from flag_resolution)
"""


def _flag(row: dict[str, Any]) -> Flag:
    sides = (row[f"{side}_text"] for side in "abcd")
    return Flag(
        judgment_id=row["judgment_id"],
        pair_id=row["pair_id"],
        user=row["name"],
        reasons=row["reasons"],
        comment=row["comment"],
        created=row["created"],
        messages=json.loads(row["messages"]),
        texts=tuple(text for text in sides if text is not None),
    )
