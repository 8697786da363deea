"""The number of an answer that is explained: the probability of one class, or the number itself. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from fairlead.contracts.contract import Output, class_name
from fairlead.errors import NotExplainable
from fairlead.evaluation.scored import Scored

__all__ = ["Measure", "measure"]

Measure = Callable[[Scored], float | None]


def measure(output: Output, prediction: Any, probabilities: Any) -> tuple[str, Measure]:
    """In words what of an answer like this one is explained, and how to read it from an answer; None from
    rows that were not answered. Raises `NotExplainable` for lists and rankings."""
    match output.kind:
        case "number":
            return "the number", lambda scored: _number(scored, scored.prediction)
        case "class" if probabilities:
            name = class_name(prediction)
            return (
                f"the probability of {name}",
                lambda scored: _number(scored, (scored.probabilities or {}).get(name)),
            )
        case "class":
            # Without probabilities an answer is that class or another.
            return (
                f"whether it is {class_name(prediction)}",
                lambda scored: _number(scored, float(scored.prediction == prediction)),
            )
        case _:
            raise NotExplainable(
                f"The answer is a {output.kind}, and what is explained is a class or one number.",
                remedy="`fairlead replay` shows the answer again.",
            )


def _number(scored: Scored, value: Any) -> float | None:
    if scored.status != "ok" or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
