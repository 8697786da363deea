"""From what a person wrote, or the flags of a command, to the spec of a rollout.

Both ways answer a spec that has been verified. Unknown keys are refused with the nearest known one, so that a
typing error never becomes a default.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from fairlead.contracts.durations import seconds_of
from fairlead.contracts.keys import known_keys, misfit
from fairlead.errors import InvalidRollout
from fairlead.rollouts.spec import WATCHED, WHOLE, Limits, Metric, RolloutSpec, Step, Strategy

__all__ = ["preset", "read_spec"]

_MINUTE, _DAY = 60.0, 86_400.0
_LADDER = (1.0, 5.0, 25.0, 50.0, 100.0)
_SHADOW = Step(mirror=100.0, events=0, deadline=30 * _MINUTE, inconclusive="advance")
"""Copies that come before a canary. They show crashes and errors for free, and are no condition: rows that
come as arrays are not copied, and a gateway that is busy makes none."""
_PARTS: dict[str, type[msgspec.Struct]] = {"steps": Step, "metrics": Metric}
_DURATIONS = {"bake", "minimum", "deadline", "window"}


def read_spec(document: object, outcomes: Collection[str] | None = None) -> RolloutSpec:
    """The verified spec of a mapping out of YAML, TOML or JSON; durations are seconds or like `10m`."""
    plain = _plain(document, RolloutSpec, "the rollout")
    try:
        spec = msgspec.convert(plain, RolloutSpec)
    except msgspec.ValidationError as error:
        told, instead = misfit(error, RolloutSpec, "The rollout")
        raise InvalidRollout(
            told,
            remedy=instead
            or "Correct that value: percents and shares are numbers, durations too or like '10m'.",
        ) from error
    return spec.verify(outcomes)


def preset(
    strategy: Strategy = "canary",
    *,
    weight: float | None = None,
    steps: Sequence[float] | None = None,
    bake: float | str | None = None,
    metrics: Sequence[Metric] = (),
    shadow: bool = False,
) -> RolloutSpec:
    """The verified spec that a strategy has by itself. Only what is given differs from it.

    A canary takes 1, 5, 25, 50 and 100 percent; `weight` is where it begins instead, `steps` are all of them.
    `shadow` lets ten minutes of copies of the requests come first; where copies cannot be had or judged, the
    first canary follows after half an hour. An `ab` gives
    `weight` percent, half unless told, for as long as its goal among `metrics` needs, up to two weeks, and is
    promoted only after a person agreed. A shadow copies `weight` percent of the requests, all unless told.
    """
    if steps is not None and weight is not None:
        raise InvalidRollout("A weight and steps are given.", remedy="Give one of the two.")
    if strategy in WHOLE and (steps or weight is not None):
        raise InvalidRollout(
            f"Strategy {strategy!r} moves everything at once: it takes no weight and no steps.",
            remedy="Leave them out, or choose the strategy 'canary'.",
        )
    chosen: tuple[Step, ...]
    if strategy in WHOLE:
        chosen = ()
    elif strategy == "shadow":
        chosen = tuple(Step(mirror=percent) for percent in steps or (100.0 if weight is None else weight,))
    elif strategy == "ab":
        chosen = tuple(
            Step(weight=percent, minimum=_DAY, units=1000, deadline=14 * _DAY, approval=True)
            for percent in steps or (50.0 if weight is None else weight,)
        )
    else:
        chosen = tuple(_canary_step(percent) for percent in _percents(weight, steps))
        if shadow:
            chosen = (_SHADOW, *chosen)
    watching = 0.0 if strategy in ("direct", "shadow") else 10 * _MINUTE
    return RolloutSpec(
        strategy=strategy,
        steps=chosen,
        bake=watching if bake is None else seconds_of("bake", bake, InvalidRollout),
        metrics=tuple(metrics),
    ).verify()


# --- the parts ----------------------------------------------------------------------------------------------


def _percents(weight: float | None, steps: Sequence[float] | None) -> tuple[float, ...]:
    if steps is not None:
        return tuple(steps)
    if weight is None:
        return _LADDER
    return (weight, *(percent for percent in _LADDER if percent > weight))


def _canary_step(percent: float) -> Step:
    """The promotion waits for nothing: what was to be seen has been seen in the step before."""
    return Step(weight=percent, minimum=0.0, events=0) if percent == 100 else Step(weight=percent)


def _plain(document: object, kind: type[msgspec.Struct], where: str) -> dict[str, Any]:
    """The document with durations in seconds; an unknown key is refused with the nearest known one."""
    found: dict[str, Any] = {}
    for key, value in known_keys(document, kind.__struct_fields__, where, InvalidRollout).items():
        if key in _PARTS and isinstance(value, list | tuple):
            value = [_plain(item, _PARTS[key], f"{key}[{index}]") for index, item in enumerate(value)]
        elif key == "limits":
            value = _plain(value, Limits, "limits")
        if key in _DURATIONS:
            value = seconds_of(f"{key} of {where}", value, InvalidRollout)
        found[key] = value
    if kind is Step and found.get("weight") == 100:
        found = {"minimum": 0.0, "events": 0, **found}
    if kind is Metric:
        # What is not said of a metric that is always there stays as it always is.
        always = [metric for metric in WATCHED if metric.name == found.get("name")]
        found = {**(msgspec.to_builtins(always[0]) if always else {}), **found}
    return found
