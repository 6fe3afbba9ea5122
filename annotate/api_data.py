"""Data routes of the HTTP API: prompts, preferences, exports, backup."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from annotate.api_guard import Guard
from annotate.api_json import BackupIn, naive_utc
from store import exporting, importing, prompts
from store.backup import backup
from store.database import Store
from store.importing import ImportReport, NewPreference
from store.rows import Invalid, PrefloopError, User
from store.strict_json import loads

LARGEST_BODY = 256 << 20
T = TypeVar("T")


def add_data_routes(api: APIRouter, store: Store, needs: Guard) -> None:
    researcher = Depends(needs("researcher"))

    @api.post("/prompts")
    async def add_prompts(request: Request, user: User = researcher) -> dict[str, Any]:
        def work() -> dict[str, Any]:
            added, known = prompts.add(store, _each(body, importing.prompt_of), "import")
            return {"added": added, "known": known}

        body = await _body(request)
        return await run_in_threadpool(work)

    @api.get("/prompts")
    def list_prompts(
        tag: str | None = None, limit: int = 100, user: User = researcher
    ) -> dict[str, Any]:
        found = prompts.search(store, tag, max(1, min(limit, 100_000)))
        return {"prompts": [asdict(prompt) for prompt in found]}

    @api.post("/preferences")
    async def add_preferences(request: Request, user: User = researcher) -> dict[str, Any]:
        def work() -> ImportReport:
            return importing.add_preferences(store, _each(body, _preference))

        body = await _body(request)
        return asdict(await run_in_threadpool(work))

    @api.get("/export/{format_}")
    def export(
        format_: str,
        since: datetime | None = None,
        where: str | None = None,
        user: User = researcher,
    ) -> StreamingResponse:
        rows = exporting.rows(store, format_, exporting.select(naive_utc(since), where))
        headers = {"Content-Disposition": f'attachment; filename="prefloop-{format_}.jsonl"'}
        lines = exporting.lines(rows)
        return StreamingResponse(lines, media_type="application/jsonl", headers=headers)

    @api.post("/backup", status_code=201)
    def back_up(body: BackupIn, user: User = Depends(needs("admin"))) -> dict[str, Any]:
        return {"files": backup(store, Path(body.out))}


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            message = f"At most {LARGEST_BODY >> 20} MiB at once."
            raise HTTPException(413, {"code": "too_large", "message": message})
    return bytes(body)


def _each(body: bytes, parse: Callable[[Any], T]) -> list[T]:
    """The rows of a JSON list or of JSON lines, parsed. Raises Invalid naming the first bad row."""
    is_list = body.lstrip().startswith(b"[")
    rows = loads(body) if is_list else body.split(b"\n")
    parsed = []
    for number, row in enumerate(rows, 1):
        if not is_list and not row.strip():
            continue
        try:
            parsed.append(parse(row if is_list else loads(row)))
        except PrefloopError as error:
            raise Invalid(f"Row {number}: {error}. Nothing was imported.") from None
    if not parsed:
        raise Invalid("The request holds no rows.")
    return parsed


def _preference(value: Any) -> NewPreference:
    if not isinstance(value, dict):
        raise Invalid("is not a JSON object")
    return importing.preference_of(value)
