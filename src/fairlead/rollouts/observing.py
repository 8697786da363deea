"""What is seen of a rollout now: the gateways' counters since its step began, and who serves its plan."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from fairlead.rollouts.fleet import fleet
from fairlead.rollouts.judge import Judgement
from fairlead.rollouts.ledger import Entry
from fairlead.rollouts.moves import CANARY, CONTROL, SHADOW, STABLE
from fairlead.rollouts.observation import COUNTERS, ArmSample, Observation, reading
from fairlead.rollouts.states import Rollout
from fairlead.telemetry.counters import read_counters

__all__ = ["Observer", "evidence_of"]


class Observer:
    """Reads the gateways' counters in that folder. They only grow: what came of a step is a difference."""

    def __init__(self, counters: Path) -> None:
        self._counters = counters

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
        return Observation(
            at=now,
            since=rollout.entered_at,
            generation=rollout.generation,
            canary=samples.get("canary", ArmSample()),
            control=samples.get("control"),
            errors=errors,
            confirmed=all(gateway.of(rollout.model).active >= generation for gateway in live),
        )

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
