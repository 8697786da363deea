"""A rollback on this machine alone, for when control or the database is away.

It needs the data folder and nothing else: the plans that lie there say what is served and what stays loaded,
and a signed override tells the gateways what to serve instead. Once the database is back, the agent makes of
it a rollback everywhere.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable

import msgspec

from fairlead.errors import InvalidSetting, ModelNotFound, NothingToRollBack, VersionNotFound
from fairlead.rollouts import moves
from fairlead.serving.folder import DataFolder, GatewayReport, ModelReport, Override, ServingPlan

__all__ = ["LocalRollback", "roll_back_locally"]

_LIVE_SECONDS = 5.0
_LOOK_AGAIN_SECONDS = 0.01


class LocalRollback(msgspec.Struct, frozen=True, kw_only=True):
    """What was done: the version that the gateways of this machine shall serve, and which of them do."""

    model: str
    version: str
    generation: int
    confirmed: list[str]
    unconfirmed: list[str]
    took_ms: float


def roll_back_locally(
    folder: DataFolder,
    model: str,
    *,
    to: str | None,
    who: str,
    why: str,
    seconds: float,
    clock: Callable[[], float] = time.time,
) -> LocalRollback:
    """Puts all of this machine's traffic for the model on `to`, or on what a rollback through control would
    choose, and waits up to `seconds` until every live gateway serves it. None may be live: then the next to
    start serves it.

    Raises `ModelNotFound`, `VersionNotFound` when the version is not kept loaded, `NothingToRollBack`.
    """
    began = time.monotonic()
    serving = _serving(folder, model)
    previous = next(iter(serving.keep), None)
    version = moves.rollback(serving.plan, previous, to).stable()
    if version not in serving.versions:
        kept = ", ".join(serving.versions)
        raise VersionNotFound(
            f"Version {version!r} of {model!r} is not loaded on this machine.",
            remedy=f"Loaded are {kept}; name one with --to.",
            model=model,
            version=version,
        )
    override = Override(
        model=model,
        version=version,
        base_generation=serving.plan.generation,
        at=clock(),
        who=who,
        why=why,
    )
    folder.write_override(override.signed(folder.secret()))
    while True:
        live = [report for report in folder.read_reports() if clock() - report.at < _LIVE_SECONDS]
        newer = _takes_over(folder, override)
        confirmed = [report.name for report in live if _serves(report, override, newer)]
        unconfirmed = [report.name for report in live if report.name not in confirmed]
        if not unconfirmed or time.monotonic() - began > seconds:
            return LocalRollback(
                model=model,
                version=version,
                generation=serving.plan.generation,
                confirmed=confirmed,
                unconfirmed=unconfirmed,
                took_ms=round(1000 * (time.monotonic() - began), 1),
            )
        time.sleep(_LOOK_AGAIN_SECONDS)


def _serving(folder: DataFolder, model: str) -> ServingPlan:
    if not folder.plans.is_dir():
        raise InvalidSetting(
            f"There is no Fairlead data folder at {folder.root}.", remedy="Name the right one with --data."
        )
    known = folder.models()
    plans = folder.read_plans(model) if model in known else None
    if plans is None:
        near = difflib.get_close_matches(model, known, 1)
        remedy = f"Did you mean {near[0]!r}?" if near else f"Served here: {', '.join(known) or 'none'}."
        raise ModelNotFound(f"This machine serves no model {model!r}.", remedy=remedy, model=model)
    if plans.active is None:
        raise NothingToRollBack(f"{model!r} has no traffic yet.", remedy="Deploy a version first.")
    return plans.active


def _takes_over(folder: DataFolder, override: Override) -> int | None:
    """The generation that has made a plan of the override already: the agent is quick when all is well."""
    plans = folder.read_plans(override.model)
    if plans is None or plans.active is None or plans.active.plan.generation <= override.base_generation:
        return None
    plan = plans.active.plan
    return plan.generation if plan.stable() == override.version and not moves.is_split(plan) else None


def _serves(report: GatewayReport, override: Override, newer: int | None) -> bool:
    state = report.models.get(override.model, ModelReport())
    if newer is not None and state.active >= newer:
        return True
    return state.override == override.version and state.active == override.base_generation
