"""An annotator's own picks, to look at, search and re-open."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from store.database import Store
from store.rows import Kind, Message, NotFound, Verdict


@dataclass(frozen=True)
class Pick:
    """What a pick says."""

    verdict: Verdict
    strength: int | None
    reasons: list[str]
    comment: str | None
    edited_text: str | None
    best: int | None  # place on the screen
    worst: int | None


@dataclass(frozen=True)
class PastPick:
    judgment_id: str
    seq: int
    pair_id: str
    kind: Kind
    created: datetime
    pick: Pick
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
    values = {"user": user_id, "verdict": verdict, "before": before, "limit": limit}
    rows = store.read(FOUND, values | {"text": text}) if text else store.read(PAGE, values)
    return [_past(row) for row in rows]


def newest(store: Store, user_id: str) -> str | None:
    """Id of the newest own live pick, the one that undo takes back."""
    row = store.read_one(NEWEST, {"user": user_id})
    return row["judgment_id"] if row else None


def past(store: Store, user_id: str, judgment_id: str) -> PastPick:
    """Raises NotFound when there is no such own pick that counts."""
    values = {"user": user_id, "id": judgment_id}
    row = store.read_one(PICKS + "and j.judgment_id = $id", values)
    if row is None:
        raise NotFound("There is no such pick of yours that still counts.", "pick_gone")
    return _past(row)


def pick_of(judgment: dict[str, Any]) -> Pick:
    """Of a row of `judgment`."""
    return Pick(
        verdict=judgment["verdict"],
        strength=judgment["strength"],
        reasons=judgment["reasons"],
        comment=judgment["comment"],
        edited_text=judgment["edited_text"],
        best=_place(judgment, "best"),
        worst=_place(judgment, "worst"),
    )


PICKS = """
select j.*, p.kind, p.a_text, p.b_text, p.c_text, p.d_text, t.messages
from judgment_live j
join pair p on p.pair_id = j.pair_id
join prompt t on t.prompt_id = p.prompt_id
where j.user_id = $user
"""
NARROWED = """
and ($verdict is null or j.verdict = $verdict) and ($before is null or j.seq < $before)
"""
ORDERED = "order by j.seq desc limit $limit"
# The page is chosen before any text is read.
PAGE = (
    PICKS
    + "and j.judgment_id in (select judgment_id from judgment_live j where j.user_id = $user "
    + NARROWED
    + ORDERED
    + ") order by j.seq desc"
)
FOUND = (
    PICKS
    + NARROWED
    + """
and contains(
    lower(concat_ws(chr(10), p.a_text, p.b_text, p.c_text, p.d_text, j.comment, j.edited_text,
        array_to_string(t.messages->>'$[*].content', chr(10)))),
    lower($text))
"""
    + ORDERED
)
NEWEST = """
select arg_max(judgment_id, seq) as judgment_id from judgment_live where user_id = $user
"""


def _past(row: dict[str, Any]) -> PastPick:
    return PastPick(
        judgment_id=row["judgment_id"],
        seq=row["seq"],
        pair_id=row["pair_id"],
        kind=row["kind"],
        created=row["created"],
        pick=pick_of(row),
        messages=json.loads(row["messages"]),
        texts=tuple(row[f"{side}_text"] for side in row["shown_order"]),
    )


def _place(judgment: dict[str, Any], name: str) -> int | None:
    """Where on the screen the side `best` or `worst` stood."""
    side = judgment[name]
    return None if side is None else str(judgment["shown_order"]).index(side)
