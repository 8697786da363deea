"""How sure an answer is: intervals around numbers, and sets of classes, by split conformal prediction.

Rows that the model has not learnt from are scored: numbers by |label - answer|, classes by one minus the
probability of the label's class (LAC). The quantile is the ceil((n + 1) * coverage)-th smallest score. If
rows to come are like these (exchangeable), their scores stay within it with a chance of at least `coverage`
(Vovk et al., Algorithmic Learning in a Random World, 2005; Sadinle et al., JASA 114, 2019).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

import msgspec

from fairlead.contracts.contract import Output, Scalar
from fairlead.errors import MalformedRequest

__all__ = ["COVERAGE", "ClassSet", "Interval", "Uncertainty", "conformal_quantile", "least_rows"]

COVERAGE = 0.9
"""Nine of ten labels shall lie within."""


class Interval(msgspec.Struct, frozen=True, gc=False, tag="interval", tag_field="kind"):
    """The label lies from `low` to `high` with a chance of `coverage`."""

    low: float
    high: float
    coverage: float


class ClassSet(msgspec.Struct, frozen=True, gc=False, tag="set", tag_field="kind"):
    """The label is one of `classes` with a chance of `coverage`. None of them where no class is likely
    enough: the model knows too little of such a row."""

    classes: list[Scalar]
    coverage: float


class Uncertainty(msgspec.Struct, frozen=True, kw_only=True):
    """What it takes to say how sure a version's answers are: the quantile of the scores of `n` rows.

    An `interval` reaches `quantile` to both sides of the number. A `set` holds the classes of which one minus
    the probability is at most `quantile`. `optimistic`: the rows may be among those that the model was
    trained on, so less than `coverage` may lie within.
    """

    kind: Literal["interval", "set"]
    quantile: Annotated[float, msgspec.Meta(ge=0.0)]
    n: Annotated[int, msgspec.Meta(ge=1)]
    coverage: Annotated[float, msgspec.Meta(gt=0.0, lt=1.0)] = COVERAGE
    optimistic: bool = False

    def verify(self, output: Output) -> None:
        """Raises `MalformedRequest` when it does not fit what the model answers."""
        if not math.isfinite(self.quantile):
            raise MalformedRequest(
                f"The quantile of the uncertainty is {self.quantile}.", remedy="Leave the uncertainty out."
            )
        if {"interval": "number", "set": "class"}[self.kind] != output.kind:
            raise MalformedRequest(
                f"An uncertainty of kind {self.kind!r} does not fit a model that answers a {output.kind}.",
                remedy="Numbers take an interval and classes a set.",
            )

    def told(
        self, value: Any, probabilities: Sequence[float] | None, classes: Sequence[Scalar]
    ) -> Interval | ClassSet | None:
        """How sure an answer is. `probabilities` are in the order of `classes`; None where they are missing
        or the number is none."""
        if self.kind == "interval":
            reach = self.quantile
            return Interval(value - reach, value + reach, self.coverage) if math.isfinite(value) else None
        if probabilities is None:
            return None
        most = self.quantile
        within = [one for one, share in zip(classes, probabilities, strict=False) if 1.0 - share <= most]
        return ClassSet(within, self.coverage)


def conformal_quantile(scores: Iterable[float], coverage: float = COVERAGE) -> float:
    """The ceil((n + 1) * coverage)-th smallest of n scores; infinite where there are fewer than that."""
    held = sorted(map(float, scores))
    # What the product is off by rounding is no row more: 10 * 0.9 is 9.
    rank = math.ceil((len(held) + 1) * coverage - 1e-9)
    return math.inf if rank > len(held) else held[rank - 1]


def least_rows(coverage: float = COVERAGE) -> int:
    """So many rows have a finite quantile, and no fewer do."""
    return math.ceil(coverage / (1.0 - coverage) - 1e-9)
