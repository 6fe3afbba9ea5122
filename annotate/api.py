"""The HTTP API of docs: `/api/v1` for people's programs and for our own commands, `/healthz` and
`/metrics` outside.

Every route names the role it needs; authority is a bearer token or the session cookie. Handlers
are plain functions,
so the framework runs them in its thread pool and a slow one holds up nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import PlainTextResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from annotate.accounts import Accounts
from annotate.desk import Desk
from annotate.research import Research
from annotate.security import session_user
from annotate.views import PairView
from store import exporting, importing, judgments, pairs, prompts, runs, users
from store.backup import backup
from store.ids import is_uuid
from store.rows import Conflict, Invalid, NotFound, Policy, PrefloopError, Role, Run, User, Verdict
from store.strict_json import loads
from train.policy.client import Sampling

LARGEST_BODY = 256 << 20


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class JudgmentIn(Body):
    id: str
    pair_id: str = Field(max_length=64)
    verdict: Verdict
    strength: int | None = None
    reasons: list[str] = []
    comment: str | None = None
    edited_text: str | None = None
    ms_spent: Annotated[int, Field(ge=0, le=86_400_000)] | None = None


class RunIn(Body):
    kind: Literal["rm", "dpo", "round"]
    set: dict[str, str | int | float | bool] = {}


class SampleIn(Body):
    messages: list[dict[str, Any]]
    n: Annotated[int, Field(ge=1, le=16)] = 1
    max_tokens: Annotated[int, Field(ge=1, le=32_768)] = 256
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


class UserIn(Body):
    name: str
    role: Role = "annotator"
    source: Literal["human", "simulated"] = "human"


class BackupIn(Body):
    out: str = Field(min_length=1, max_length=4096)


def api_router(desk: Desk, research: Research, accounts: Accounts, version: str) -> APIRouter:
    """All routes; the services are the same that the pages call."""
    router = APIRouter()
    needs = _guard(accounts)
    api = APIRouter(prefix="/api/v1")
    _annotator_routes(api, desk, research, needs)
    _policy_routes(api, research, needs)
    _run_routes(api, research, needs)
    _data_routes(api, research, needs)
    _admin_routes(api, accounts, needs)
    router.include_router(api)
    _open_routes(router, desk, research, version)
    return router


Guard = Callable[[Role], Callable[[Request], User]]


def _guard(accounts: Accounts) -> Guard:
    def needs(role: Role) -> Callable[[Request], User]:
        def user(request: Request) -> User:
            scheme, _, secret = request.headers.get("authorization", "").partition(" ")
            found = (
                accounts.by_token(secret)
                if scheme.lower() == "bearer"
                else session_user(request, accounts)
            )
            if found is None:
                hint = "Send Authorization: Bearer TOKEN; `prefloop users token NAME` makes one."
                raise HTTPException(
                    401, {"code": "not_signed_in", "message": "Sign in first.", "hint": hint}
                )
            if not found.may(role):
                raise HTTPException(
                    403, {"code": "forbidden", "message": f"This needs the role {role}."}
                )
            return found

        return user

    return needs


def _annotator_routes(api: APIRouter, desk: Desk, research: Research, needs: Guard) -> None:
    annotator = Depends(needs("annotator"))

    @api.post("/pairs/next", response_model=None)
    def next_pair(user: User = annotator) -> dict[str, Any] | Response:
        pair = desk.next_pair(user.user_id)
        return pair_json(pair) if pair else Response(status_code=204, headers={"Retry-After": "1"})

    @api.post("/judgments", status_code=201)
    def judge(body: JudgmentIn, response: Response, user: User = annotator) -> dict[str, Any]:
        if not is_uuid(body.id):
            raise Invalid("id must be a uuid that the client made.")
        values = body.model_dump(exclude={"id", "pair_id", "verdict"})
        stored = desk.judge(user.user_id, body.pair_id, body.verdict, judgment_id=body.id, **values)
        if not stored:
            response.status_code = 200
        return {"id": body.id, "stored": stored}

    @api.delete("/judgments/{judgment_id}")
    def retract(judgment_id: str, user: User = annotator) -> dict[str, Any]:
        desk.retract(user.user_id, judgment_id)
        return {"id": judgment_id, "retracted": True}

    @api.get("/judgments")
    def picks(
        since: datetime | None = None,
        user: str | None = None,
        limit: int = 100,
        asking: User = annotator,
    ) -> dict[str, Any]:
        whose: str | None = asking.user_id
        if asking.may("researcher"):
            whose = users.named(desk.store, user).user_id if user else None
        found = judgments.search(desk.store, whose, _utc(since), max(1, min(limit, 10_000)))
        return {"judgments": [row | {"created": iso(row["created"])} for row in found]}

    @api.get("/stats")
    def stats(user: User = annotator) -> dict[str, Any]:
        """Own numbers for everybody; those of the whole loop for researchers."""
        own = {"own": asdict(desk.progress(user.user_id))}
        return own | (overview_json(research) if user.may("researcher") else {})


def _policy_routes(api: APIRouter, research: Research, needs: Guard) -> None:
    researcher = Depends(needs("researcher"))  # blind: policies are not an annotator's business

    @api.get("/policies")
    def everyone(user: User = researcher) -> dict[str, Any]:
        return {"policies": [policy_json(p) for p in research.overview().policies]}

    @api.get("/policies/current")
    def current(user: User = researcher) -> dict[str, Any]:
        champion = research.overview().champion
        if champion is None:
            raise NotFound("No policy serves yet; the server is starting.")
        return policy_json(champion)

    @api.get("/policies/{policy_id}")
    def one(policy_id: str, user: User = researcher) -> dict[str, Any]:
        return policy_json(research.policy(policy_id))

    @api.post("/policies/{policy_id}/sample")
    def sample(policy_id: str, body: SampleIn, user: User = researcher) -> dict[str, Any]:
        messages = prompts.checked_messages(body.messages)
        sampling = Sampling(temperature=body.temperature, max_tokens=body.max_tokens)
        answers = research.sample(policy_id, messages, body.n, body.seed, sampling)
        return {
            "completions": [{"text": a.text, "finish_reason": a.finish_reason} for a in answers]
        }

    @api.post("/policies/rollback")
    def rollback(user: User = researcher) -> dict[str, Any]:
        return policy_json(research.policy(research.rollback(user.user_id)))

    @api.post("/policies/{policy_id}/promote")
    def promote(policy_id: str, user: User = researcher) -> dict[str, Any]:
        research.promote(policy_id, user.user_id)
        return policy_json(research.policy(policy_id))

    @api.post("/policies/{policy_id}/retire")
    def retire(policy_id: str, user: User = researcher) -> dict[str, Any]:
        research.retire(policy_id, user.user_id)
        return policy_json(research.policy(policy_id))


def _run_routes(api: APIRouter, research: Research, needs: Guard) -> None:
    researcher = Depends(needs("researcher"))

    @api.post("/runs", status_code=202)
    def start(body: RunIn, user: User = researcher) -> dict[str, Any]:
        return {"run_id": research.start_run(body.kind, user.user_id, body.set)}

    @api.get("/runs")
    def everyone(user: User = researcher) -> dict[str, Any]:
        return {"runs": [run_json(run) for run in runs.newest(research.store)]}

    @api.get("/runs/{run_id}")
    def one(run_id: str, user: User = researcher) -> dict[str, Any]:
        return run_json(runs.get(research.store, run_id))

    @api.get("/runs/{run_id}/progress")
    def progress(run_id: str, user: User = researcher) -> dict[str, Any]:
        return {"progress": research.progress(run_id)}

    @api.post("/runs/{run_id}/cancel", status_code=202)
    def cancel(run_id: str, user: User = researcher) -> dict[str, Any]:
        research.cancel_run(run_id, user.user_id)
        return {"run_id": run_id}


def _data_routes(api: APIRouter, research: Research, needs: Guard) -> None:
    researcher = Depends(needs("researcher"))

    @api.post("/prompts")
    async def add_prompts(request: Request, user: User = researcher) -> dict[str, Any]:
        new = _each(await _records(request), importing.prompt_of)
        added, known = await run_in_threadpool(prompts.add, research.store, new, "import")
        return {"added": added, "known": known}

    @api.get("/prompts")
    def list_prompts(
        tag: str | None = None, limit: int = 100, user: User = researcher
    ) -> dict[str, Any]:
        found = prompts.search(research.store, tag, max(1, min(limit, 100_000)))
        return {"prompts": [asdict(prompt) for prompt in found]}

    @api.post("/preferences")
    async def add_preferences(request: Request, user: User = researcher) -> dict[str, Any]:
        new = _each(await _records(request), importing.preference_of)
        return asdict(await run_in_threadpool(importing.add_preferences, research.store, new))

    @api.get("/export/{format_}")
    def export(
        format_: str,
        since: datetime | None = None,
        where: str | None = None,
        user: User = researcher,
    ) -> StreamingResponse:
        rows = exporting.rows(research.store, format_, exporting.select(_utc(since), where))
        name = f"prefloop-{format_}.jsonl"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return StreamingResponse(
            exporting.lines(rows), media_type="application/jsonl", headers=headers
        )


def _admin_routes(api: APIRouter, accounts: Accounts, needs: Guard) -> None:
    admin = Depends(needs("admin"))
    store = accounts.store

    @api.get("/users")
    def everyone(user: User = admin) -> dict[str, Any]:
        return {"users": [asdict(known) for known in users.everyone(store)]}

    @api.post("/users", status_code=201)
    def add(body: UserIn, user: User = admin) -> dict[str, Any]:
        return asdict(users.add(store, body.name, body.role, body.source))

    @api.post("/users/{name}/token", status_code=201)
    def token(name: str, user: User = admin) -> dict[str, Any]:
        return {"token": users.issue(store, _active(store, name).user_id, "api", "command line")}

    @api.post("/users/{name}/link", status_code=201)
    def link(name: str, user: User = admin) -> dict[str, Any]:
        return {"path": f"/sign-in?token={accounts.link(_active(store, name))}"}

    @api.post("/backup", status_code=201)
    def back_up(body: BackupIn, user: User = admin) -> dict[str, Any]:
        return {"files": backup(store, Path(body.out))}

    @api.post("/users/{name}/disable")
    def disable(name: str, user: User = admin) -> dict[str, Any]:
        named = users.named(store, name)
        if named.user_id == user.user_id:
            raise Conflict("You cannot disable yourself.")
        users.disable(store, named.user_id)
        return {"name": name, "active": False}


def _open_routes(router: APIRouter, desk: Desk, research: Research, version: str) -> None:
    @router.get("/healthz")
    def health() -> dict[str, Any]:
        champion = research.overview().champion
        return {
            "status": research.registry.server.state,
            "policy": champion.policy_id if champion else None,
            "version": version,
        }

    @router.get("/metrics", response_class=PlainTextResponse)
    def metrics() -> str:
        seen = research.overview()
        gauges = {
            "prefloop_policy_server_up": int(seen.server_state == "up"),
            "prefloop_picks": seen.picks,
            "prefloop_picks_since_round": seen.picks_since_round,
            "prefloop_ready_pairs": pairs.ready(desk.store),
            "prefloop_prompts": seen.prompts,
            "prefloop_policies": len(seen.policies),
        }
        return "".join(f"# TYPE {name} gauge\n{name} {value}\n" for name, value in gauges.items())


def overview_json(research: Research) -> dict[str, Any]:
    seen = research.overview()
    return {
        "server": seen.server_state,
        "server_note": seen.server_note,
        "picks": seen.picks,
        "policy": seen.champion.policy_id if seen.champion else None,
        "prompts": seen.prompts,
        "picks_since_last_run": seen.picks_since_round,
        "next_round": seen.next_round_in,
        "annotators": seen.annotators,
        "imported": seen.statistics["imported"],
        "agreement": seen.agreement,
        "ready_pairs": pairs.ready(research.store),
    }


def pair_json(pair: PairView) -> dict[str, Any]:
    return {
        "pair_id": pair.pair_id,
        "prompt": pair.prompt,
        "left": {"text": pair.left},
        "right": {"text": pair.right},
        "lease_expires": iso(pair.lease_expires),
    }


def policy_json(policy: Policy) -> dict[str, Any]:
    return asdict(policy) | {"created": iso(policy.created)}


def run_json(run: Run) -> dict[str, Any]:
    return asdict(run) | {"created": iso(run.created), "changed": iso(run.changed)}


def iso(moment: datetime) -> str:
    return moment.isoformat() + "Z"


def _utc(moment: datetime | None) -> datetime | None:
    """The store holds naive UTC; a moment without a zone is taken as UTC."""
    if moment is None or moment.tzinfo is None:
        return moment
    return moment.astimezone(UTC).replace(tzinfo=None)


def _active(store: Any, name: str) -> User:
    user = users.named(store, name)
    if not user.active:
        raise Conflict(f"{name} is disabled.")
    return user


async def _records(request: Request) -> Iterator[tuple[int, Any]]:
    """The values of a JSON list or of JSON lines, numbered from 1. Raises Invalid."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            raise HTTPException(
                413, {"code": "too_large", "message": f"At most {LARGEST_BODY >> 20} MiB at once."}
            )
    if body.lstrip().startswith(b"["):
        return enumerate(loads(bytes(body)), 1)
    return ((n, loads(line)) for n, line in enumerate(bytes(body).split(b"\n"), 1) if line.strip())


def _each(records: Iterator[tuple[int, Any]], parse: Callable[[Any], Any]) -> list[Any]:
    parsed = []
    for number, record in records:
        try:
            parsed.append(parse(record))
        except PrefloopError as error:
            raise Invalid(f"Row {number}: {error}. Nothing was imported.") from None
    if not parsed:
        raise Invalid("The request holds no rows.")
    return parsed
