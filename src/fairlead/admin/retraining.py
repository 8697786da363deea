"""Retraining: when models are trained anew, and how those that were begun stand."""

from __future__ import annotations

from typing import Annotated

import msgspec
from anyio import to_thread
from fastapi import APIRouter, Body, Depends, Header, Query, Request
from fastapi.responses import FileResponse, PlainTextResponse

from fairlead.admin.callers import Who
from fairlead.admin.problems import refusals
from fairlead.admin.schemas import Why
from fairlead.admin.wire import WIRE, StrictRoute
from fairlead.errors import (
    Forbidden,
    InvalidRetraining,
    ModelNotFound,
    RetrainingNotFound,
    RetrainingRefused,
    VersionNotFound,
)
from fairlead.retraining.job import Job
from fairlead.retraining.policy import Policy
from fairlead.retraining.runner import Retraining, Trigger
from fairlead.retraining.triggers import Cause

__all__ = ["retraining_routes"]


class RetrainingStart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Retrain the model as the server's settings say, now. `force` goes past cooldown and budget."""

    why: Why = ""
    force: bool = False


class RetrainingCancel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """End a retraining."""

    why: Why = ""


class RetrainingResult(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a trainer elsewhere hands in: the version that it has registered, or what went wrong."""

    version: str | None = None
    error: str | None = None


class TriggerView(msgspec.Struct, frozen=True, kw_only=True):
    """When a model is retrained, and what that waits for: `sentence`. `cause` is what asks for it now, `job`
    the retraining that is under way."""

    model: str
    policy: Policy
    sentence: str
    cause: Cause | None
    job: str | None


class RetrainingView(Job, frozen=True, kw_only=True):
    """A retraining, and how it stands in a sentence."""

    told: str


_ONE = refusals(ModelNotFound, RetrainingNotFound)
_BEARER = "Bearer "


def _token(
    authorization: Annotated[
        str, Header(description="`Bearer` and the job's own token, which its webhook was told.")
    ] = "",
) -> str:
    return authorization.removeprefix(_BEARER) if authorization.startswith(_BEARER) else ""


_Token = Annotated[str, Depends(_token)]
_BY_TOKEN = (RetrainingNotFound, Forbidden, RetrainingRefused)


def retraining_routes(runner: Retraining) -> APIRouter:
    """The routes about triggers and retrainings. Trainers are never sent: the server's settings name them."""
    routes = APIRouter(tags=["retraining"], route_class=StrictRoute)

    @routes.get("/triggers", summary="What would retrain models")
    def list_triggers() -> list[Annotated[TriggerView, WIRE]]:
        """All models that the settings name, and what each waits for."""
        return [_trigger(one) for one in runner.triggers()]

    @routes.get(
        "/models/{model}/triggers", summary="What would retrain a model", responses=refusals(ModelNotFound)
    )
    def list_model_triggers(model: str) -> list[Annotated[TriggerView, WIRE]]:
        """The model's policy and what it waits for; none when the settings do not name the model."""
        return [_trigger(one) for one in runner.triggers(model)]

    @routes.post(
        "/models/{model}/retrainings",
        status_code=202,
        summary="Retrain a model",
        responses=refusals(ModelNotFound, InvalidRetraining, RetrainingRefused),
    )
    def retrain(
        model: str, who: Who, body: Annotated[Annotated[RetrainingStart, WIRE] | None, Body()] = None
    ) -> Annotated[RetrainingView, WIRE]:
        """Begins a retraining. It goes on by itself: rows from the log, the trainer, the gate, a rollout."""
        asked = body or RetrainingStart()
        return _view(runner.ask(model, who=who, why=asked.why, force=asked.force))

    @routes.get(
        "/models/{model}/retrainings", summary="A model's retrainings", responses=refusals(ModelNotFound)
    )
    def list_retrainings(
        model: str, limit: Annotated[int, Query(ge=1, le=1_000)] = 20
    ) -> list[Annotated[RetrainingView, WIRE]]:
        """The newest first."""
        return [_view(job) for job in runner.jobs(model, limit)]

    @routes.get("/models/{model}/retrainings/{retraining}", summary="One retraining", responses=_ONE)
    def get_retraining(model: str, retraining: str) -> Annotated[RetrainingView, WIRE]:
        """How it stands."""
        return _view(runner.job(model, retraining))

    @routes.get(
        "/models/{model}/retrainings/{retraining}/log",
        summary="What a trainer has said",
        response_class=PlainTextResponse,
        responses=_ONE,
    )
    def get_retraining_log(model: str, retraining: str) -> PlainTextResponse:
        """Its output so far, bounded: the beginning and the end."""
        return PlainTextResponse(runner.log(model, retraining))

    @routes.get(
        "/models/{model}/retrainings/{retraining}/data",
        summary="The rows that a trainer gets",
        response_class=FileResponse,
        responses=refusals(*_BY_TOKEN),
    )
    def get_retraining_data(model: str, retraining: str, token: _Token) -> FileResponse:
        """Labelled rows as Parquet, while the trainer works; for one that a webhook has begun elsewhere."""
        path = runner.handing.data(model, retraining, token)
        return FileResponse(path, media_type="application/vnd.apache.parquet")

    @routes.post(
        "/models/{model}/retrainings/{retraining}/log",
        summary="Say how a trainer elsewhere fares",
        responses=refusals(*_BY_TOKEN),
        openapi_extra={
            "requestBody": {"required": True, "content": {"text/plain": {"schema": {"type": "string"}}}}
        },
    )
    async def add_to_retraining_log(
        model: str, retraining: str, token: _Token, request: Request
    ) -> Annotated[RetrainingView, WIRE]:
        """Adds the body to the retraining's log."""
        words = await request.body()
        return _view(await to_thread.run_sync(runner.handing.say, model, retraining, token, words))

    @routes.post(
        "/models/{model}/retrainings/{retraining}/result",
        summary="Hand in what a trainer elsewhere has made",
        responses=refusals(*_BY_TOKEN, InvalidRetraining, VersionNotFound),
    )
    def hand_in_retraining(
        model: str, retraining: str, token: _Token, body: Annotated[RetrainingResult, WIRE, Body()]
    ) -> Annotated[RetrainingView, WIRE]:
        """The trainer has ended: its version is gated next, or the retraining has failed. The same once more
        changes nothing and is answered alike."""
        return _view(runner.handing.hand_in(model, retraining, token, version=body.version, error=body.error))

    @routes.post(
        "/models/{model}/retrainings/{retraining}/cancel",
        summary="Cancel a retraining",
        responses=refusals(ModelNotFound, RetrainingNotFound, RetrainingRefused),
    )
    def cancel_retraining(
        model: str,
        retraining: str,
        who: Who,
        body: Annotated[Annotated[RetrainingCancel, WIRE] | None, Body()] = None,
    ) -> Annotated[RetrainingView, WIRE]:
        """Ends it before its rollout begins; its trainer is stopped."""
        why = (body or RetrainingCancel()).why
        return _view(runner.cancel(model, retraining, who=who, why=why))

    return routes


def _trigger(found: Trigger) -> TriggerView:
    return TriggerView(
        model=found.policy.model,
        policy=found.policy,
        sentence=found.decision.sentence,
        cause=found.decision.cause,
        job=None if found.job is None else found.job.id,
    )


def _view(job: Job) -> RetrainingView:
    return RetrainingView(**msgspec.structs.asdict(job), told=job.sentence)
