"""The routes of training runs: plan one, queue it, steer it, watch it. For researchers."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from annotate.api_guard import Guard
from annotate.api_json import PlanIn, RunIn
from annotate.training_room import TrainingRoom
from store.rows import User


def add_run_routes(api: APIRouter, room: TrainingRoom, needs: Guard) -> None:
    _plan_routes(api, room, needs)
    _steer_routes(api, room, needs)
    _look_routes(api, room, needs)


def _plan_routes(api: APIRouter, room: TrainingRoom, needs: Guard) -> None:
    researcher = Depends(needs("researcher"))

    @api.get("/runs/settings/{kind}")
    def settings(kind: str, user: User = researcher) -> dict[str, Any]:
        """Defaults are the preset for the base and the picks that there are now."""
        return room.form(kind)

    @api.post("/runs/preview")
    def preview(body: PlanIn, user: User = researcher) -> dict[str, Any]:
        return room.preview(body.kind, body.set)

    @api.post("/runs", status_code=202)
    def start(body: RunIn, user: User = researcher) -> dict[str, Any]:
        return {"run_id": room.start(body.kind, user.user_id, body.set, body.repeat_of)}


def _steer_routes(api: APIRouter, room: TrainingRoom, needs: Guard) -> None:
    researcher = Depends(needs("researcher"))

    @api.post("/runs/{run_id}/pause", status_code=202)
    def pause(run_id: str, user: User = researcher) -> dict[str, Any]:
        room.pause(run_id)
        return {"run_id": run_id}

    @api.post("/runs/{run_id}/resume", status_code=202)
    def resume(run_id: str, user: User = researcher) -> dict[str, Any]:
        room.resume(run_id)
        return {"run_id": run_id}

    @api.post("/runs/{run_id}/cancel", status_code=202)
    def cancel(run_id: str, user: User = researcher) -> dict[str, Any]:
        room.cancel(run_id)
        return {"run_id": run_id}

    @api.post("/runs/{run_id}/repeat", status_code=202)
    def repeat(run_id: str, user: User = researcher) -> dict[str, Any]:
        """`run_id` of the answer is the new run."""
        return {"run_id": room.start(None, user.user_id, {}, run_id)}


def _look_routes(api: APIRouter, room: TrainingRoom, needs: Guard) -> None:
    researcher = Depends(needs("researcher"))

    @api.get("/runs")
    def newest(
        limit: Annotated[int, Query(ge=1, le=1000)] = 50, user: User = researcher
    ) -> dict[str, Any]:
        return room.listed(limit)

    @api.get("/runs/{run_id}")
    def one(run_id: str, user: User = researcher) -> dict[str, Any]:
        return room.one(run_id)

    @api.get("/runs/{run_id}/progress")
    def progress(
        run_id: str, after: Annotated[int, Query(ge=0)] = 0, user: User = researcher
    ) -> dict[str, Any]:
        return room.progress(run_id, after)

    @api.get("/runs/{run_id}/samples")
    def samples(run_id: str, user: User = researcher) -> dict[str, Any]:
        return {"samples": room.samples(run_id)}

    @api.get("/runs/{run_id}/log")
    def log(
        run_id: str, lines: Annotated[int, Query(ge=1, le=2000)] = 200, user: User = researcher
    ) -> dict[str, Any]:
        return {"log": room.log(run_id, lines)}
