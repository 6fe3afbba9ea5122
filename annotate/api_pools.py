"""What researchers set up over HTTP: prompt pools, flags, guidelines and the practice round."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Depends

from annotate.api_guard import Guard
from annotate.api_json import Body, iso
from annotate.desk import Desk
from annotate.rendering import SHOWN_CHARS, rendered
from store import flags, guidelines, pairs, pools, practice, prompts, tallies, users
from store.database import Store
from store.flags import Action, Flag
from store.guidelines import Guideline
from store.pools import Pool
from store.practice import PracticeItem, PracticeVerdict
from store.rows import Conflict, Mode, NotFound, User


class PoolIn(Body):
    """Only the fields that are sent are set. `annotators` are user names; none: everybody."""

    name: str = ""
    mode: Mode = "pair"
    tags: tuple[str, ...] = ()
    language: str | None = None
    weight: float = 1.0
    annotators: tuple[str, ...] = ()
    overlap_share: float | None = None
    overlap_annotators: int | None = None
    turns: int = 4
    active: bool = True


class ResolutionIn(Body):
    action: Action
    note: str | None = None


class GuidelinesIn(Body):
    markdown: str


class PracticeIn(Body):
    """An item as a whole; `messages` end with the user's turn."""

    messages: list[dict[str, Any]]
    left_text: str
    right_text: str
    verdict: PracticeVerdict
    explanation: str


class PracticeChangeIn(Body):
    """Only the fields that are sent are changed; `active` puts a removed item back."""

    messages: list[dict[str, Any]] | None = None
    left_text: str | None = None
    right_text: str | None = None
    verdict: PracticeVerdict | None = None
    explanation: str | None = None
    active: bool | None = None


class OrderIn(Body):
    practice_ids: list[str]


def add_pool_routes(api: APIRouter, desk: Desk, needs: Guard) -> None:
    _pool_routes(api, desk, needs)
    _flag_routes(api, desk.store, needs)
    _guideline_routes(api, desk.store, needs)
    _practice_routes(api, desk.store, needs)


# --- pools ----------------------------------------------------------------------------------------


def _pool_routes(api: APIRouter, desk: Desk, needs: Guard) -> None:
    researcher = Depends(needs("researcher"))
    store = desk.store

    @api.get("/pools")
    def everyone(user: User = researcher) -> dict[str, Any]:
        """All pools and what a form about one offers: people, tags, languages, the default."""
        people = [u for u in users.everyone(store) if u.active and u.source == "human"]
        tags = tallies.prompts_by_tag(store)
        return {
            "pools": pools_json(store, pools.everyone(store)),
            "people": [known.name for known in people],
            "languages": sorted({code for known in people for code in known.languages}),
            "tags": [{"tag": tag, "prompts": count} for tag, count in tags.items()],
            "overlap": {
                "share": desk.config.overlap_share,
                "annotators": desk.config.overlap_annotators,
            },
        }

    @api.post("/pools", status_code=201)
    def add(body: PoolIn, user: User = researcher) -> dict[str, Any]:
        made = pools.add(store, **{"name": body.name} | _pool_fields(store, body))
        return pools_json(store, [made])[0]

    @api.patch("/pools/{pool_id}")
    def change(pool_id: str, body: PoolIn, user: User = researcher) -> dict[str, Any]:
        changed = pools.change(store, pool_id, **_pool_fields(store, body))
        return pools_json(store, [changed])[0]


def _pool_fields(store: Store, body: PoolIn) -> dict[str, Any]:
    fields = body.model_dump(exclude_unset=True)
    if "annotators" in fields:
        fields["annotators"] = [users.named(store, name).user_id for name in body.annotators]
    return fields


def pools_json(store: Store, found: list[Pool]) -> list[dict[str, Any]]:
    names = {user.user_id: user.name for user in users.everyone(store)}
    sizes, ready = prompts.pool_sizes(store), pairs.ready_by_pool(store)
    return [
        asdict(pool)
        | {
            "annotators": [names[user_id] for user_id in pool.annotators],
            "created": iso(pool.created),
            "prompts": sizes.get(pool.pool_id, 0),
            "ready": ready.get(pool.pool_id, 0),
        }
        for pool in found
    ]


# --- flags ----------------------------------------------------------------------------------------


def _flag_routes(api: APIRouter, store: Store, needs: Guard) -> None:
    researcher = Depends(needs("researcher"))

    @api.get("/flags")
    def open_flags(user: User = researcher) -> dict[str, Any]:
        return {"flags": [flag_json(flag) for flag in flags.open_flags(store)]}

    @api.post("/flags/{judgment_id}")
    def resolve(judgment_id: str, body: ResolutionIn, user: User = researcher) -> dict[str, Any]:
        flags.resolve(store, user, judgment_id, body.action, body.note)
        return {"judgment_id": judgment_id, "action": body.action}


def flag_json(flag: Flag) -> dict[str, Any]:
    """Sides in the order of the store; html holds what the desk would show of a text."""
    return {
        "judgment_id": flag.judgment_id,
        "pair_id": flag.pair_id,
        "prompt": [dict(turn) | {"html": rendered(turn["content"])} for turn in flag.messages],
        "answers": [
            {"text": text, "html": rendered(text), "cut": len(text) > SHOWN_CHARS}
            for text in flag.texts
        ],
        "by": flag.user,
        "reasons": flag.reasons,
        "comment": flag.comment,
        "created": iso(flag.created),
    }


# --- guidelines -----------------------------------------------------------------------------------


def _guideline_routes(api: APIRouter, store: Store, needs: Guard) -> None:
    researcher = Depends(needs("researcher"))

    @api.get("/guidelines")
    def history(user: User = researcher) -> dict[str, Any]:
        """The text in force, and the newest versions with the live picks made under each."""
        current, picks = guidelines.current(store), tallies.picks_by_guidelines(store)
        return {
            "current": guideline_json(current) if current else None,
            "versions": [
                {
                    "version": one.version,
                    "created": iso(one.created),
                    "author": one.author,
                    "picks": picks.get(one.version, 0),
                }
                for one in guidelines.everyone(store)
            ],
        }

    @api.get("/guidelines/{version}")
    def one(version: int, user: User = researcher) -> dict[str, Any]:
        current = guidelines.current(store)
        if current is None or not 1 <= version <= current.version:
            raise NotFound(
                f"There is no version {version} of the guidelines.",
                "guidelines_gone",
                version=version,
            )
        # versions are numbered without a gap
        return guideline_json(guidelines.everyone(store, current.version - version + 1)[-1])

    @api.post("/guidelines", status_code=201)
    def publish(body: GuidelinesIn, user: User = researcher) -> dict[str, Any]:
        return {"version": guidelines.publish(store, user, body.markdown)}

    @api.post("/guidelines/preview")
    def preview(body: GuidelinesIn, user: User = researcher) -> dict[str, Any]:
        return {"html": rendered(body.markdown)}


def guideline_json(guideline: Guideline) -> dict[str, Any]:
    html = rendered(guideline.markdown)
    return asdict(guideline) | {"html": html, "created": iso(guideline.created)}


# --- practice -------------------------------------------------------------------------------------


def _practice_routes(api: APIRouter, store: Store, needs: Guard) -> None:
    researcher = Depends(needs("researcher"))

    @api.get("/practice")
    def everything(user: User = researcher) -> dict[str, Any]:
        """In the order in which they are shown; removed ones are there and not active."""
        return practice_json(store)

    @api.post("/practice", status_code=201)
    def add(body: PracticeIn, user: User = researcher) -> dict[str, Any]:
        return asdict(practice.save(store, **body.model_dump()))

    @api.post("/practice/order")
    def order(body: OrderIn, user: User = researcher) -> dict[str, Any]:
        put_in_order(store, body.practice_ids)
        return practice_json(store)

    @api.patch("/practice/{practice_id}")
    def change(practice_id: str, body: PracticeChangeIn, user: User = researcher) -> dict[str, Any]:
        known = asdict(practice_item(store, practice_id))
        return asdict(practice.save(store, **known | body.model_dump(exclude_none=True)))

    @api.delete("/practice/{practice_id}")
    def remove(practice_id: str, user: User = researcher) -> dict[str, Any]:
        practice.remove(store, practice_id)
        return {"practice_id": practice_id, "removed": True}


def practice_json(store: Store) -> dict[str, Any]:
    answers = tallies.practice_answers(store)
    none = tallies.PracticeTally(0, 0)
    return {
        "items": [
            asdict(item) | asdict(answers.get(item.practice_id, none))
            for item in practice.items(store)
        ]
    }


def practice_item(store: Store, practice_id: str) -> PracticeItem:
    for item in practice.items(store):
        if item.practice_id == practice_id:
            return item
    raise NotFound("There is no such practice item.", "practice_gone")


def put_in_order(store: Store, practice_ids: list[str]) -> None:
    """Raises Conflict unless these are the active items: somebody changed the round meanwhile."""
    active = {item.practice_id: item for item in practice.items(store, active_only=True)}
    if sorted(practice_ids) != sorted(active):
        raise Conflict(
            "The practice round was changed meanwhile. Load it again, then order it.",
            "practice_changed",
        )
    for position, practice_id in enumerate(practice_ids, 1):
        item = active[practice_id]
        if item.position != position:
            practice.save(store, **asdict(item) | {"position": position})
