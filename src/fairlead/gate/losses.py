"""The losses of a version, row by row, and one interval for how much worse a candidate is. Pure.

Per row, with y the truth, p the probabilities and v the prediction:

    accuracy   1 where v is another class than y, else 0
    log_loss   -ln p(y), p no less than 1e-15
    brier      (p(positive) - [y is positive])² with two classes, else the sum of that over all classes
    mae        |v - y|
    rmse       (v - y)², whose mean's root is compared: by its influence (v - y)² / (2 rmse) on each row
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from fairlead.contracts.contract import Output, class_name
from fairlead.errors import InvalidGate
from fairlead.experiments.fixed import paired
from fairlead.experiments.sequences import Interval
from fairlead.gate.answers import Answers
from fairlead.gate.spec import MetricName

__all__ = ["Compared", "compare", "losses", "value_of", "verify_metric"]

Array = npt.NDArray[Any]
_LEAST = 1e-15
_KINDS: dict[MetricName, str] = {
    "accuracy": "class",
    "log_loss": "class",
    "brier": "class",
    "mae": "number",
    "rmse": "number",
}


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """A metric of both versions on the same rows; `worse` is how much worse the candidate is, in the metric's
    unit."""

    candidate: float
    against: float
    worse: Interval


def verify_metric(name: MetricName, output: Output) -> None:
    """Raises `InvalidGate` where a model of that output has no such metric."""
    if _KINDS[name] != output.kind:
        fitting = ", ".join(one for one, kind in _KINDS.items() if kind == output.kind) or "none"
        raise InvalidGate(
            f"Metric {name!r} is of a {_KINDS[name]}, and the model answers a {output.kind}.",
            remedy=f"Metrics of a {output.kind}: {fitting}.",
        )


def losses(name: MetricName, output: Output, truth: Sequence[Any], answers: Answers) -> Array:
    """The loss of each row. Rows must have been answered, and their truth be known."""
    if name in ("mae", "rmse"):
        off = np.asarray(answers.values, np.float64) - np.asarray(truth, np.float64)
        return np.abs(off) if name == "mae" else off**2
    if name == "accuracy":
        pairs = zip(answers.values, truth, strict=True)
        return np.array([value != known for value, known in pairs], np.float64)
    if any(held is None for held in answers.probabilities):
        raise InvalidGate(
            f"Metric {name!r} needs probabilities, which a version does not give.", remedy="Use accuracy."
        )
    names = [class_name(one) for one in output.classes]
    true = [class_name(value) for value in truth]
    if name == "log_loss":
        chances = [held.get(one, 0.0) for held, one in zip(answers.probabilities, true, strict=True) if held]
        return -np.log(np.clip(np.asarray(chances, np.float64), _LEAST, 1.0))
    counted = names[1:] if len(names) == 2 else names
    total = np.zeros(len(true))
    for one in counted:
        happened = np.array([known == one for known in true], np.float64)
        total += (answers.chance_of(one) - happened) ** 2
    return total


def value_of(name: MetricName, loss: Array, weights: Array | None) -> float:
    """The metric over the rows; NaN without any weight."""
    if not len(loss) or (weights is not None and not weights.sum() > 0.0):
        return float("nan")
    mean = float(np.average(loss, weights=weights))
    if name == "accuracy":
        return 1.0 - mean
    return float(np.sqrt(mean)) if name == "rmse" else mean


def compare(
    name: MetricName, candidate: Array, against: Array, weights: Array | None, *, alpha: float
) -> Compared:
    """Both versions' values of the metric, and the interval of how much worse the candidate is."""
    ours, theirs = value_of(name, candidate, weights), value_of(name, against, weights)
    if name == "rmse":
        # The delta method: a mean's root moves with each row by its square over twice the root.
        candidate = candidate / (2.0 * ours) if ours > 0.0 else candidate
        against = against / (2.0 * theirs) if theirs > 0.0 else against
    worse = paired(candidate - against, weights, alpha=alpha, events=name == "accuracy")
    if name == "rmse" and worse.known:
        shift = (ours - theirs) - worse.estimate
        worse = msgspec.structs.replace(
            worse, estimate=ours - theirs, low=worse.low + shift, high=worse.high + shift
        )
    return Compared(candidate=ours, against=theirs, worse=worse)
