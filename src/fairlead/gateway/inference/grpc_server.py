"""The Open Inference Protocol over gRPC, with Triton's extensions and gRPC's health check.

One server per gateway worker, in the worker's event loop; the workers share the port (SO_REUSEPORT). Imported
only by gateways that have a gRPC port.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any

from google.protobuf.message import DecodeError

from fairlead.errors import FairleadError, MalformedRequest, NotReady, NotSupported, PortInUse, RuntimeFailed
from fairlead.gateway.asking import Asked
from fairlead.gateway.faces import Faces
from fairlead.gateway.inference.grpc_calls import Call, GrpcConnection, StreamCall
from fairlead.gateway.inference.grpc_codec import decode_message, encode_message, plain_parameters
from fairlead.gateway.inference.grpc_opening import Method
from fairlead.gateway.inference.infer import infer, require_version_ready, version_arm
from fairlead.gateway.inference.messages import HEALTH_SERVICE, INFERENCE_SERVICE, message
from fairlead.gateway.inference.metadata import model_config, model_metadata, server_metadata, statistics
from fairlead.gateway.limits import Limits, watch_for_the_vanished
from fairlead.gateway.statuses import status_of
from fairlead.serving.dataplane import DataPlane
from fairlead.serving.folder import DataFolder
from fairlead.serving.refresh import require_ready

__all__ = ["GrpcServer"]

logger = logging.getLogger(__name__)

_INTERNAL = 13
_CODES = {
    400: 3,  # INVALID_ARGUMENT
    401: 16,  # UNAUTHENTICATED
    403: 7,  # PERMISSION_DENIED
    404: 5,  # NOT_FOUND
    405: 9,  # FAILED_PRECONDITION
    409: 9,
    413: 8,  # RESOURCE_EXHAUSTED
    429: 8,
    499: 1,  # CANCELLED
    501: 12,  # UNIMPLEMENTED
    503: 14,  # UNAVAILABLE
    504: 4,  # DEADLINE_EXCEEDED
}
"""gRPC's statuses for those of HTTP."""
_UNSUPPORTED = (
    "SystemSharedMemoryStatus", "SystemSharedMemoryRegister", "SystemSharedMemoryUnregister",
    "CudaSharedMemoryStatus", "CudaSharedMemoryRegister", "CudaSharedMemoryUnregister", "TraceSetting",
    "LogSettings",
)  # fmt: skip
_TYPES = (
    "INVALID", "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16",
    "FP32", "FP64", "STRING", "BF16",
)  # fmt: skip
"""The places are the numbers of Triton's `DataType`."""
_SERVING, _NOT_SERVING = 1, 2
_WATCH_SECONDS = 0.5
_BACKLOG = 2_048

Handler = Callable[[Any], Coroutine[Any, Any, Any]]


class GrpcServer:
    """The server of one gateway worker. `start` binds, `stop` lets answers under way leave.

    It is what all its connections share (`grpc_calls.Service`).
    """

    def __init__(self, plane: DataPlane, folder: DataFolder, faces: Faces, limits: Limits) -> None:
        self._plane = plane
        self._folder = folder
        self._outputs = faces.outputs
        self._repository = faces.repository
        self._connections: dict[GrpcConnection, None] = {}
        self._listening: asyncio.Server | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self._request = message("ModelInferRequest").FromString
        self.turns = plane.turns
        self.limits = limits
        self.calls = self.held = 0
        self.methods = {
            **{f"/{INFERENCE_SERVICE}/{name}": method for name, method in self._inference_methods().items()},
            **{f"/{HEALTH_SERVICE}/{name}": method for name, method in self._health_methods().items()},
        }

    async def start(self, host: str, port: int) -> None:
        """Answers on that port from now on; raises `PortInUse`."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            listener = socket.create_server(
                (host, port), family=family, backlog=_BACKLOG, reuse_port=True, dualstack_ipv6=host == "::"
            )
        except OSError as error:
            raise PortInUse(
                f"Cannot listen on {host}:{port} for gRPC.",
                remedy="Choose another port with --grpc-port; 0 switches gRPC off.",
                port=port,
            ) from error
        watch_for_the_vanished(listener, self.limits)
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(
            lambda: GrpcConnection(self), sock=listener, backlog=_BACKLOG
        )
        self._sweeping = loop.create_task(self._sweep())

    async def stop(self, seconds: float) -> None:
        """Takes no more calls, and ends once those under way have their answers or the time is up."""
        if self._listening is not None:
            self._listening.close()
        until = time.perf_counter() + seconds
        for connection in list(self._connections):
            connection.leave()
        while True:
            if not self._connections or time.perf_counter() > until:
                break
            await asyncio.sleep(0.01)
        if self._sweeping is not None:
            self._sweeping.cancel()
        for connection in list(self._connections):
            connection.abort()

    # --- for the connections --------------------------------------------------------------------------------

    def admits(self, connection: GrpcConnection) -> bool:
        """Takes a connection in; when all places are taken, in that of the oldest that has no calls."""
        if len(self._connections) >= self.limits.connections:
            idle = next((each for each in self._connections if not each.streams), None)
            if idle is None:
                return False
            self.lost(idle)
            idle.dismiss()
        self._connections[connection] = None
        return True

    def lost(self, connection: GrpcConnection) -> None:
        """A connection has ended."""
        self._connections.pop(connection, None)

    def failure(self, error: Exception) -> tuple[int, str]:
        """gRPC's status and message for an error."""
        known = _as_fairlead(error)
        return _CODES.get(status_of(known), _INTERNAL), str(known)

    async def _sweep(self) -> None:
        """Ends what takes too long: greetings, incomplete messages, and callers who read nothing."""
        limits = self.limits
        while True:
            await asyncio.sleep(min(1.0, limits.request_seconds / 4, limits.write_seconds / 4))
            now = time.perf_counter()
            for connection in list(self._connections):
                connection.look_after(now)

    def _inference_methods(self) -> dict[str, Method]:
        unary: dict[str, Handler] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._model_statistics,
            "RepositoryIndex": self._repository_index,
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
        }
        found = {name: _unary(message(f"{name}Request"), handler) for name, handler in unary.items()}
        found["ModelInfer"] = Method(self._model_infer)
        found["ModelStreamInfer"] = Method(self._stream_infer, streams=True)
        for name in _UNSUPPORTED:
            found[name] = Method(_refuse_extension)
        return found

    def _health_methods(self) -> dict[str, Method]:
        return {
            "Check": _unary(message("HealthCheckRequest", "grpc.health.v1"), self._check),
            "Watch": Method(self._watch, streams=True),
        }

    # --- predictions ----------------------------------------------------------------------------------------

    async def _model_infer(self, raw: bytes, call: Call) -> bytes:
        asked = call.opening.received(time.perf_counter(), call.since)
        return await self._infer(_parsed(self._request, raw), asked)

    async def _stream_infer(self, call: StreamCall) -> None:
        answer = message("ModelStreamInferResponse")
        async for raw in call.messages():
            request = _parsed(self._request, raw)
            try:
                asked = call.opening.received(time.perf_counter(), call.since)
                made = answer()
                made.infer_response.MergeFromString(await self.turns.follow(self._infer(request, asked)))
            except Exception as error:
                made = answer(error_message=str(_as_fairlead(error)))
                made.infer_response.model_name = request.model_name
                made.infer_response.model_version = request.model_version
                made.infer_response.id = request.id
            await call.say(made.SerializeToString())

    async def _infer(self, request: Any, asked: Asked) -> bytes:
        model = self._plane.model(request.model_name)
        read = decode_message(request)
        found = await infer(self._plane, model, request.model_version, read, asked)
        return encode_message(model.name, read, found)

    # --- what is here ---------------------------------------------------------------------------------------

    async def _server_live(self, request: Any) -> Any:
        return message("ServerLiveResponse")(live=True)

    async def _server_ready(self, request: Any) -> Any:
        return message("ServerReadyResponse")(ready=self._is_ready())

    async def _model_ready(self, request: Any) -> Any:
        ready = True
        try:
            require_version_ready(version_arm(self._plane.model(request.name), request.version))
        except NotReady:
            ready = False
        return message("ModelReadyResponse")(ready=ready)

    async def _server_metadata(self, request: Any) -> Any:
        return message("ServerMetadataResponse")(**server_metadata(repository=self._repository.control))

    async def _model_metadata(self, request: Any) -> Any:
        model = self._plane.model(request.name)
        found = await model_metadata(model, request.version, self._outputs)
        return message("ModelMetadataResponse")(**found)

    async def _model_config(self, request: Any) -> Any:
        model = self._plane.model(request.name)
        found = await model_config(model, request.version, self._outputs)
        del found["version_policy"]
        for part in ("input", "output"):
            found[part] = [
                {**tensor, "data_type": _TYPES.index(tensor["data_type"].removeprefix("TYPE_"))}
                for tensor in found[part]
            ]
        return message("ModelConfigResponse")(config=found)

    async def _model_statistics(self, request: Any) -> Any:
        models = [self._plane.model(request.name)] if request.name else list(self._plane.models.values())
        found = statistics(self._folder.counters, models, request.version)
        for one in found:
            del one["batch_stats"]
        return message("ModelStatisticsResponse")(model_stats=found)

    # --- the repository -------------------------------------------------------------------------------------

    async def _repository_index(self, request: Any) -> Any:
        return message("RepositoryIndexResponse")(models=self._repository.index(ready=request.ready))

    async def _load(self, request: Any) -> Any:
        await self._repository.load(request.model_name, plain_parameters(request.parameters))
        return message("RepositoryModelLoadResponse")()

    async def _unload(self, request: Any) -> Any:
        self._repository.unload(request.model_name, plain_parameters(request.parameters))
        return message("RepositoryModelUnloadResponse")()

    # --- health ---------------------------------------------------------------------------------------------

    async def _check(self, request: Any) -> Any:
        return message("HealthCheckResponse", "grpc.health.v1")(status=self._status(request.service))

    async def _watch(self, call: StreamCall) -> None:
        kinds = (message(f"HealthCheck{name}", "grpc.health.v1") for name in ("Request", "Response"))
        request, answer = kinds
        async for raw in call.messages():
            service = _parsed(request.FromString, raw).service
            last = None
            while True:
                try:
                    status = self._status(service)
                except FairleadError:
                    status = 3  # SERVICE_UNKNOWN: a watcher waits until there is one
                if status != last:
                    last = status
                    await call.say(answer(status=status).SerializeToString())
                await asyncio.sleep(_WATCH_SECONDS)

    def _status(self, service: str) -> int:
        """The health of the server, or of one model where `service` is its name; raises `ModelNotFound`."""
        if service in ("", INFERENCE_SERVICE):
            return _SERVING if self._is_ready() else _NOT_SERVING
        model = self._plane.model(service)
        try:
            require_version_ready(version_arm(model, ""))
        except NotReady:
            return _NOT_SERVING
        return _SERVING

    def _is_ready(self) -> bool:
        try:
            require_ready(self._plane)
        except NotReady:
            return False
        return True


def _unary(request: Any, handler: Handler) -> Method:
    async def answer(raw: bytes, _: Call) -> bytes:
        made = await handler(_parsed(request.FromString, raw))
        return made.SerializeToString()  # type: ignore[no-any-return]

    return Method(answer)


def _parsed(parse: Callable[[bytes], Any], raw: bytes) -> Any:
    try:
        return parse(raw)
    except DecodeError as error:
        raise MalformedRequest(f"The message cannot be read: {error}.") from error


async def _refuse_extension(raw: bytes, call: Call) -> bytes:
    raise NotSupported(
        "That extension is not supported.", remedy="ServerMetadata names the extensions that are."
    )


def _as_fairlead(error: Exception) -> FairleadError:
    if isinstance(error, FairleadError):
        return error
    logger.error("a gRPC call failed", exc_info=error)
    return RuntimeFailed("Something failed inside the gateway.")
