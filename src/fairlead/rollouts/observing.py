"""What is seen of a rollout now: what the gateways' counters say since its step began, what the log says of
its units and outcomes, and who serves its plan."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from fairlead.errors import FairleadError
from fairlead.rollouts.fleet import fleet
from fairlead.rollouts.judge import Judgement
from fairlead.rollouts.ledger import Entry
from fairlead.rollouts.logged import outcome_of, units_of
from fairlead.rollouts.moves import CANARY, CONTROL, SHADOW, STABLE
from fairlead.rollouts.observation import (
    COUNTERS,
    UNITS,
    ArmSample,
    Observation,
    Outcome,
    Outputs,
    reading,
)
from fairlead.rollouts.outcome_sums import Ask
from fairlead.rollouts.outputs import Classes, classes_of, outputs_of
from fairlead.rollouts.spec import BUILT_IN, OUTPUT_SHIFT
from fairlead.rollouts.states import Rollout
from fairlead.routing import plans
from fairlead.routing.plan import Plan
from fairlead.telemetry.counters import read_counters

__all__ = ["Observer", "evidence_of"]


_LOG_SECONDS = 2.0
"""So long what the log said is not asked again."""
_LOG_SHARE = 0.25
"""Of its time, the log computes answers for one rollout for this part at most."""


class Logged(msgspec.Struct, frozen=True, kw_only=True):
    """What the log said of a rollout's step when it was asked last, and until when that will do (monotonic
    seconds)."""

    revision: int
    fresh_until: float
    units: dict[str, int] = {}
    outcomes: dict[str, Outcome] = {}
    outputs: Outputs | None = None
    errors: dict[str, str] = {}


class Observer:
    """Reads the gateways' counters in that folder, and asks the prediction log.

    Counters only grow: what came of a step is a difference. The log tells units and outcomes; without `ask`
    nobody does.
    """

    def __init__(self, counters: Path, ask: Ask | None = None) -> None:
        self._counters = counters
        self._ask = ask
        self._logged: dict[str, Logged] = {}
        self._classes: dict[str, Classes] = {}

    def baseline(self, rollout: Rollout) -> dict[str, Any]:
        """The counters of the rollout's arms now, to be kept while its present step lasts."""
        return {name: msgspec.to_builtins(sample) for name, sample in self._readings(rollout).items()}

    def observe(self, connection: sa.Connection, entry: Entry, now: datetime) -> Observation:
        """What was seen since the entry's baseline was taken."""
        rollout = entry.rollout
        generation = rollout.generation or 0
        live = [gateway for gateway in fleet(connection, rollout.model) if gateway.live(now)]
        errors: dict[str, str] = {}
        samples: dict[str, ArmSample] = {}
        try:
            for name, sample in self._readings(rollout).items():
                before = msgspec.convert(entry.baseline.get(name, {}), ArmSample)
                samples[name] = sample.since(before)
        except (OSError, ValueError) as error:
            errors[COUNTERS] = f"The counters cannot be read: {error}."
            samples = {}
        logged = self._log_of(entry, now)
        plan = plans.active(connection, rollout.model)
        return Observation(
            at=now,
            since=rollout.entered_at,
            generation=rollout.generation,
            canary=samples.get("canary", ArmSample()),
            control=samples.get("control"),
            units=logged.units,
            expected=_expected(plan) if logged.units else {},
            outcomes=logged.outcomes,
            outputs=logged.outputs,
            errors={**logged.errors, **errors},
            confirmed=all(gateway.of(rollout.model).active >= generation for gateway in live),
        )

    def _log_of(self, entry: Entry, now: datetime) -> Logged:
        """What the log says of a canary's step; an answer is kept for a moment, since looks are frequent."""
        rollout, ask = entry.rollout, self._ask
        if ask is None or rollout.phase != "canary" or rollout.generation is None:
            return Logged(revision=entry.revision, fresh_until=0.0)
        held = self._logged.get(rollout.id)
        moment = time.monotonic()
        if held is not None and held.revision == entry.revision and moment < held.fresh_until:
            return held
        units: dict[str, int] = {}
        outcomes: dict[str, Outcome] = {}
        errors: dict[str, str] = {}
        try:
            units = units_of(ask, rollout)
        except FairleadError as error:
            errors[UNITS] = error.message
        for metric in rollout.spec.metrics:
            if metric.name in BUILT_IN:
                continue
            try:
                found = outcome_of(ask, rollout, metric, now)
            except FairleadError as error:
                errors[metric.name] = error.message
            else:
                if found is not None:
                    outcomes[metric.name] = found
        outputs = None
        try:
            outputs = self._outputs(ask, rollout)
        except FairleadError as error:
            errors[OUTPUT_SHIFT] = error.message
        took = time.monotonic() - moment
        told = Logged(
            revision=entry.revision,
            fresh_until=moment + max(_LOG_SECONDS, took / _LOG_SHARE),
            units=units,
            outcomes=outcomes,
            outputs=outputs,
            errors=errors,
        )
        self._logged = {
            name: old for name, old in self._logged.items() if moment < old.fresh_until + 100 * _LOG_SECONDS
        } | {rollout.id: told}
        self._classes = {name: found for name, found in self._classes.items() if name in self._logged}
        return told

    def _outputs(self, ask: Ask, rollout: Rollout) -> Outputs | None:
        """None where outputs cannot be sorted into classes. Classes stay as they were settled."""
        classes = self._classes.get(rollout.id) or classes_of(ask, rollout)
        if classes is None:
            return Outputs()
        self._classes[rollout.id] = classes
        if not classes.names and not classes.cuts:
            return None
        return outputs_of(ask, rollout, classes)

    def _readings(self, rollout: Rollout) -> dict[str, ArmSample]:
        counters = read_counters(self._counters)
        return {
            name: reading(counters, rollout.model, arm, version)
            for name, (arm, version) in _arms(rollout).items()
        }


def evidence_of(observation: Observation, judgement: Judgement) -> dict[str, Any]:
    """Both as they stand in the journal: enough to decide the same again."""
    return {
        "observation": msgspec.to_builtins(observation),
        "judgement": msgspec.to_builtins(judgement),
    }


def _expected(plan: Plan | None) -> dict[str, float]:
    """The share of the units that canary and control should have of what both have."""
    shares = plan.shares() if plan else {}
    held = {arm: shares[arm] for arm in (CANARY, CONTROL) if shares.get(arm)}
    total = sum(held.values())
    return {arm: share / total for arm, share in held.items()}


def _arms(rollout: Rollout) -> dict[str, tuple[str, str]]:
    """Arm and version of the candidate, and of what it is compared with."""
    if rollout.phase == "canary":
        found = {"canary": (CANARY, rollout.candidate)}
        if rollout.stable is not None:
            found["control"] = (CONTROL, rollout.stable)
        return found
    if rollout.phase == "shadow":
        found = {"canary": (SHADOW, rollout.candidate)}
        if rollout.stable is not None:
            found["control"] = (STABLE, rollout.stable)
        return found
    return {"canary": (STABLE, rollout.candidate)}
