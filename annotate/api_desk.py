"""What the annotate page asks for: screens, picks, undo, own picks, practice, conversations.

A screen holds all that the page shows next, so that one answer brings it with the pick.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Generator
from dataclasses import asdict
from typing import Annotated, Any, Literal

from anyio import CapacityLimiter, Semaphore, to_thread
from fastapi import APIRouter, Depends, Query
from fastapi.responses import PlainTextResponse, Response, StreamingResponse

from annotate import views
from annotate.api_guard import Guard
from annotate.api_json import Body, JudgmentIn, error_json, iso, judgment_of
from annotate.conversations import Piece
from annotate.desk import Desk
from annotate.rendering import rendered
from annotate.views import Screen
from store import guidelines, history, judgments, pairs, practice
from store.history import PastPick
from store.rows import PrefloopError, User, Verdict

MOST_STREAMS = 32  # at once; the policy server takes 64 requests, with those of the sampler
STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class PracticeIn(Body):
    verdict: Literal["left", "right", "tie", "both_bad"]


class NextIn(Body):
    aside: str | None = None  # a pair to go on without for now


class UndoIn(Body):
    judgment_id: str | None = None  # so that a repeated request takes back no second pick


class TurnIn(Body):
    message: str | None = None


def add_desk_routes(api: APIRouter, desk: Desk, needs: Guard) -> None:
    known = Depends(needs("annotator"))

    def seat(user: User = known, utc_offset: int | None = None) -> User:
        """The annotator; `utc_offset` is what their clock is ahead of UTC, in minutes."""
        if utc_offset is not None:
            desk.progress.set_clock(user.user_id, utc_offset)
        return user

    annotator = Depends(seat)
    _screen_routes(api, desk, annotator)
    _pick_routes(api, desk, annotator)
    _guidance_routes(api, desk, annotator)
    _conversation_routes(api, desk, annotator)


def _screen_routes(api: APIRouter, desk: Desk, annotator: Any) -> None:
    @api.get("/desk")
    def open_desk(user: User = annotator) -> dict[str, Any]:
        config, store = desk.config, desk.store
        return screen_json(desk.screen(user)) | {
            "user": {
                "name": user.name,
                "role": user.role,
                "languages": list(user.languages),
                "goal": user.goal or config.daily_goal,
            },
            "settings": {
                "reasons": list(config.reasons),
                "skip_reasons": list(config.skip_reasons),
                "flag_reasons": list(config.flag_reasons),
                "fold_height": config.fold_height,
                "lease_s": desk.lease.total_seconds(),
            },
            "practice": [
                asdict(views.practice(item)) for item in practice.todo(store, user.user_id)
            ],
        }

    @api.post("/desk/next")
    def next_screen(body: NextIn | None = None, user: User = annotator) -> dict[str, Any]:
        """The pair on the screen again, with its lease renewed, or the next one."""
        return screen_json(desk.screen(user, body.aside if body else None))

    @api.post("/desk/judgments", status_code=201)
    def judge(body: JudgmentIn, response: Response, user: User = annotator) -> dict[str, Any]:
        stored, screen = desk.judge_and_show(user, judgment_of(body))
        if not stored:
            response.status_code = 200
        return {"id": body.id, "stored": stored, "screen": screen_json(screen)}

    @api.post("/desk/undo")
    def undo(body: UndoIn | None = None, user: User = annotator) -> dict[str, Any]:
        undone, screen = desk.undo(user, body.judgment_id if body else None)
        return {"undone": undone, "screen": screen_json(screen)}

    @api.get("/desk/pairs/{pair_id}/answers/{index}", response_class=PlainTextResponse)
    def answer(pair_id: str, index: int, user: User = annotator) -> PlainTextResponse:
        """The exact whole text of the answer at this place of the screen (0: left)."""
        return PlainTextResponse(pairs.answer_text(desk.store, user.user_id, pair_id, index))

    @api.get("/desk/pairs/{pair_id}/prompt/{index}", response_class=PlainTextResponse)
    def prompt(pair_id: str, index: int, user: User = annotator) -> PlainTextResponse:
        """The exact whole text of this message of the prompt (0: the first)."""
        return PlainTextResponse(pairs.prompt_text(desk.store, user.user_id, pair_id, index))


def _pick_routes(api: APIRouter, desk: Desk, annotator: Any) -> None:
    store = desk.store

    @api.get("/desk/picks")
    def picks(
        q: str | None = None,
        verdict: Verdict | None = None,
        before: int | None = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        user: User = annotator,
    ) -> dict[str, Any]:
        """Own live picks, newest first; `before` is the seq of the last one of the page before."""
        found = history.history(
            store, user.user_id, text=q, verdict=verdict, before=before, limit=limit + 1
        )
        return {"picks": [pick_json(pick) for pick in found[:limit]], "more": len(found) > limit}

    @api.get("/desk/picks/{judgment_id}")
    def pick(judgment_id: str, user: User = annotator) -> dict[str, Any]:
        found = history.past(store, user.user_id, judgment_id)
        return {"pick": pick_json(found), "item": item_json(asdict(views.past(found)))}

    @api.post("/desk/picks/{judgment_id}/revise", status_code=201)
    def revise(
        judgment_id: str, body: JudgmentIn, response: Response, user: User = annotator
    ) -> dict[str, Any]:
        stored = judgments.revise(store, user, judgment_id, judgment_of(body))
        if not stored:
            response.status_code = 200
        return {"id": body.id, "stored": stored}


def _guidance_routes(api: APIRouter, desk: Desk, annotator: Any) -> None:
    store = desk.store

    @api.get("/desk/guidelines")
    def current(user: User = annotator) -> dict[str, Any]:
        found = guidelines.current(store)
        if found is None:
            return {"version": None}
        html, created = rendered(found.markdown), iso(found.created)
        return {"version": found.version, "html": html, "created": created}

    @api.get("/desk/practice")
    def practice_round(user: User = annotator) -> dict[str, Any]:
        """The whole round, to do it again; GET /desk has what is still to be done."""
        items = practice.items(store, active_only=True)
        return {"practice": [asdict(views.practice(item)) for item in items]}

    @api.post("/desk/practice/{practice_id}")
    def answer(practice_id: str, body: PracticeIn, user: User = annotator) -> dict[str, Any]:
        item, correct = practice.answer(store, user, practice_id, body.verdict)
        return {
            "correct": correct,
            "expected": item.verdict,
            "explanation_html": rendered(item.explanation),
        }


def _conversation_routes(api: APIRouter, desk: Desk, annotator: Any) -> None:
    places = Semaphore(MOST_STREAMS)

    @api.post("/desk/conversations/{conversation_id}/turns", response_model=None)
    def turn(conversation_id: str, body: TurnIn, user: User = annotator) -> StreamingResponse:
        """JSON lines: pieces of both answers, then the screen or an error."""
        pieces = desk.turn(user, conversation_id, body.message)
        lines = _streamed(pieces, places)
        return StreamingResponse(lines, media_type="application/x-ndjson", headers=STREAM_HEADERS)

    @api.post("/desk/conversations/{conversation_id}/end")
    def end(conversation_id: str, user: User = annotator) -> dict[str, Any]:
        return screen_json(desk.end_conversation(user, conversation_id))


async def _streamed(
    pieces: Generator[Piece | Screen, None, None], places: Semaphore
) -> AsyncIterator[str]:
    """One line for each piece. A reader who goes away ends the request to vLLM."""
    lines = _lines(pieces)
    own = CapacityLimiter(1)  # a piece is long in coming, and the common threads are for picks
    try:
        async with places:
            while line := await to_thread.run_sync(next, lines, None, limiter=own):
                yield line
    finally:
        pieces.close()


def _lines(pieces: Generator[Piece | Screen, None, None]) -> Generator[str, None, None]:
    try:
        for piece in pieces:
            shown = asdict(piece) if isinstance(piece, Piece) else {"screen": screen_json(piece)}
            yield json.dumps(shown, ensure_ascii=False) + "\n"
    except PrefloopError as error:  # too late for a status: the first line is out
        yield json.dumps(error_json(error), ensure_ascii=False) + "\n"


# --- JSON -----------------------------------------------------------------------------------------


def screen_json(screen: Screen) -> dict[str, Any]:
    shown = asdict(screen)
    if shown["item"]:
        shown["item"] = item_json(shown["item"])
    return shown


def item_json(item: dict[str, Any]) -> dict[str, Any]:
    expires = item["lease_expires"]
    return item | {"lease_expires": iso(expires) if expires else None}


def pick_json(pick: PastPick) -> dict[str, Any]:
    asked = [message["content"] for message in pick.messages if message["role"] == "user"]
    return asdict(pick.pick) | {
        "id": pick.judgment_id,
        "seq": pick.seq,
        "created": iso(pick.created),
        "kind": pick.kind,
        "prompt": views.excerpt(asked[-1] if asked else ""),
        "answers": [views.excerpt(text) for text in pick.texts],
    }
