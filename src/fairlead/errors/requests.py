"""Errors: what a caller sent."""

from __future__ import annotations

from typing import Any

from fairlead.errors.base import FairleadError

__all__ = [
    "DataContractViolation",
    "Forbidden",
    "InvalidName",
    "MalformedRequest",
    "MethodNotAllowed",
    "NotSupported",
    "PayloadTooLarge",
    "RequestTimeout",
    "RouteNotFound",
]


class MalformedRequest(FairleadError):
    """The bytes are not the JSON document that the route asks for."""

    code = "malformed_request"


class DataContractViolation(FairleadError):
    """Features break the model's data contract; `violations` names each field, rule, value, expectation.

    `refused` holds the features as they may be kept for a look later: short, and without sensitive ones.
    """

    code = "data_contract_violation"

    def __init__(
        self,
        message: str,
        violations: list[dict[str, Any]],
        *,
        refused: dict[str, Any] | None = None,
        remedy: str = "",
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.violations = violations
        self.refused = refused


class PayloadTooLarge(FairleadError):
    """The request is larger than the server's limit."""

    code = "payload_too_large"


class RequestTimeout(FairleadError):
    """The request did not arrive whole in time."""

    code = "request_timeout"
    retryable = True


class RouteNotFound(FairleadError):
    """No such path."""

    code = "route_not_found"


class MethodNotAllowed(FairleadError):
    """The path exists and takes another method."""

    code = "method_not_allowed"


class NotSupported(FairleadError):
    """The protocol has it, and this server does not."""

    code = "not_supported"


class InvalidName(FairleadError):
    """A model, version, alias or arm name breaks the naming rule."""

    code = "invalid_name"


class Forbidden(FairleadError):
    """The caller may not do that here."""

    code = "forbidden"
