"""The Open Inference Protocol over gRPC, with Triton's extensions and gRPC's health check.

One server per gateway worker, in the worker's event loop; the workers share the port (SO_REUSEPORT). Imported
only by gateways that have a gRPC port.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio

from fairlead.errors import FairleadError, NotReady, NotSupported, PortInUse, RuntimeFailed
from fairlead.gateway.asking import Asked, asked_by
from fairlead.gateway.faces import Faces
from fairlead.gateway.inference.grpc_codec import decode_message, encode_message, plain_parameters
from fairlead.gateway.inference.messages import HEALTH_SERVICE, INFERENCE_SERVICE, message
from fairlead.gateway.inference.metadata import model_config, model_metadata, server_metadata, statistics
from fairlead.gateway.inference.service import infer, require_version_ready, version_arm
from fairlead.gateway.statuses import status_of
from fairlead.serving.dataplane import DataPlane
from fairlead.serving.folder import DataFolder
from fairlead.serving.refresh import require_ready

__all__ = ["GrpcServer"]

logger = logging.getLogger(__name__)

_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    405: grpc.StatusCode.FAILED_PRECONDITION,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    499: grpc.StatusCode.CANCELLED,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
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


class GrpcServer:
    """The server of one gateway worker. `start` binds, `stop` lets answers under way leave."""

    def __init__(
        self,
        plane: DataPlane,
        folder: DataFolder,
        faces: Faces,
        *,
        body_bytes: int,
        header_bytes: int,
        calls: int,
    ) -> None:
        self._plane = plane
        self._folder = folder
        self._outputs = faces.outputs
        self._repository = faces.repository
        self._server = grpc.aio.server(
            maximum_concurrent_rpcs=calls,
            options=[
                ("grpc.so_reuseport", 1),
                ("grpc.max_receive_message_length", body_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_metadata_size", header_bytes),
            ],
        )
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(INFERENCE_SERVICE, self._inference_methods()),
                grpc.method_handlers_generic_handler(HEALTH_SERVICE, self._health_methods()),
            )
        )

    async def start(self, host: str, port: int) -> None:
        """Answers on that port from now on; raises `PortInUse`."""
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise PortInUse(
                f"Cannot listen on {address} for gRPC.",
                remedy="Choose another port with --grpc-port; 0 switches gRPC off.",
                port=port,
            ) from error
        await self._server.start()

    async def stop(self, seconds: float) -> None:
        """Takes no more calls, and ends once those under way have their answers or the time is up."""
        await self._server.stop(seconds)

    def _inference_methods(self) -> dict[str, grpc.RpcMethodHandler]:
        unary = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._model_infer,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._model_statistics,
            "RepositoryIndex": self._repository_index,
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
        }
        found = {name: _unary(f"{name}Request", _guarded(method)) for name, method in unary.items()}
        found["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(
            self._stream_infer,
            request_deserializer=message("ModelInferRequest").FromString,
            response_serializer=_serialized,
        )
        for name in _UNSUPPORTED:
            found[name] = grpc.unary_unary_rpc_method_handler(_guarded(_refuse_extension))
        return found

    def _health_methods(self) -> dict[str, grpc.RpcMethodHandler]:
        request = message("HealthCheckRequest", "grpc.health.v1").FromString
        return {
            "Check": grpc.unary_unary_rpc_method_handler(
                _guarded(self._check), request_deserializer=request, response_serializer=_serialized
            ),
            "Watch": grpc.unary_stream_rpc_method_handler(
                self._watch, request_deserializer=request, response_serializer=_serialized
            ),
        }

    # --- predictions ----------------------------------------------------------------------------------------

    async def _model_infer(self, request: Any, context: Any) -> bytes:
        return await self._infer(request, _asked(context))

    async def _stream_infer(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        answer = message("ModelStreamInferResponse")
        async for request in requests:
            try:
                made = answer()
                made.infer_response.MergeFromString(await self._infer(request, _asked(context)))
                yield made
            except Exception as error:
                failed = answer(error_message=str(_as_fairlead(error, "ModelStreamInfer")))
                failed.infer_response.model_name = request.model_name
                failed.infer_response.model_version = request.model_version
                failed.infer_response.id = request.id
                yield failed

    async def _infer(self, request: Any, asked: Asked) -> bytes:
        model = self._plane.model(request.model_name)
        read = decode_message(request)
        found = await self._plane.turns.follow(infer(self._plane, model, request.model_version, read, asked))
        return encode_message(model.name, read, found)

    # --- what is here ---------------------------------------------------------------------------------------

    async def _server_live(self, request: Any, context: Any) -> Any:
        return message("ServerLiveResponse")(live=True)

    async def _server_ready(self, request: Any, context: Any) -> Any:
        return message("ServerReadyResponse")(ready=self._is_ready())

    async def _model_ready(self, request: Any, context: Any) -> Any:
        ready = True
        try:
            require_version_ready(version_arm(self._plane.model(request.name), request.version))
        except NotReady:
            ready = False
        return message("ModelReadyResponse")(ready=ready)

    async def _server_metadata(self, request: Any, context: Any) -> Any:
        return message("ServerMetadataResponse")(**server_metadata(repository=self._repository.control))

    async def _model_metadata(self, request: Any, context: Any) -> Any:
        model = self._plane.model(request.name)
        found = await model_metadata(model, request.version, self._outputs)
        return message("ModelMetadataResponse")(**found)

    async def _model_config(self, request: Any, context: Any) -> Any:
        model = self._plane.model(request.name)
        found = await model_config(model, request.version, self._outputs)
        del found["version_policy"]
        for part in ("input", "output"):
            found[part] = [
                {**tensor, "data_type": _TYPES.index(tensor["data_type"].removeprefix("TYPE_"))}
                for tensor in found[part]
            ]
        return message("ModelConfigResponse")(config=found)

    async def _model_statistics(self, request: Any, context: Any) -> Any:
        models = [self._plane.model(request.name)] if request.name else list(self._plane.models.values())
        found = statistics(self._folder.counters, models, request.version)
        for one in found:
            del one["batch_stats"]
        return message("ModelStatisticsResponse")(model_stats=found)

    # --- the repository -------------------------------------------------------------------------------------

    async def _repository_index(self, request: Any, context: Any) -> Any:
        return message("RepositoryIndexResponse")(models=self._repository.index(ready=request.ready))

    async def _load(self, request: Any, context: Any) -> Any:
        await self._repository.load(request.model_name, plain_parameters(request.parameters))
        return message("RepositoryModelLoadResponse")()

    async def _unload(self, request: Any, context: Any) -> Any:
        self._repository.unload(request.model_name, plain_parameters(request.parameters))
        return message("RepositoryModelUnloadResponse")()

    # --- health ---------------------------------------------------------------------------------------------

    async def _check(self, request: Any, context: Any) -> Any:
        return message("HealthCheckResponse", "grpc.health.v1")(status=self._status(request.service))

    async def _watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        last = None
        while True:
            try:
                status = self._status(request.service)
            except FairleadError:
                status = 3  # SERVICE_UNKNOWN: a watcher waits until there is one
            if status != last:
                last = status
                yield message("HealthCheckResponse", "grpc.health.v1")(status=status)
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


Method = Callable[[Any, Any], Any]


def _unary(request: str, method: Method) -> grpc.RpcMethodHandler:
    return grpc.unary_unary_rpc_method_handler(
        method, request_deserializer=message(request).FromString, response_serializer=_serialized
    )


def _serialized(answer: Any) -> bytes:
    raw: bytes = answer if type(answer) is bytes else answer.SerializeToString()
    return raw


def _guarded(method: Method) -> Method:
    """The method with its errors as gRPC statuses."""

    async def guarded(request: Any, context: Any) -> Any:
        try:
            return await method(request, context)
        except Exception as error:
            known = _as_fairlead(error, method.__name__)
        return await context.abort(_CODES.get(status_of(known), grpc.StatusCode.INTERNAL), str(known))

    return guarded


def _as_fairlead(error: Exception, method: str) -> FairleadError:
    if isinstance(error, FairleadError):
        return error
    logger.error("gRPC %s failed", method, exc_info=error)
    return RuntimeFailed("Something failed inside the gateway.")


async def _refuse_extension(request: Any, context: Any) -> Any:
    raise NotSupported(
        "That extension is not supported.", remedy="ServerMetadata names the extensions that are."
    )


def _asked(context: Any) -> Asked:
    """What metadata and deadline of a call say."""
    received = time.perf_counter()
    metadata = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
    asked = asked_by(lambda name: metadata.get(name) or None, received)
    left = context.time_remaining()
    if left is None:
        return asked
    until = received + left
    return asked._replace(deadline=until if asked.deadline is None else min(until, asked.deadline))
