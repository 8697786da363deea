"""Errors: traffic."""

from __future__ import annotations

from fairlead.errors.base import FairleadError

__all__ = [
    "FreezeNotFound",
    "Frozen",
    "GateClosed",
    "GateNotFound",
    "InUse",
    "InvalidFreeze",
    "InvalidGate",
    "InvalidPlan",
    "InvalidRetraining",
    "InvalidRollout",
    "NothingToRollBack",
    "PrepareFailed",
    "RetrainingNotFound",
    "RetrainingRefused",
    "WrongRolloutState",
]


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
