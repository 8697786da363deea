"""How the admin API refuses: every error is a problem document, by the table that the data plane uses too."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fairlead.admin.wire import PROBLEM_JSON, Json
from fairlead.errors import (
    FairleadError,
    MalformedRequest,
    MethodNotAllowed,
    PayloadTooLarge,
    RouteNotFound,
)
from fairlead.gateway.statuses import problem, status_of

__all__ = ["Edge", "refusals", "refuse_as_problems"]

logger = logging.getLogger(__name__)

_RETRY_SECONDS = "1"


def refusals(*classes: type[FairleadError]) -> dict[int | str, dict[str, Any]]:
    """For the OpenAPI document: the errors that a route answers, by status."""
    found: dict[int | str, dict[str, Any]] = {}
    for cls in classes:
        status = status_of(cls(""))
        said = f"`{cls.code}`: {(cls.__doc__ or '').splitlines()[0]}"
        before = found.get(status)
        found[status] = {
            "description": f"{before['description']}\n\n{said}" if before else said,
            "content": {PROBLEM_JSON: {"schema": {"x-struct": "Problem"}}},
        }
    return found


def refuse_as_problems(app: FastAPI) -> None:
    """Makes every error that a route raises a problem document; a traceback goes to the log alone."""

    @app.exception_handler(FairleadError)
    async def refuse(request: Request, error: FairleadError) -> Response:
        return _answer(request, error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return _answer(request, _malformed(error.errors()))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        if isinstance(error.__cause__, FairleadError):
            return _answer(request, error.__cause__)
        if error.status_code == 404:
            return _answer(request, RouteNotFound(f"There is no {request.url.path}.", remedy="See /docs."))
        if error.status_code == 405:
            allowed = (error.headers or {}).get("Allow", "")
            answer = _answer(
                request,
                MethodNotAllowed(f"{request.url.path} takes no {request.method}.", remedy=f"Use {allowed}."),
            )
            answer.headers["Allow"] = allowed
            return answer
        return _answer(request, MalformedRequest(f"The request cannot be read: {error.detail}."))

    @app.exception_handler(Exception)
    async def fail(request: Request, error: Exception) -> Response:
        logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return _answer(
            request,
            FairleadError("The server failed.", remedy="Look for the request id in the log of control."),
        )


class Edge:
    """What every request passes first: it gets an id, and a body above the limit is refused.

    The id is the caller's `X-Request-Id`, when it is visible ASCII, or a new one; it stands in every answer.
    """

    def __init__(self, app: ASGIApp, *, largest: int, large_paths: tuple[str, int]) -> None:
        self._app = app
        self._largest = largest
        self._large_prefix, self._large = large_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if given.isascii() and given.isprintable() and 0 < len(given) <= 200 else ""
        request_id = request_id or uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        limit = self._large if scope["path"].startswith(self._large_prefix) else self._largest
        too_large = PayloadTooLarge(
            f"The body is larger than {limit:,} bytes.", remedy="Send less, or raise the server's limit."
        )

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        received = 0

        async def receive_bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise too_large
            return message

        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > limit:
            await _answer(Request(scope), too_large)(scope, receive, send_named)
            return
        await self._app(scope, receive_bounded, send_named)


def _answer(request: Request, error: FairleadError) -> Response:
    status = status_of(error)
    headers = {"Retry-After": _RETRY_SECONDS} if status == 503 else None
    document = problem(error, getattr(request.state, "request_id", None))
    return Json(document, status_code=status, headers=headers, media_type=PROBLEM_JSON)


def _malformed(errors: Sequence[Any]) -> MalformedRequest:
    found = [
        {"where": ".".join(str(part) for part in error["loc"]), "rule": _rule(error)} for error in errors
    ]
    first = found[0]
    return MalformedRequest(
        f"{first['where']}: {first['rule']}.", remedy="See /docs for what the route takes.", errors=found
    )


def _rule(error: Any) -> str:
    if error["type"] == "json_invalid":
        return f"invalid JSON, {error['ctx']['error']}"
    return str(error["msg"]).removeprefix("Value error, ")
