"""An annotator's own picks, to look at, search and re-open."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from store.database import Store
from store.rows import Kind, Message, NotFound, Verdict


@dataclass(frozen=True)
class PastPick:
    judgment_id: str
    seq: int
    pair_id: str
    kind: Kind
    created: datetime
    verdict: Verdict
    strength: int | None
    reasons: list[str]
    comment: str | None
    edited_text: str | None
    best: int | None  # place on the screen
    worst: int | None
    messages: list[Message]
    texts: tuple[str, ...]  # in the order on screen


def history(
    store: Store,
    user_id: str,
    *,
    text: str | None = None,
    verdict: Verdict | None = None,
    before: int | None = None,
    limit: int = 50,
) -> list[PastPick]:
    """Own live picks, newest first.

    `text` stands in the prompt, an answer or what the annotator wrote, in any case of letters.
    `before`: the seq of the last one of the page before.
    """
    values = {"user": user_id, "text": text or None, "verdict": verdict, "before": before}
    rows = store.read(PICKS + NARROWED, values | {"limit": limit})
    return [_past(row) for row in rows]


def past(store: Store, user_id: str, judgment_id: str) -> PastPick:
    """Raises NotFound when there is no such own pick that counts."""
    values = {"user": user_id, "id": judgment_id}
    row = store.read_one(PICKS + "and j.judgment_id = $id", values)
    if row is None:
        raise NotFound("There is no such pick of yours that still counts.")
    return _past(row)


def place(row: dict[str, Any], name: str) -> int | None:
    """Where on the screen the side `best` or `worst` of this judgment stood."""
    side = row[name]
    return None if side is None else str(row["shown_order"]).index(side)


PICKS = """
select j.*, p.kind, p.a_text, p.b_text, p.c_text, p.d_text, t.messages
from judgment_live j
join pair p on p.pair_id = j.pair_id
join prompt t on t.prompt_id = p.prompt_id
where j.user_id = $user
"""
NARROWED = """
and ($verdict is null or j.verdict = $verdict) and ($before is null or j.seq < $before)
and ($text is null or contains(
    lower(concat_ws(chr(10), p.a_text, p.b_text, p.c_text, p.d_text, j.comment, j.edited_text,
        array_to_string(t.messages->>'$[*].content', chr(10)))),
    lower($text)))
order by j.seq desc limit $limit
"""


def _past(row: dict[str, Any]) -> PastPick:
    return PastPick(
        judgment_id=row["judgment_id"],
        seq=row["seq"],
        pair_id=row["pair_id"],
        kind=row["kind"],
        created=row["created"],
        verdict=row["verdict"],
        strength=row["strength"],
        reasons=row["reasons"],
        comment=row["comment"],
        edited_text=row["edited_text"],
        best=place(row, "best"),
        worst=place(row, "worst"),
        messages=json.loads(row["messages"]),
        texts=tuple(row[f"{side}_text"] for side in row["shown_order"]),
    )
