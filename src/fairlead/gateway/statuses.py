"""The one table from error classes to HTTP statuses, and the problem document that carries them."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fairlead import errors as e

__all__ = ["STATUS_OF", "problem", "status_of"]

STATUS_OF: dict[type[e.FairleadError], int] = {
    e.MalformedRequest: 400,
    e.DataContractViolation: 400,
    e.PayloadTooLarge: 413,
    e.RequestTimeout: 408,
    e.RouteNotFound: 404,
    e.MethodNotAllowed: 405,
    e.NotSupported: 501,
    e.InvalidName: 400,
    e.ModelNotFound: 404,
    e.VersionNotFound: 404,
    e.AliasNotFound: 404,
    e.RecordNotFound: 404,
    e.NotExplainable: 422,
    e.BinsNotFound: 404,
    e.BlobNotFound: 404,
    e.VersionExists: 409,
    e.RolloutInProgress: 409,
    e.RolloutNotFound: 404,
    e.ExperimentNotFound: 404,
    e.ReplayNotFound: 404,
    e.SyncNotFound: 404,
    e.InvalidSync: 400,
    e.AlertNotFound: 404,
    e.InvalidAlerts: 422,
    e.DeliveryFailed: 502,
    e.GenerationConflict: 412,
    e.InvalidModelFile: 400,
    e.DigestMismatch: 400,
    e.ConversionRefused: 400,
    e.TrustRequired: 403,
    e.Forbidden: 403,
    e.InvalidContract: 400,
    e.InvalidReference: 400,
    e.InvalidPlan: 400,
    e.InvalidRollout: 422,
    e.InvalidGate: 422,
    e.GateNotFound: 404,
    e.GateClosed: 409,
    e.InvalidRetraining: 422,
    e.RetrainingNotFound: 404,
    e.RetrainingRefused: 409,
    e.WrongRolloutState: 409,
    e.Frozen: 409,
    e.InvalidFreeze: 422,
    e.FreezeNotFound: 404,
    e.PrepareFailed: 409,
    e.NothingToRollBack: 409,
    e.InUse: 409,
    e.RuntimeFailed: 502,
    e.Overloaded: 503,
    e.NotReady: 503,
    e.CircuitOpen: 503,
    e.Cancelled: 499,
    e.DeadlineExceeded: 504,
    e.StoreUnavailable: 503,
    e.StorageFull: 507,
    e.InvalidQuery: 400,
    e.UnknownSetting: 400,
    e.InvalidSetting: 400,
    e.PortInUse: 500,
    e.DataFolderInUse: 500,
    e.MissingExtra: 501,
    e.AdminUnreachable: 503,
}


def status_of(error: e.FairleadError) -> int:
    """The HTTP status of an error; 500 for what has none."""
    for cls in type(error).__mro__:
        if cls in STATUS_OF:
            return STATUS_OF[cls]
    return 500


def problem(error: e.FairleadError, request_id: str | None = None) -> dict[str, Any]:
    """The error as an RFC 9457 problem document: `code` is stable, `remedy` says what to do."""
    status = status_of(error)
    document: dict[str, Any] = {
        "type": f"urn:fairlead:error:{error.code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": error.code,
        "detail": error.message,
        "remedy": error.remedy or None,
        "retryable": error.retryable,
        "request_id": request_id,
    }
    if isinstance(error, e.DataContractViolation):
        document["violations"] = error.violations
    document.update({name: value for name, value in error.details.items() if name not in document})
    return document
