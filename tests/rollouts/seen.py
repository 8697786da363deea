"""Rollouts and what was seen of them, made up for tests of what is judged and decided."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from fairlead.rollouts import states
from fairlead.rollouts.observation import ArmSample, Observation
from fairlead.rollouts.reading import preset
from fairlead.rollouts.spec import RolloutSpec
from fairlead.rollouts.states import Rollout
from fairlead.telemetry.latency import BUCKETS, bucket_of

START = datetime(2026, 11, 1, 12, tzinfo=UTC)
LADDER = preset("canary")


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def latencies(of: dict[float, int]) -> tuple[int, ...]:
    """A histogram of so many answers of so many seconds."""
    counts = [0] * BUCKETS
    for seconds, count in of.items():
        counts[bucket_of(seconds)] += count
    return tuple(counts)


def arm(
    requests: int, failures: int = 0, *, rejected: int = 0, slow: int = 0, seconds: float = 0.02
) -> ArmSample:
    """An arm that answered most requests in `seconds` and `slow` of them in two seconds."""
    return ArmSample(
        requests=requests,
        failures=failures,
        rejected=rejected,
        latency=latencies({seconds: requests - slow, 2.0: slow}),
    )


def seen(
    canary: ArmSample, control: ArmSample | None = None, *, lasted: float = 3600.0, **more: Any
) -> Observation:
    """What was seen since `START` of generation 2; control is a healthy twin unless told."""
    twin = arm(canary.requests) if control is None else control
    return Observation(
        **{"at": after(lasted), "since": START, "generation": 2, "canary": canary, "control": twin, **more}
    )


def rollout(spec: RolloutSpec = LADDER, **more: Any) -> Rollout:
    """A rollout that waits to begin."""
    made = Rollout(
        id="r1", model="shop", stable="v1", candidate="v2", spec=spec, started_at=START, entered_at=START
    )
    return msgspec.structs.replace(made, **more)


def serving(spec: RolloutSpec = LADDER, step: int = 0, **more: Any) -> Rollout:
    """A rollout whose step of that index has traffic, by generation 2."""
    found = states.moved(states.enter(states.begin(rollout(spec), START), START), 2, START)
    for _ in range(step):
        found = states.moved(states.advance(found, START), 2, START)
    return msgspec.structs.replace(found, **more)


def baking(spec: RolloutSpec = LADDER, **more: Any) -> Rollout:
    """A rollout whose candidate has everything and is watched."""
    found = states.bake(states.moved(states.promote(serving(spec), START), 2, START), START)
    return msgspec.structs.replace(found, **more)
