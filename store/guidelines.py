"""What annotators go by: Markdown in numbered versions. A pick keeps the number of its own."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from store.database import Store, Tx
from store.rows import Invalid, User, is_text, utc_now

LONGEST = 100_000  # characters


@dataclass(frozen=True)
class Guideline:
    version: int  # from 1
    markdown: str
    created: datetime
    author: str  # name


def current(store: Store) -> Guideline | None:
    """The newest version; None when nobody wrote one."""
    versions = everyone(store, 1)
    return versions[0] if versions else None


def everyone(store: Store, limit: int = 100) -> list[Guideline]:
    """Newest first."""
    rows = store.read(VERSIONS, {"limit": limit})
    return [Guideline(**row) for row in rows]


def publish(store: Store, user: User, markdown: str) -> int:
    """A new version. Returns its number; that of the current one when the text is the same.

    Raises Invalid.
    """
    text = markdown.strip()
    if not text or len(text) > LONGEST or not is_text(text):
        raise Invalid(
            f"Guidelines have 1 to {LONGEST:,} characters of text.",
            "guidelines_length",
            most=LONGEST,
        )

    def work(tx: Tx) -> int:
        newest = tx.one("select version, markdown from guideline order by version desc limit 1")
        if newest and newest["markdown"] == text:
            return int(newest["version"])
        version = int(newest["version"]) + 1 if newest else 1
        row = {
            "version": version,
            "seq": tx.next_seq(),
            "markdown": text,
            "user_id": user.user_id,
            "created": utc_now(),
        }
        tx.insert("guideline", row)
        return version

    return store.write(work)


VERSIONS = """
select g.version, g.markdown, g.created, u.name as author
from guideline g join app_user u on u.user_id = g.user_id
order by g.version desc limit $limit
"""
