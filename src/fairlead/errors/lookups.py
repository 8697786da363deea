"""Errors: what is not there, or is there already."""

from __future__ import annotations

from fairlead.errors.base import FairleadError

__all__ = [
    "AlertNotFound",
    "AliasNotFound",
    "BinsNotFound",
    "BlobNotFound",
    "DeliveryFailed",
    "ExperimentNotFound",
    "GenerationConflict",
    "InvalidAlerts",
    "InvalidSync",
    "ModelNotFound",
    "NotExplainable",
    "RecordNotFound",
    "ReplayNotFound",
    "RolloutInProgress",
    "RolloutNotFound",
    "SyncNotFound",
    "VersionExists",
    "VersionNotFound",
]


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
