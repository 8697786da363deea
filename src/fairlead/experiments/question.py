"""What an experiment asks, and what was seen of it: the aggregates that a report is built from."""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import Literal

import msgspec

from fairlead.experiments.aggregates import Mean, Proportion, Ratio
from fairlead.experiments.sequences import Arm
from fairlead.experiments.strata import Stratum

__all__ = ["Evidence", "Kind", "Question", "Seen"]

Kind = Literal["goal", "guardrail", "signal", "dry-run"]


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """One metric: the name of an outcome, or two with `/` between, whose sums are divided.

    `margin` is how much does not matter, in the metric's unit or as a share of control's value; `window` so
    many seconds from a unit's first exposure its outcomes count, 0 all that have come.
    """

    name: str
    kind: Kind = "dry-run"
    margin: float = 0.0
    margin_is: Literal["absolute", "relative"] = "relative"
    higher_is: Literal["better", "worse"] = "better"
    window: float = 0.0


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the units by one question, stratum by stratum.

    `removed` is the share of the variance that was foreseeable from before the first exposure, `foreseen` of
    how many units something was known. `problem` says why nothing is known.
    """

    question: Question
    strata: tuple[Stratum, ...] = ()
    removed: float = 0.0
    foreseen: int = 0
    problem: str | None = None

    @property
    def arms(self) -> tuple[Arm, Arm]:
        """Control and treated over all strata."""
        return self._sum([s.control for s in self.strata]), self._sum([s.treated for s in self.strata])

    @property
    def shape(self) -> Literal["proportion", "mean", "ratio"]:
        """What kind of number the metric is."""
        control, _ = self.arms
        return (
            "proportion"
            if isinstance(control, Proportion)
            else "ratio"
            if isinstance(control, Ratio)
            else "mean"
        )

    def _sum(self, arms: list[Arm]) -> Arm:
        return reduce(add, arms) if arms else Mean()


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment as it was seen: the units that met each arm first, and the evidence per question.

    `split` has per stratum the units of control, of the treated arm, and the treated arm's share as drawn.
    `days` lie between the first and the last first exposure. `switched` units met the other arm later.
    """

    control: str
    treated: str
    split: tuple[tuple[int, int, float], ...] = ()
    days: float = 0.0
    switched: int = 0
    evidence: tuple[Evidence, ...] = ()

    @property
    def units(self) -> int:
        """How many units were met."""
        return sum(a + b for a, b, _ in self.split)
