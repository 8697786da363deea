"""The protocols of others that a gateway speaks beside its own, over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from fairlead.errors import FairleadError, RouteNotFound
from fairlead.gateway.asking import is_sendable
from fairlead.gateway.inference.metadata import Outputs
from fairlead.gateway.inference.repository import Repository
from fairlead.gateway.inference.rest import InferenceRest, plain_error, unsupported_extension
from fairlead.gateway.invocations import InvocationsRest
from fairlead.gateway.protocol import Request
from fairlead.gateway.routes import Match
from fairlead.gateway.tfserving import TensorFlowRest
from fairlead.serving.dataplane import DataPlane
from fairlead.serving.folder import DataFolder

__all__ = ["Faces"]

Handler = Callable[[Request, Match], Coroutine[Any, Any, bytes]]


class Faces:
    """Their handlers by the names in `routes.py`, and their way to say what went wrong."""

    def __init__(
        self, plane: DataPlane, folder: DataFolder, repository: Repository, *, body_bytes: int
    ) -> None:
        self.outputs = Outputs()
        self.repository = repository
        inference = InferenceRest(plane, folder, repository, self.outputs, body_bytes)
        self.handlers: Mapping[str, Handler] = {
            **inference.handlers,
            **TensorFlowRest(plane).handlers,
            **InvocationsRest(plane).handlers,
        }

    def refusal(self, error: FairleadError, request: Request) -> bytes | None:
        """The answer to an error in the protocol of the request; None when that is our own."""
        path = request.path
        if not (path == b"/v2" or path.startswith(b"/v2/") or path.endswith(b":predict")):
            return None
        if isinstance(error, RouteNotFound):
            error = unsupported_extension(path.decode("ascii", "replace")) or error
        given = request.header(b"x-request-id")
        return plain_error(error, given if given and is_sendable(given) else None)
