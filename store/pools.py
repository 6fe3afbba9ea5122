"""Prompt pools: which prompts are judged how, by whom, and how often.

A pool with tags holds the prompts that carry one of them; a pool without tags holds those that no
other active pool's tags match.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, TypedDict, Unpack

from store.database import Store, Tx
from store.ids import uuid7
from store.rows import MODES, Conflict, Invalid, Mode, NotFound, User, is_text, utc_now

LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")
MOST_TURNS = 50


@dataclass(frozen=True)
class Pool:
    pool_id: str
    name: str
    mode: Mode
    tags: tuple[str, ...]
    language: str | None  # "en", "zh-CN"; None: any
    weight: float  # share of the pairs sampled, against the other active pools
    annotators: tuple[str, ...]  # user ids; none: everybody
    overlap_share: float | None  # of the pairs, judged by several; None: as configured
    overlap_annotators: int | None  # that judge such a pair; None: as configured
    turns: int  # of a conversation, at most
    active: bool
    created: datetime


class PoolFields(TypedDict, total=False):
    """What people may set of a new pool; see Pool."""

    mode: Mode
    tags: Sequence[str]
    language: str | None
    weight: float
    annotators: Sequence[str]
    overlap_share: float | None
    overlap_annotators: int | None
    turns: int
    active: bool


class PoolChange(PoolFields, total=False):
    name: str


def everyone(store: Store) -> list[Pool]:
    """Oldest first, also those that rest."""
    return [_pool(row) for row in store.read("select * from pool order by created, pool_id")]


def get(store: Store, pool_id: str) -> Pool:
    """Raises NotFound."""
    row = store.read_one("select * from pool where pool_id = $id", {"id": pool_id})
    if row is None:
        raise _unknown(pool_id)
    return _pool(row)


def for_user(pools: Sequence[Pool], user: User) -> list[Pool]:
    """The active ones that this user works on: theirs or everybody's, in a language of theirs."""
    return [
        pool
        for pool in pools
        if pool.active
        and (not pool.annotators or user.user_id in pool.annotators)
        and (
            pool.language is None
            or not user.languages
            or any(_covers(spoken, pool.language) for spoken in user.languages)
        )
    ]


def add(store: Store, name: str, **fields: Unpack[PoolFields]) -> Pool:
    """Raises Invalid, or Conflict when the name is taken."""
    start = Pool(
        pool_id=uuid7(),
        name=name,
        mode="pair",
        tags=(),
        language=None,
        weight=1.0,
        annotators=(),
        overlap_share=None,
        overlap_annotators=None,
        turns=4,
        active=True,
        created=utc_now(),
    )
    pool = _changed(start, dict(fields))

    def work(tx: Tx) -> Pool:
        _check_against_others(tx, pool)
        tx.insert("pool", _row(tx, pool))
        return pool

    return store.write(work)


def change(store: Store, pool_id: str, **fields: Unpack[PoolChange]) -> Pool:
    """Raises NotFound, Invalid, or Conflict: the name is taken, or no pool would be active."""
    values = dict(fields)

    def work(tx: Tx) -> Pool:
        row = tx.one("select * from pool where pool_id = $id", {"id": pool_id})
        if row is None:
            raise _unknown(pool_id)
        pool = _changed(_pool(row), values)
        _check_against_others(tx, pool)
        others = tx.one("select 1 from pool where active and pool_id <> $id", {"id": pool_id})
        if not pool.active and not others:
            raise Conflict("One pool must stay active. Add or activate another first.", "last_pool")
        tx.update("pool", "pool_id", _row(tx, pool))
        return pool

    return store.write(work)


def _changed(pool: Pool, values: dict[str, Any]) -> Pool:
    """Raises Invalid."""
    if unknown := values.keys() - PoolChange.__annotations__.keys():
        raise Invalid(f"A pool has no field {', '.join(sorted(unknown))}.")
    for key in ("tags", "annotators"):
        if key in values:
            stripped = (entry.strip() for entry in values[key])
            values[key] = tuple(dict.fromkeys(stripped))
    pool = replace(pool, **values)
    pool = replace(pool, name=pool.name.strip())
    _check(pool)
    return pool


def _check(pool: Pool) -> None:
    """Raises Invalid."""
    if not 0 < len(pool.name) <= 64 or not is_text(pool.name):
        raise Invalid("The name of a pool has 1 to 64 characters.", "pool_name")
    if pool.mode not in MODES:
        raise Invalid(f"Unknown mode {pool.mode!r}: choose {', '.join(MODES)}.")
    if len(pool.tags) > 50 or not all(0 < len(tag) <= 64 and is_text(tag) for tag in pool.tags):
        raise Invalid("A pool has at most 50 tags of 1 to 64 characters.", "pool_tags")
    if pool.language is not None and not LANGUAGE.fullmatch(pool.language):
        raise Invalid(
            "The language of a pool is a code such as en or zh-CN; leave it out for any.",
            "pool_language",
        )
    if not (math.isfinite(pool.weight) and 0 < pool.weight <= 1000):
        raise Invalid("The weight of a pool is above 0 and at most 1000.", "pool_weight")
    if pool.overlap_share is not None and not 0 <= pool.overlap_share <= 1:
        raise Invalid("The overlap of a pool is a share from 0 to 1.", "pool_overlap")
    if pool.overlap_annotators is not None and not 1 <= pool.overlap_annotators <= 100:
        raise Invalid("From 1 to 100 annotators judge a pair of the overlap.", "pool_judges")
    if not 1 <= pool.turns <= MOST_TURNS:
        raise Invalid(f"A conversation has 1 to {MOST_TURNS} turns.", "pool_turns", most=MOST_TURNS)


def _check_against_others(tx: Tx, pool: Pool) -> None:
    sql = "select 1 from pool where lower(name) = lower($name) and pool_id <> $id"
    if tx.one(sql, {"name": pool.name, "id": pool.pool_id}):
        raise Conflict(
            f"There is already a pool named {pool.name!r}.", "pool_taken", name=pool.name
        )
    known = tx.all(
        "select user_id from app_user where user_id in (select unnest($ids))",
        {"ids": list(pool.annotators)},
    )
    if len(known) < len(pool.annotators):
        raise Invalid(
            "An annotator of this pool does not exist. Choose from the people listed.",
            "pool_people",
        )


def _covers(spoken: str, language: str) -> bool:
    """en covers en-GB and the other way round: somebody asked for zh is given zh-CN."""
    mine, theirs = spoken.lower().split("-"), language.lower().split("-")
    return all(one == other for one, other in zip(mine, theirs, strict=False))


def _unknown(pool_id: str) -> NotFound:
    return NotFound("There is no such pool.", "pool_gone")


def _row(tx: Tx, pool: Pool) -> dict[str, Any]:
    row = asdict(pool) | {"tags": list(pool.tags), "annotators": list(pool.annotators)}
    return row | {"seq": tx.next_seq()}


def _pool(row: dict[str, Any]) -> Pool:
    values = {key: value for key, value in row.items() if key != "seq"}
    return Pool(**values | {"tags": tuple(row["tags"]), "annotators": tuple(row["annotators"])})
