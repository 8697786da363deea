"""What was seen of candidate and control since a step began: all that a decision rests on, as data.

Samples are differences of two readings of the gateways' counters. An observation is stored as JSON beside the
decision, and decides the same again.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec

from fairlead.experiments.aggregates import Mean, Proportion, Ratio
from fairlead.telemetry.counters import ArmCounters
from fairlead.telemetry.latency import BUCKETS

__all__ = ["COUNTERS", "UNITS", "ArmSample", "Observation", "Outcome", "Outputs", "reading"]

COUNTERS, UNITS = "counters", "units"
"""Sources other than a metric's own name under which `Observation.errors` says what could not be measured."""

_STOOD_IN = ("stale_cache", "fallback_version", "contract_default")


class ArmSample(msgspec.Struct, frozen=True, kw_only=True):
    """What an arm was asked. A `reading` counts from ever; what lies between two is `later.since(earlier)`.

    `requests` were assigned to the arm and answered, also when another version stood in. `failures` are those
    that its own version could not answer, whoever then did; `rejected` are those whose features broke the
    contract. `latency` counts answers by bucket (`telemetry.latency.BOUNDS`), `hits` those that came from a
    cache. Of a shadow's copies, `same` and `different` were compared with what was answered; for those
    `dropped` there was no room.
    """

    requests: int = 0
    failures: int = 0
    rejected: int = 0
    latency: tuple[int, ...] = (0,) * BUCKETS
    hits: int = 0
    same: int = 0
    different: int = 0
    dropped: int = 0

    @property
    def errors(self) -> Proportion:
        """Failures among the requests that the version was to answer: a rejection is the caller's fault."""
        asked = max(0, self.requests - self.rejected)
        return Proportion(asked, min(self.failures, asked))

    @property
    def rejections(self) -> Proportion:
        """Rejections among all requests."""
        return Proportion(self.requests, min(self.rejected, self.requests))

    @property
    def computed(self) -> tuple[int, ...]:
        """The latencies of answers that the model computed: a cache's are taken off at the fast end. A
        version that begins has a cold cache, and its median would else be compared with that of hits."""
        left, found = self.hits, []
        for count in self.latency:
            taken = min(left, count)
            left -= taken
            found.append(count - taken)
        return tuple(found)

    def since(self, earlier: ArmSample) -> ArmSample:
        """What came after an earlier reading. Counters never run backwards: ValueError if these did."""
        found = ArmSample(
            requests=self.requests - earlier.requests,
            failures=self.failures - earlier.failures,
            rejected=self.rejected - earlier.rejected,
            latency=tuple(a - b for a, b in zip(self.latency, earlier.latency, strict=True)),
            hits=self.hits - earlier.hits,
            same=self.same - earlier.same,
            different=self.different - earlier.different,
            dropped=self.dropped - earlier.dropped,
        )
        answers = (found.requests, found.failures, found.rejected, found.hits)
        copies = (found.same, found.different, found.dropped)
        if min(*answers, *copies, *found.latency) < 0:
            raise ValueError("the later reading of the counters is smaller than the earlier one")
        return found


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the two arms' predictions by one metric, as sums over units of the same kind: shares of
    units, means per unit, or ratios."""

    control: Proportion | Mean | Ratio
    canary: Proportion | Mean | Ratio


class Outputs(msgspec.Struct, frozen=True, kw_only=True):
    """How many units of each arm got an output of each class as their first answer. `answers` is of how many
    answers of an arm the log tells, of the arm with fewer. Without classes nothing can be told yet."""

    classes: tuple[str, ...] = ()
    control: tuple[int, ...] = ()
    canary: tuple[int, ...] = ()
    answers: int = 0


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen at `at` of the time since `since`, when all gateways first served `generation`.

    `canary` is the candidate's arm, of whatever role. `control` is the stable version's arm that it is
    compared with: the control, for a shadow the stable arm. In the bake there is none, and the limits alone
    speak: control's last sample is of another time, and what has changed since would be put down to the
    candidate.

    `units` counts the different units seen per arm, `expected` is the share that each arm should have of
    them. `outcomes` are by metric. `outputs` are None where no log is asked, or where outputs cannot be
    sorted into classes. `errors` says, by metric or source, what could not be measured and why.
    `confirmed` is whether every live gateway serves the generation.
    """

    at: datetime
    since: datetime
    generation: int | None
    canary: ArmSample
    control: ArmSample | None = None
    units: dict[str, int] = {}
    expected: dict[str, float] = {}
    outcomes: dict[str, Outcome] = {}
    outputs: Outputs | None = None
    errors: dict[str, str] = {}
    confirmed: bool = True

    @property
    def seconds(self) -> float:
        """How long the step has been watched."""
        return (self.at - self.since).total_seconds()


def reading(counters: Iterable[ArmCounters], model: str, arm: str, version: str) -> ArmSample:
    """What the counters say of that version in that arm, in every role; of an arm that they lack, nothing."""
    requests = failures = rejected = hits = same = different = dropped = 0
    latency = [0] * BUCKETS
    for row in counters:
        if (row.key.model, row.key.arm, row.key.version) != (model, arm, version):
            continue
        cells = row.cells
        # What another version answered is counted as its answer there; here it is a request all the same.
        requests += row.answered + cells["fallback_version"]
        # Not `faults`: tables do not count a breaker's refusals there, and rows of callers that left do.
        failures += cells["failed"] + sum(cells[name] for name in _STOOD_IN)
        rejected += cells["rejected"]
        hits += cells["cache_hits"]
        same += cells["shadow_same"]
        different += cells["shadow_different"]
        dropped += cells["shadow_dropped"]
        latency = [a + b for a, b in zip(latency, row.latency, strict=True)]
    return ArmSample(
        requests=requests, failures=failures, rejected=rejected, latency=tuple(latency), hits=hits,
        same=same, different=different, dropped=dropped,
    )  # fmt: skip
