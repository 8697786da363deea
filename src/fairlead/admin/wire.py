"""The seam between FastAPI and Fairlead's structs: they are read, written and described by msgspec alone.

So the OpenAPI document follows from the structs themselves, and JSON means the same as on the data plane:
no NaN, no unknown fields where a struct forbids them, and one message that names the place.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

__all__ = ["PROBLEM_JSON", "WIRE", "Json", "Problem", "StrictRoute", "describe"]

PROBLEM_JSON = "application/problem+json"
_MARK = "x-struct"


class Problem(msgspec.Struct, kw_only=True):
    """An RFC 9457 problem document. `code` is stable, `detail` says what happened, `remedy` what to do;
    `retryable` whether the same call can succeed later. Further members name the things it is about."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    remedy: str | None
    retryable: bool
    request_id: str | None


class _Wire:
    """Put into `Annotated[SomeStruct, WIRE]`, it lets FastAPI take and answer a msgspec struct."""

    def __init__(self) -> None:
        self.kinds: dict[str, type] = {}

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        kind: type = source
        if self.kinds.setdefault(kind.__name__, kind) is not kind:
            raise TypeError(f"two structs of the admin API are called {kind.__name__}")

        def read(value: Any) -> Any:
            if isinstance(value, kind):
                return value
            try:
                return msgspec.convert(value, kind)
            except msgspec.ValidationError as error:
                raise ValueError(str(error)) from error

        return core_schema.no_info_plain_validator_function(
            read,
            metadata={"struct": kind},
            serialization=core_schema.plain_serializer_function_ser_schema(msgspec.to_builtins),
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {_MARK: schema["metadata"]["struct"].__name__}


WIRE = _Wire()


class Json(JSONResponse):
    """JSON by msgspec: a float that is not finite becomes null instead of an error."""

    def render(self, content: Any) -> bytes:
        return msgspec.json.encode(content)


class _StrictRequest(Request):
    """A request whose body is JSON as the standard has it: without NaN, and without control characters."""

    async def json(self) -> Any:
        body = await self.body()
        try:
            return msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise json.JSONDecodeError(str(error), "", 0) from error


class StrictRoute(APIRoute):
    """A route that reads its body strictly."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return strictly


# --- the OpenAPI document -----------------------------------------------------------------------------------


def describe(app: FastAPI) -> None:
    """Makes `app.openapi` describe the structs by name, and problem documents as what errors answer."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
                tags=app.openapi_tags,
            )
            app.openapi_schema = _with_structs(document)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _with_structs(document: dict[str, Any]) -> dict[str, Any]:
    _, schemas = msgspec.json.schema_components(
        [*WIRE.kinds.values(), Problem], ref_template="#/components/schemas/{name}"
    )
    document["components"] = {"schemas": dict(sorted(schemas.items()))}
    refused = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for path in document["paths"].values():
        for operation in path.values():
            responses = operation["responses"]
            responses.pop("422", None)  # FastAPI's own form of refusal, which never leaves here
            responses["default"] = {"description": "Refused or failed.", "content": refused}
    resolved: dict[str, Any] = _resolved(document)
    return resolved


def _resolved(node: Any) -> Any:
    """The same document with marks replaced by references and docstrings without their indentation."""
    if isinstance(node, list):
        return [_resolved(part) for part in node]
    if not isinstance(node, dict):
        return node
    if _MARK in node:
        return {"$ref": f"#/components/schemas/{node[_MARK]}"}
    found = {name: _resolved(part) for name, part in node.items()}
    if isinstance(found.get("description"), str):
        found["description"] = inspect.cleandoc(found["description"])
    return found
