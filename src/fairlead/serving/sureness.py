"""How sure answers are, as tensors: for callers whose protocol has nothing but named tensors, when they ask.

Of a number `uncertainty_low` and `uncertainty_high` are the ends of its interval (FP64, [rows]), NaN where
nothing is said. Of a class with probabilities `uncertainty_set` tells of each class whether it is in the set
(BOOL, [rows, classes]); where nothing is said each may be the right one, and all are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fairlead.runtimes.base import Array
from fairlead.runtimes.tables import Answers
from fairlead.serving.live import LiveArm

__all__ = ["askable", "with_sureness"]

_LOW, _HIGH, _SET = "uncertainty_low", "uncertainty_high", "uncertainty_set"


def askable(arm: LiveArm) -> tuple[str, ...]:
    """The outputs that may be asked for beside the model's own: whether or not the version says how sure it
    is, so that a caller need not know which version a request will get."""
    spec = arm.version.spec
    if spec.contract.output.kind == "number":
        return (_LOW, _HIGH)
    if spec.contract.output.kind == "class" and spec.runtime.outputs.probabilities is not None:
        return (_SET,)
    return ()


def with_sureness(
    arm: LiveArm, outputs: Mapping[str, Array], answers: Answers, wanted: Sequence[str], *, told: bool
) -> dict[str, Array]:
    """The outputs and those of the `wanted` that are missing among them. `arm` has answered; without `told`
    nothing is said, as of what no version answered."""
    said = arm.uncertainty if told else None
    found = dict(outputs)
    for name in wanted:
        if name in outputs:
            continue
        if name == _SET:
            assert answers.probabilities is not None
            shares = answers.probabilities.astype(np.float64)
            found[name] = np.ones(shares.shape, np.bool_) if said is None else 1.0 - shares <= said.quantile
        else:
            values = answers.values.astype(np.float64)
            reach = np.nan if said is None else said.quantile
            found[name] = values - reach if name == _LOW else values + reach
    return found
