"""Practice pairs with a known verdict and an explanation, judged before the first real pick."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from store.database import Store, Tx
from store.ids import uuid7
from store.prompts import LONGEST, checked_messages
from store.rows import Invalid, Message, NotFound, User, is_text, utc_now

PracticeVerdict = Literal["left", "right", "tie", "both_bad"]
PRACTICE_VERDICTS: tuple[PracticeVerdict, ...] = ("left", "right", "tie", "both_bad")


@dataclass(frozen=True)
class PracticeItem:
    practice_id: str
    position: int  # items come in this order
    messages: list[Message]
    left_text: str
    right_text: str
    verdict: PracticeVerdict  # the expected one
    explanation: str  # Markdown, shown after the answer
    active: bool


def items(store: Store, active_only: bool = False) -> list[PracticeItem]:
    """In their order."""
    return [_item(row) for row in store.read(ITEMS, {"active_only": active_only})]


def save(
    store: Store,
    *,
    messages: Sequence[Message],
    left_text: str,
    right_text: str,
    verdict: PracticeVerdict,
    explanation: str,
    position: int | None = None,
    active: bool = True,
    practice_id: str | None = None,
) -> PracticeItem:
    """A new item, or with `practice_id` a change of that one. `position` None: as it was, or last.

    Raises Invalid or NotFound.
    """
    made = PracticeItem(
        practice_id=practice_id or uuid7(),
        position=position or 0,
        messages=checked_messages(list(messages)),
        left_text=left_text,
        right_text=right_text,
        verdict=verdict,
        explanation=explanation,
        active=active,
    )
    _check(made)

    def work(tx: Tx) -> PracticeItem:
        known = _row_of(tx, practice_id) if practice_id else None
        place = position
        if place is None:
            place = known["position"] if known else _last_position(tx) + 1
        item = replace(made, position=place)
        _put(tx, item, known)
        return item

    return store.write(work)


def remove(store: Store, practice_id: str) -> None:
    """Show it to nobody any more; answers to it stay. Raises NotFound."""

    def work(tx: Tx) -> None:
        row = _row_of(tx, practice_id)
        _put(tx, replace(_item(row), active=False), row)

    store.write(work)


def todo(store: Store, user_id: str) -> list[PracticeItem]:
    """Active items that this user has not answered; none once they have made a real pick."""
    return [_item(row) for row in store.read(STILL_TO_DO, {"user": user_id})]


def answer(
    store: Store, user: User, practice_id: str, verdict: PracticeVerdict
) -> tuple[PracticeItem, bool]:
    """Keep the answer. Returns the item and whether the answer is the expected one.

    Raises Invalid or NotFound.
    """
    if verdict not in PRACTICE_VERDICTS:
        raise Invalid(f"Unknown verdict {verdict!r}: choose {', '.join(PRACTICE_VERDICTS)}.")

    def work(tx: Tx) -> tuple[PracticeItem, bool]:
        item = _item(_row_of(tx, practice_id))
        row = {
            "answer_id": uuid7(),
            "seq": tx.next_seq(),
            "practice_id": practice_id,
            "user_id": user.user_id,
            "verdict": verdict,
            "correct": verdict == item.verdict,
            "created": utc_now(),
        }
        tx.insert("practice_answer", row)
        return item, verdict == item.verdict

    return store.write(work)


ITEMS = """
select * from practice_item where active or not $active_only order by position, practice_id
"""
STILL_TO_DO = """
select * from practice_item i
where i.active
  and not exists (select 1 from practice_answer a
                  where a.practice_id = i.practice_id and a.user_id = $user)
  and not exists (select 1 from judgment_live j where j.user_id = $user)
order by i.position, i.practice_id
"""


def _check(item: PracticeItem) -> None:
    """Raises Invalid."""
    if item.verdict not in PRACTICE_VERDICTS:
        raise Invalid(f"Unknown verdict {item.verdict!r}: choose {', '.join(PRACTICE_VERDICTS)}.")
    texts = {"left answer": item.left_text, "right answer": item.right_text}
    for name, text in (texts | {"explanation": item.explanation}).items():
        if not text.strip() or len(text) > LONGEST or not is_text(text):
            raise Invalid(
                f"The {name} has 1 to {LONGEST:,} characters of text.",
                "practice_text",
                most=LONGEST,
            )
    if not all(is_text(message["content"]) for message in item.messages):
        raise Invalid("The text holds characters that are not valid Unicode.", "not_unicode")
    if not 0 <= item.position < 10_000:
        raise Invalid("The position of an item is a number from 0 to 9,999.")


def _row_of(tx: Tx, practice_id: str) -> dict[str, Any]:
    row = tx.one("select * from practice_item where practice_id = $id", {"id": practice_id})
    if row is None:
        raise NotFound("There is no such practice item.", "practice_gone")
    return row


def _last_position(tx: Tx) -> int:
    row = tx.one("select coalesce(max(position), 0) as last from practice_item")
    assert row is not None
    return int(row["last"])


def _put(tx: Tx, item: PracticeItem, known: dict[str, Any] | None) -> None:
    row = asdict(item) | {
        "seq": tx.next_seq(),
        "messages": json.dumps(item.messages, ensure_ascii=False),
        "created": known["created"] if known else utc_now(),
    }
    if known:
        tx.update("practice_item", "practice_id", row)
    else:
        tx.insert("practice_item", row)


def _item(row: dict[str, Any]) -> PracticeItem:
    return PracticeItem(
        practice_id=row["practice_id"],
        position=row["position"],
        messages=json.loads(row["messages"]),
        left_text=row["left_text"],
        right_text=row["right_text"],
        verdict=row["verdict"],
        explanation=row["explanation"],
        active=row["active"],
    )
