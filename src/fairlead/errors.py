"""One error tree: each situation has a class, a stable code and a remedy. It knows no HTTP.

`gateway/statuses.py` maps the classes to HTTP in one table. A test fails when a code is missing from the
reference.
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = ["FairleadError", "every_error"]


class FairleadError(Exception):
    """Something Fairlead refuses or cannot do; says what, which rule, and what to do about it.

    `code` is stable and may be relied upon by programs; `retryable` tells whether the same call can succeed
    later without a change. `details` are small JSON values that name the thing.
    """

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, remedy: str = "", **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.details = details

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


# --- what a caller sent -------------------------------------------------------------------------------------


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


# --- what is not there, or is there already -----------------------------------------------------------------


class ModelNotFound(FairleadError):
    """No model has that name."""

    code = "model_not_found"


class VersionNotFound(FairleadError):
    """The model has no such version, or no version takes traffic."""

    code = "version_not_found"


class AliasNotFound(FairleadError):
    """The model has no such alias."""

    code = "alias_not_found"


class RecordNotFound(FairleadError):
    """No prediction record has that request id."""

    code = "record_not_found"


class NotExplainable(FairleadError):
    """What was asked to be explained cannot be: the message says what is missing."""

    code = "not_explainable"


class BinsNotFound(FairleadError):
    """Nothing of that model was ever counted on such bins, or its contract has no reference."""

    code = "bins_not_found"


class BlobNotFound(FairleadError):
    """The artifact store has no blob of that digest."""

    code = "blob_not_found"


class VersionExists(FairleadError):
    """Versions are immutable: that name is taken."""

    code = "version_exists"


class RolloutInProgress(FairleadError):
    """Another rollout owns the model's traffic."""

    code = "rollout_in_progress"


class RolloutNotFound(FairleadError):
    """There is no such rollout."""

    code = "rollout_not_found"


class ExperimentNotFound(FairleadError):
    """There is no such experiment: no rollout of that name has split the model's traffic."""

    code = "experiment_not_found"


class ReplayNotFound(FairleadError):
    """There is no such replay: it never was, has been forgotten, or ended with the server that ran it."""

    code = "replay_not_found"


class SyncNotFound(FairleadError):
    """No sync of outcomes has that name."""

    code = "sync_not_found"


class InvalidSync(FairleadError):
    """A sync of outcomes cannot run: its query, its database or its times."""

    code = "invalid_sync"


class AlertNotFound(FairleadError):
    """There is no such alert, silence or channel."""

    code = "alert_not_found"


class InvalidAlerts(FairleadError):
    """What alerts are told to do contradicts itself: a rule, a channel or a silence."""

    code = "invalid_alerts"


class DeliveryFailed(FairleadError):
    """A message did not reach its receiver."""

    code = "delivery_failed"
    retryable = True


class GenerationConflict(FairleadError):
    """The model's plan changed since it was read."""

    code = "generation_conflict"


# --- models and artifacts -----------------------------------------------------------------------------------


class InvalidModelFile(FairleadError):
    """The file is no model that Fairlead can load."""

    code = "invalid_model_file"


class DigestMismatch(FairleadError):
    """A file's bytes are not those that were registered."""

    code = "digest_mismatch"


class ConversionRefused(FairleadError):
    """The converted model does not answer like the original."""

    code = "conversion_refused"


class TrustRequired(FairleadError):
    """Running a pickle needs the server's setting and the caller's flag together."""

    code = "trust_required"


class InvalidContract(FairleadError):
    """A data contract contradicts itself or does not fit the model."""

    code = "invalid_contract"


class InvalidReference(FairleadError):
    """The reference data cannot be used as it is."""

    code = "invalid_reference"


# --- traffic ------------------------------------------------------------------------------------------------


class InvalidPlan(FairleadError):
    """Weights, arms or roles do not make a plan."""

    code = "invalid_plan"


class InvalidRollout(FairleadError):
    """What a rollout is told to do contradicts itself or cannot be measured."""

    code = "invalid_rollout"


class InvalidGate(FairleadError):
    """What a gate is told to look at contradicts itself, or does not fit the model or its data."""

    code = "invalid_gate"


class GateNotFound(FairleadError):
    """The version has no such gate run."""

    code = "gate_not_found"


class InvalidRetraining(FairleadError):
    """A trainer or a policy of retraining makes no sense, or a model cannot be retrained as it is."""

    code = "invalid_retraining"


class RetrainingNotFound(FairleadError):
    """The model has no such retraining."""

    code = "retraining_not_found"


class RetrainingRefused(FairleadError):
    """The model is not retrained now: another retraining or a rollout is under way, or cooldown or budget
    hold it; or what was asked of a retraining does not fit where it stands."""

    code = "retraining_refused"


class GateClosed(FairleadError):
    """The version's latest gate run failed, or it has to pass one first."""

    code = "gate_closed"


class Frozen(FairleadError):
    """A freeze window holds the model's traffic where it is."""

    code = "frozen"


class InvalidFreeze(FairleadError):
    """A freeze window that says no reason, or could never hold."""

    code = "invalid_freeze"


class FreezeNotFound(FairleadError):
    """There is no such freeze window."""

    code = "freeze_not_found"


class WrongRolloutState(FairleadError):
    """The rollout's state does not allow that command."""

    code = "wrong_rollout_state"


class PrepareFailed(FairleadError):
    """A gateway could not load what the new plan names; traffic did not move."""

    code = "prepare_failed"


class NothingToRollBack(FairleadError):
    """There is no earlier production version to return to."""

    code = "nothing_to_roll_back"


class InUse(FairleadError):
    """The version has weight or is a rollback target."""

    code = "in_use"


# --- the server's state -------------------------------------------------------------------------------------


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


# --- set-up -------------------------------------------------------------------------------------------------


class UnknownSetting(FairleadError):
    """No setting has that name."""

    code = "unknown_setting"


class InvalidSetting(FairleadError):
    """A setting's value breaks its rule."""

    code = "invalid_setting"


class PortInUse(FairleadError):
    """Another program listens on that port."""

    code = "port_in_use"


class DataFolderInUse(FairleadError):
    """Another Fairlead runs on that data folder."""

    code = "data_folder_in_use"


class MissingExtra(FairleadError):
    """A library of an optional extra is not installed."""

    code = "missing_extra"


class AdminUnreachable(FairleadError):
    """The admin API or the gateway does not answer at that address."""

    code = "unreachable"
    retryable = True


def every_error() -> list[type[FairleadError]]:
    """All error classes, in the order of this file."""
    found: list[type[FairleadError]] = []
    for cls in FairleadError.__subclasses__():
        found.extend([cls, *cls.__subclasses__()])
    return found
