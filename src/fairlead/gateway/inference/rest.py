"""The Open Inference Protocol over HTTP, under `/v2`. Errors are `{"error": "…"}`."""

from __future__ import annotations

from typing import Any

import msgspec

from fairlead.errors import FairleadError, MalformedRequest, NotSupported
from fairlead.gateway.asking import asked_by
from fairlead.gateway.compression import deflated, inflated
from fairlead.gateway.inference.codec import decode_request, encode_answer
from fairlead.gateway.inference.infer import infer, require_version_ready, version_arm
from fairlead.gateway.inference.metadata import (
    Outputs,
    model_config,
    model_metadata,
    server_metadata,
    statistics,
)
from fairlead.gateway.inference.repository import Repository
from fairlead.gateway.protocol import Request, response
from fairlead.gateway.routes import Match
from fairlead.gateway.statuses import status_of
from fairlead.serving.dataplane import DataPlane
from fairlead.serving.envelope import encode
from fairlead.serving.folder import DataFolder
from fairlead.serving.refresh import require_ready

__all__ = ["InferenceRest", "plain_error", "unsupported_extension"]

_OCTETS = b"application/octet-stream"
_JSON = b"application/json"
_RETRY = b"retry-after: 1\r\n"
_ELSEWHERE = ("systemsharedmemory", "cudasharedmemory", "trace", "logging")
_OF_MODELS = ("trace", "generate", "generate_stream")


class InferenceRest:
    """Answers the routes under `/v2`; bodies may come compressed, up to `body_bytes` when decompressed."""

    def __init__(
        self, plane: DataPlane, folder: DataFolder, repository: Repository, outputs: Outputs, body_bytes: int
    ) -> None:
        self._plane = plane
        self._folder = folder
        self._repository = repository
        self._outputs = outputs
        self._body_bytes = body_bytes
        self.handlers = {
            "v2_server": self._server,
            "v2_live": self._live,
            "v2_ready": self._ready,
            "v2_model": self._model,
            "v2_model_ready": self._model_ready,
            "v2_config": self._config,
            "v2_infer": self._infer,
            "v2_statistics": self._statistics,
            "v2_index": self._index,
            "v2_load": self._load,
            "v2_unload": self._unload,
        }

    async def _infer(self, request: Request, match: Match) -> bytes:
        model = self._plane.model(match[1])
        body = inflated(request.body, request.header(b"content-encoding"), self._body_bytes)
        asked = asked_by(request.text, request.received)
        read = decode_request(body, request.header(b"inference-header-content-length"))
        found = await infer(self._plane, model, match[2], read, asked)
        content, length = encode_answer(
            model.name,
            found.arm.version_name,
            read,
            {**found.parameters, **dict(found.provenance)},
            found.outputs,
        )
        lines = b"x-request-id: %b\r\n%b" % (found.request_id.encode(), found.arm.headers)
        if length is not None:
            lines += b"inference-header-content-length: %d\r\n" % length
        content, encoding = deflated(content, request.header(b"accept-encoding"))
        if encoding is not None:
            lines += b"content-encoding: %b\r\n" % encoding.encode()
        return response(200, content, lines, _JSON if length is None else _OCTETS)

    # --- what is here ---------------------------------------------------------------------------------------

    async def _server(self, request: Request, match: Match) -> bytes:
        return response(200, encode(server_metadata(repository=self._repository.control)))

    async def _live(self, request: Request, match: Match) -> bytes:
        return response(200, b'{"live":true}')

    async def _ready(self, request: Request, match: Match) -> bytes:
        require_ready(self._plane)
        return response(200, b'{"ready":true}')

    async def _model_ready(self, request: Request, match: Match) -> bytes:
        model = self._plane.model(match[1])
        require_version_ready(version_arm(model, match[2]))
        return response(200, encode({"name": model.name, "ready": True}))

    async def _model(self, request: Request, match: Match) -> bytes:
        model = self._plane.model(match[1])
        return response(200, encode(await model_metadata(model, match[2], self._outputs)))

    async def _config(self, request: Request, match: Match) -> bytes:
        model = self._plane.model(match[1])
        return response(200, encode(await model_config(model, match[2], self._outputs)))

    async def _statistics(self, request: Request, match: Match) -> bytes:
        named = [self._plane.model(match[1])] if match[1] else list(self._plane.models.values())
        found = statistics(self._folder.counters, named, match[2])
        return response(200, encode({"model_stats": found}))

    # --- the repository -------------------------------------------------------------------------------------

    async def _index(self, request: Request, match: Match) -> bytes:
        ready = _object(request.body).get("ready", False)
        if not isinstance(ready, bool):
            raise MalformedRequest("'ready' is neither true nor false.")
        return response(200, encode(self._repository.index(ready=ready)))

    async def _load(self, request: Request, match: Match) -> bytes:
        await self._repository.load(match[1], _parameters(request.body))
        return response(200, b"")

    async def _unload(self, request: Request, match: Match) -> bytes:
        self._repository.unload(match[1], _parameters(request.body))
        return response(200, b"")


def plain_error(error: FairleadError, request_id: str | None = None) -> bytes:
    """The error as these protocols have it: its words, the status, and nothing else."""
    status = status_of(error)
    lines = b"" if request_id is None else b"x-request-id: %b\r\n" % request_id.encode()
    if status in (429, 503):
        lines += _RETRY
    if status == 405:
        lines += b"allow: %b\r\n" % ", ".join(error.details.get("allowed", ())).encode()
    return response(status, encode({"error": str(error)}), lines)


def unsupported_extension(path: str) -> NotSupported | None:
    """Why a path of the protocol that has no route is not served; None when it is none of the protocol's."""
    parts = path.strip("/").split("/")
    if len(parts) > 1 and parts[1] in _ELSEWHERE:
        name = parts[1]
    elif len(parts) > 3 and parts[1] == "models" and (parts[3] in _OF_MODELS or parts[-1] in _OF_MODELS):
        name = parts[-1] if parts[-1] in _OF_MODELS else parts[3]
    else:
        return None
    return NotSupported(
        f"The extension {name!r} is not supported.", remedy="GET /v2 names the extensions that are."
    )


def _object(body: bytes) -> dict[str, Any]:
    """A body that may be empty, else a JSON object."""
    if not body:
        return {}
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedRequest(
            f"The body is no JSON object: {error}.", remedy="Send an object, or nothing."
        ) from error


def _parameters(body: bytes) -> dict[str, Any]:
    parameters = _object(body).get("parameters", {})
    if not isinstance(parameters, dict):
        raise MalformedRequest("'parameters' is no JSON object.")
    return parameters
