"""What a rollout is told to do, as data: steps, limits, metrics, and the chance of a false alarm.

Whatever contradicts itself, or could never be measured, is `InvalidRollout` and never guessed at.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection
from typing import Literal

import msgspec

from fairlead.errors import InvalidRollout

__all__ = [
    "AGREEMENT",
    "BUILT_IN",
    "LATENCIES",
    "OUTPUT_SHIFT",
    "WATCHED",
    "WHOLE",
    "Limits",
    "Metric",
    "RolloutSpec",
    "Step",
    "Strategy",
]

Strategy = Literal["canary", "shadow", "blue-green", "ab", "direct"]
Inconclusive = Literal["pause", "rollback", "advance"]
MetricKind = Literal["guardrail", "signal", "goal", "dry-run"]

OUTPUT_SHIFT, AGREEMENT = "output_shift", "agreement"
LATENCIES = {"p50": 0.5, "p99": 0.99}
"""Quantiles of the time to an answer."""
BUILT_IN = ("error_rate", *LATENCIES, "rejections", OUTPUT_SHIFT, AGREEMENT)
"""Metrics of answers, which every model has. Every other name is that of an outcome."""

_MINUTE, _DAY = 60.0, 86_400.0
_LAYER = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
WHOLE = {"direct", "blue-green"}
"""Strategies that move everything at once and have no steps."""


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A share of the traffic, and what has to be seen before the next one.

    `weight` is the percent of the units that the candidate answers, `mirror` the percent of the requests that
    a shadow gets a copy of; a step has one of the two. A step at 100 % is the promotion and nothing else.

    It is left not before `minimum` seconds, not before each arm has met `units` different units and has
    answered `events` requests, with `approval` not before a person agreed; after `deadline` seconds without a
    verdict it is `inconclusive`.
    """

    weight: float = 0.0
    mirror: float = 0.0
    minimum: float = 10 * _MINUTE
    units: int = 0
    events: int = 500
    deadline: float = _DAY
    inconclusive: Inconclusive = "pause"
    approval: bool = False


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a candidate may not exceed unless control does, too. None is off."""

    error_rate: float | None = 0.01
    p99_ms: float | None = 500.0


class Metric(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing that candidate and control are compared by.

    A failed `guardrail` rolls back; a failed `signal` holds as long as it fails; a `goal` rolls back when it
    is worse, and has to hold in the last step before the promotion; a `dry-run` is told and decides nothing.
    `margin` is how much worse is borne: in the metric's own unit, or as a share of control's value. `window`
    is how many seconds after its prediction an outcome may come.
    """

    name: str
    kind: MetricKind = "guardrail"
    margin: float = 0.0
    margin_is: Literal["absolute", "relative"] = "absolute"
    higher_is: Literal["better", "worse"] = "worse"
    window: float = 0.0


WATCHED = (
    Metric(name="error_rate", margin=0.005),
    Metric(name="p50", margin=0.5, margin_is="relative"),
    Metric(name="p99", margin=0.2, margin_is="relative"),
    Metric(name="rejections", kind="signal", margin=0.005),
    Metric(name=OUTPUT_SHIFT, margin=0.25),
    Metric(name=AGREEMENT, kind="dry-run", margin=0.05, higher_is="better"),
)
"""The metrics that are always compared, as they are unless told otherwise."""


class RolloutSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole rollout. `bake` is how many seconds the candidate is watched after it got everything.

    `metrics` are in addition to those that are always compared (`WATCHED`); one of their names changes how.
    `alpha` is the chance that a harmless candidate is rolled back, metrics and steps together.

    With a `layer` it takes `traffic` percent of the units for itself, apart from those of other rollouts in
    the layer; the weights of its steps are percents of these.
    """

    strategy: Strategy = "canary"
    steps: tuple[Step, ...] = ()
    bake: float = 10 * _MINUTE
    limits: Limits = Limits()
    metrics: tuple[Metric, ...] = ()
    alpha: float = 0.05
    layer: str | None = None
    traffic: float = 100.0

    @property
    def watched(self) -> tuple[Metric, ...]:
        """Every metric, the ones that are always there first."""
        named = {metric.name: metric for metric in self.metrics}
        own = tuple(named.pop(metric.name, metric) for metric in WATCHED)
        return own + tuple(named.values())

    @property
    def judged(self) -> tuple[Step, ...]:
        """The steps that are watched: all but the promotion."""
        return tuple(step for step in self.steps if step.weight < 100)

    def verify(self, outcomes: Collection[str] | None = None) -> RolloutSpec:
        """This spec, or `InvalidRollout`. `outcomes` are the names of outcomes that the model can have."""
        if not 0 < self.alpha < 0.5:
            raise InvalidRollout(
                f"A rollout with alpha {self.alpha:g} decides by chance.",
                remedy="Give a chance of a false alarm above 0 and below 0.5, such as 0.05.",
            )
        _verify_duration("bake", self.bake)
        self._verify_layer()
        _verify_limits(self.limits)
        self._verify_steps()
        self._verify_metrics(outcomes)
        return self

    def _verify_layer(self) -> None:
        if self.layer is None:
            if self.traffic != 100:
                raise InvalidRollout(
                    f"The rollout takes {self.traffic:g} % of the traffic of no layer.",
                    remedy="Name a layer, or give its steps smaller weights.",
                )
            return
        if not _LAYER.fullmatch(self.layer):
            raise InvalidRollout(
                f"The layer is called {self.layer[:100]!r}.",
                remedy="Use up to 64 lower-case letters, digits, dots, dashes and underscores.",
            )
        if not 0 < self.traffic <= 100:  # false for NaN, too
            raise InvalidRollout(
                f"The rollout takes {self.traffic:g} % of the layer's traffic.",
                remedy="Give a percent above 0 and up to 100.",
            )
        if self.strategy in WHOLE or self.strategy == "shadow":
            raise InvalidRollout(
                f"Strategy {self.strategy!r} splits nothing, so that a layer keeps nothing apart.",
                remedy="Leave the layer out, or choose the strategy 'canary' or 'ab'.",
            )

    def _verify_steps(self) -> None:
        if self.strategy in WHOLE:
            if self.steps:
                raise InvalidRollout(
                    f"Strategy {self.strategy!r} moves everything at once and takes no steps.",
                    remedy="Leave the steps out, or choose the strategy 'canary'.",
                )
            return
        if not self.steps:
            raise InvalidRollout(
                f"The {self.strategy} rollout has no steps.",
                remedy="Give at least one, such as {weight: 5}; a shadow has {mirror: 100}.",
            )
        for number, step in enumerate(self.steps, 1):
            _verify_step(f"Step {number}", step, last=number == len(self.steps))
        self._verify_order()
        shadows = [step for step in self.steps if step.mirror]
        if self.strategy == "shadow" and len(shadows) < len(self.steps):
            raise InvalidRollout(
                "A shadow answers nobody, and a step of it has a weight.",
                remedy="Give its steps only `mirror`, or choose the strategy 'canary'.",
            )
        if self.strategy != "shadow" and not any(step.weight for step in self.judged):
            raise InvalidRollout(
                f"The {self.strategy} rollout compares with nobody: no step leaves room for a control.",
                remedy="Add a step below 100 %, or choose the strategy 'blue-green'.",
            )

    def _verify_order(self) -> None:
        for number, (before, step) in enumerate(zip(self.steps, self.steps[1:], strict=False), 2):
            if before.weight and step.mirror:
                raise InvalidRollout(
                    f"Step {number} mirrors after a step that answered.",
                    remedy="Put shadow steps first.",
                    step=number,
                )
            if step == before:
                raise InvalidRollout(
                    f"Step {number} repeats the one before.",
                    remedy="Give one of them more time.",
                    step=number,
                )
            if step.weight < before.weight or (step.mirror and step.mirror < before.mirror):
                raise InvalidRollout(
                    f"Step {number} goes down, from {_shown(before)} to {_shown(step)}.",
                    remedy="Put the steps into rising order; what fails is rolled back by itself.",
                    step=number,
                )

    def _verify_metrics(self, outcomes: Collection[str] | None) -> None:
        names = [metric.name for metric in self.metrics]
        for metric in self.metrics:
            if names.count(metric.name) > 1:
                raise InvalidRollout(
                    f"The metric {metric.name!r} is there twice.",
                    remedy="Name each metric once.",
                    metric=metric.name,
                )
            _verify_metric(metric, outcomes)
            self._verify_window(metric)
        if self.strategy == "ab" and not any(metric.kind == "goal" for metric in self.metrics):
            raise InvalidRollout(
                "The ab rollout has no goal, so nothing can win.",
                remedy="Name one in a plan (--plan FILE), as in metrics: [{name: conversion, kind: goal}], "
                "or choose the strategy 'canary'.",
            )

    def _verify_window(self, metric: Metric) -> None:
        """What decides has to be able to: its outcomes come within the time that a step is watched."""
        if metric.kind in ("signal", "dry-run"):
            return
        steps = [(number, step) for number, step in enumerate(self.judged, 1) if step.weight]
        for number, step in steps[-1:] if metric.kind == "goal" else steps:
            if metric.window > step.deadline:
                raise InvalidRollout(
                    f"Outcomes of {metric.name!r} may come {metric.window:g} s after their prediction, and "
                    f"step {number} is watched for {step.deadline:g} s at most.",
                    remedy="Lengthen the step's deadline or shorten the metric's window.",
                    metric=metric.name,
                    step=number,
                )


# --- the parts ----------------------------------------------------------------------------------------------


def _verify_step(name: str, step: Step, *, last: bool) -> None:
    if bool(step.weight) == bool(step.mirror):
        raise InvalidRollout(
            f"{name} has {'both a weight and a mirror' if step.weight else 'neither weight nor mirror'}.",
            remedy="Give `weight` to a step that answers, `mirror` to a shadow.",
        )
    if not 0 < (step.weight or step.mirror) <= 100:  # false for NaN, too
        raise InvalidRollout(f"{name} has {_shown(step)}.", remedy="Give a percent above 0 and up to 100.")
    _verify_duration(f"The minimum of {name.lower()}", step.minimum)
    _verify_duration(f"The deadline of {name.lower()}", step.deadline)
    if step.units < 0 or step.events < 0:
        raise InvalidRollout(f"{name} asks for fewer than 0 units or events.", remedy="Give 0 or more.")
    if step.deadline < step.minimum:
        raise InvalidRollout(
            f"{name} has to last {step.minimum:g} s and may last {step.deadline:g} s.",
            remedy="Make its deadline at least as long as its minimum.",
        )
    if step.weight != 100:
        return
    if not last:
        raise InvalidRollout(
            f"{name} gives everything away, and steps follow.", remedy="Make the step at 100 % the last."
        )
    if step.minimum or step.units or step.events or step.approval:
        raise InvalidRollout(
            f"{name} is the promotion, where nobody is left to compare with, and it has conditions.",
            remedy="Put them into the step before, or watch afterwards: `bake`.",
        )


def _verify_metric(metric: Metric, outcomes: Collection[str] | None) -> None:
    if not (math.isfinite(metric.margin) and metric.margin >= 0):
        raise InvalidRollout(
            f"The margin of {metric.name!r} is {metric.margin:g}.",
            remedy="Give 0 or more.",
            metric=metric.name,
        )
    _verify_duration(f"The window of {metric.name!r}", metric.window)
    if metric.name in BUILT_IN:
        if (metric.higher_is == "better") != (metric.name == AGREEMENT) or metric.kind == "goal":
            raise InvalidRollout(
                f"{metric.name!r} only tells harm: it cannot be won, nor turned round.",
                remedy="Make it a guardrail, a signal or a dry run, and leave higher_is out.",
                metric=metric.name,
            )
        if metric.name in LATENCIES and metric.margin_is == "absolute":
            raise InvalidRollout(
                f"Two {metric.name}s are compared by their ratio.",
                remedy="Give a relative margin; for milliseconds there is limits.p99_ms.",
                metric=metric.name,
            )
        if metric.name in (OUTPUT_SHIFT, AGREEMENT) and not (
            metric.margin_is == "absolute" and metric.margin < 1
        ):
            raise InvalidRollout(
                f"The margin of {metric.name!r} is a share of the answers.",
                remedy="Give an absolute margin below 1, such as 0.25.",
                metric=metric.name,
            )
    elif outcomes is not None and metric.name not in outcomes:
        known = [*BUILT_IN, *sorted(outcomes)]
        near = difflib.get_close_matches(metric.name, known, n=1, cutoff=0.4)
        meant = f"Did you mean {near[0]!r}? " if near else ""
        raise InvalidRollout(
            f"Nothing measures {metric.name!r}.",
            remedy=f"{meant}Known: {', '.join(known)}. An outcome is known once the model had one.",
            metric=metric.name,
        )


def _verify_limits(limits: Limits) -> None:
    if limits.error_rate is not None and not 0 < limits.error_rate < 1:
        raise InvalidRollout(
            f"limits.error_rate is {limits.error_rate:g}.",
            remedy="Give a share such as 0.01, or null for none.",
        )
    if limits.p99_ms is not None and not 0 < limits.p99_ms < math.inf:
        raise InvalidRollout(
            f"limits.p99_ms is {limits.p99_ms:g}.", remedy="Give milliseconds such as 500, or null for none."
        )


def _verify_duration(name: str, seconds: float) -> None:
    if not 0 <= seconds < math.inf:
        raise InvalidRollout(f"{name} is {seconds:g} s.", remedy="Give 0 s or more.")


def _shown(step: Step) -> str:
    return f"a mirror of {step.mirror:g} %" if step.mirror else f"a weight of {step.weight:g} %"
