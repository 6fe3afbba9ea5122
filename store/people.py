"""What pages list of users and of their API tokens."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from store.database import Store
from store.rows import User, utc_now
from store.users import user_of


@dataclass(frozen=True)
class Person:
    """A user with what an admin wants to know about them. `picks` leaves out skips and flags."""

    user: User
    created: datetime
    has_password: bool
    invited_until: datetime | None  # end of a live invite
    tokens: int  # API tokens that work
    picks: int
    last_pick: datetime | None


@dataclass(frozen=True)
class Token:
    """An API token without its secret."""

    token_id: str
    label: str | None
    tail: str | None
    created: datetime


def everyone(store: Store) -> list[Person]:
    """In the order in which they were added."""
    return [
        Person(
            user_of(row),
            row["created"],
            row["password_hash"] is not None,
            row["invited_until"],
            row["tokens"] or 0,
            row["picks"] or 0,
            row["last_pick"],
        )
        for row in store.read(PEOPLE, {"now": utc_now()})
    ]


def api_tokens(store: Store, user_id: str) -> list[Token]:
    """The live ones, newest first."""
    rows = store.read(
        "select token_id, label, tail, created from api_token where user_id = $id "
        "and kind = 'api' and ended is null order by created desc",
        {"id": user_id},
    )
    return [Token(**row) for row in rows]


PEOPLE = """
select u.*, t.tokens, t.invited_until, j.picks, j.last_pick
from app_user u
left join (
    select user_id, count(*) filter (kind = 'api') as tokens,
        max(expires) filter (kind = 'invite') as invited_until
    from api_token where ended is null and (expires is null or expires > $now) group by user_id
) t on t.user_id = u.user_id
left join (
    select user_id, count(*) as picks, max(created) as last_pick
    from judgment_live where verdict not in ('skip', 'flag') group by user_id
) j on j.user_id = u.user_id
order by u.user_id
"""
