"""The HTTP API: `/api/v1` for programs and our own commands; `/healthz` and `/metrics` outside.

Every route names the role it needs. Handlers are plain functions, so the framework runs them in its
thread pool and a slow one holds up nobody. Data routes are in api_data.py, users and
accounts in api_accounts.py.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import PlainTextResponse

from annotate.accounts import Accounts
from annotate.api_accounts import add_account_routes
from annotate.api_data import add_data_routes
from annotate.api_desk import add_desk_routes
from annotate.api_guard import Guard, guard
from annotate.api_json import (
    JudgmentIn,
    NextIn,
    PairKind,
    SampleIn,
    iso,
    judgment_of,
    naive_utc,
    overview_json,
    pair_json,
    policy_json,
)
from annotate.api_pools import add_pool_routes
from annotate.api_runs import add_run_routes
from annotate.desk import Desk
from annotate.progress import Kept
from annotate.research import Research
from store import judgments, pairs, prompts, users
from store.rows import NotFound, User
from train.policy.client import Sampling

SOON = {"Retry-After": "1"}  # seconds
METRICS_S = 2.0  # that the gauges are kept


def api_router(desk: Desk, research: Research, accounts: Accounts, version: str) -> APIRouter:
    """All routes; the services are the same that the pages call."""
    router = APIRouter()
    needs = guard(accounts)
    api = APIRouter(prefix="/api/v1")
    _annotator_routes(api, desk, research, needs)
    add_desk_routes(api, desk, needs)
    _policy_routes(api, research, needs)
    add_run_routes(api, research.room, needs)
    add_data_routes(api, research.store, needs)
    add_account_routes(api, accounts, needs)
    add_pool_routes(api, desk, needs)
    router.include_router(api)
    _open_routes(router, desk, research, version)
    return router


def _annotator_routes(api: APIRouter, desk: Desk, research: Research, needs: Guard) -> None:
    annotator = Depends(needs("annotator"))

    @api.post("/pairs/next", response_model=None)
    def next_pair(body: NextIn | None = None, user: User = annotator) -> dict[str, Any] | Response:
        lease = desk.next_lease(user, (body or NextIn()).kinds)
        return pair_json(lease) if lease else Response(status_code=204, headers=SOON)

    @api.post("/judgments", status_code=201)
    def judge(
        body: JudgmentIn,
        response: Response,
        next: bool = False,  # noqa: A002 - with the next pair, as the page gets it
        kinds: Annotated[list[PairKind] | None, Query()] = None,
        user: User = annotator,
    ) -> dict[str, Any]:
        new = judgment_of(body)
        more: dict[str, Any] = {}
        if next:
            stored, lease = desk.judge(user, new, kinds or NextIn().kinds)
            more = {"next": pair_json(lease) if lease else None}
        else:
            stored = desk.judge_only(user, new)
        if not stored:
            response.status_code = 200
        return {"id": body.id, "stored": stored} | more

    @api.delete("/judgments/{judgment_id}")
    def retract(judgment_id: str, user: User = annotator) -> dict[str, Any]:
        """`reopened`: whether the author has the pair on screen again."""
        reopened = desk.retract(user, judgment_id)
        return {"id": judgment_id, "retracted": True, "reopened": reopened}

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
        found = judgments.search(desk.store, whose, naive_utc(since), max(1, min(limit, 10_000)))
        return {"judgments": [row | {"created": iso(row["created"])} for row in found]}

    @api.get("/stats")
    def stats(user: User = annotator) -> dict[str, Any]:
        """Own numbers for everybody; those of the whole loop for researchers."""
        own = {"own": asdict(desk.progress.own(user.user_id))}
        if not user.may("researcher"):
            return own
        return own | overview_json(research) | {"buffer": asdict(desk.sampler.buffer())}


def _policy_routes(api: APIRouter, research: Research, needs: Guard) -> None:
    researcher = Depends(needs("researcher"))  # blind: policies are not an annotator's business

    @api.get("/policies")
    def everyone(user: User = researcher) -> dict[str, Any]:
        return {"policies": [policy_json(p) for p in research.overview().policies]}

    @api.get("/policies/current")
    def current(user: User = researcher) -> dict[str, Any]:
        champion = research.champion()
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
        shown = [{"text": answer.text, "finish_reason": answer.finish_reason} for answer in answers]
        return {"completions": shown}

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


def _open_routes(router: APIRouter, desk: Desk, research: Research, version: str) -> None:
    @router.get("/healthz")
    def health() -> dict[str, Any]:
        """For monitors, so it reads next to nothing. Which policy serves says nothing about a side:
        both sides of a pair come from one policy."""
        champion = research.champion()
        return {
            "status": research.registry.server.state,
            "policy": champion.policy_id if champion else None,
            "version": version,
        }

    kept: Kept[str] = Kept(METRICS_S)

    @router.get("/metrics", response_class=PlainTextResponse)
    def metrics() -> str:
        """Anybody may ask as often as they like: all that ask at once read the store once."""
        return kept.get("metrics", gauges)

    def gauges() -> str:
        seen = research.overview()
        values = {
            "prefloop_policy_server_up": int(seen.server_state == "up"),
            "prefloop_picks": seen.picks,
            "prefloop_picks_since_round": seen.picks_since_round,
            "prefloop_ready_pairs": pairs.ready(desk.store),
            "prefloop_prompts": seen.prompts,
            "prefloop_policies": len(seen.policies),
        }
        return "".join(f"# TYPE {name} gauge\n{name} {value}\n" for name, value in values.items())
