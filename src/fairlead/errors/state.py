"""Errors: the server's state."""

from __future__ import annotations

from fairlead.errors.base import FairleadError

__all__ = [
    "Cancelled",
    "CircuitOpen",
    "DeadlineExceeded",
    "InvalidQuery",
    "NotReady",
    "Overloaded",
    "RuntimeFailed",
    "StorageFull",
    "StoreUnavailable",
]


class RuntimeFailed(FairleadError):
    """The model raised, crashed, or answered something its contract forbids."""

    code = "runtime_failed"
    retryable = True


class Overloaded(FairleadError):
    """The server is full: a queue, the disk of the prediction log, or the connection limit."""

    code = "overloaded"
    retryable = True


class NotReady(FairleadError):
    """The model is still being loaded, or the server is shutting down."""

    code = "not_ready"
    retryable = True


class CircuitOpen(FairleadError):
    """The version failed several times in a row and is left alone for a moment."""

    code = "circuit_open"
    retryable = True


class Cancelled(FairleadError):
    """The caller went away before the answer was there."""

    code = "cancelled"


class DeadlineExceeded(FairleadError):
    """The answer was not there in time."""

    code = "deadline_exceeded"
    retryable = True


class StoreUnavailable(FairleadError):
    """The database, the artifact store or the log query process does not answer."""

    code = "store_unavailable"
    retryable = True


class StorageFull(FairleadError):
    """The disk has no room; nothing was changed."""

    code = "storage_full"
    retryable = True


class InvalidQuery(FairleadError):
    """SQL that DuckDB refuses, or that reaches outside the log."""

    code = "invalid_query"
