"""The leading features of an answer, beside the answer: what a gateway needs for it, and how it reads it off
a row. Pure.

Two kinds of models make it cheap. Where the score is a sum of what each feature does, a contribution is that
of the row's value less its mean over the reference rows, which is the Shapley value. For trees it is what the
decisions on the row's way did (`trees.py`). Both add up to the row's score less the mean score.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from fairlead.contracts.contract import Contract, class_name
from fairlead.runtimes.effects import Effect, lookup
from fairlead.runtimes.trees import Trees, Walk

__all__ = ["LEADING_FILE", "NO_LEADING", "TOP", "Contribution", "Leader", "Leading", "Scale", "Told"]

LEADING_FILE = "leading.json"
"""The name of the document among the files of a version."""
TOP = 5
"""So many features lead."""

Scale = Literal["number", "probability", "log_odds"]


class Contribution(msgspec.Struct, frozen=True, gc=False):
    """How far a feature moved the score, and whereto."""

    feature: str
    contribution: float


class Leading(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How contributions are read off a row.

    What is explained is, by `scale`, the number itself, the probability of the answered class, or its log
    odds: of two classes against the other one, of more against the (geometric) mean of all. `base` is the
    mean score over the reference rows, for each number that the score has: one, or one for each of more than
    two classes. Without `trees`, `effects` are what each feature does to those numbers, less the mean; else
    they make the columns that the trees ask, beside the `constants` of columns that no feature moves. A
    `reason` says why there is nothing of this.
    """

    scale: Scale = "number"
    base: tuple[float, ...] = ()
    effects: tuple[Effect, ...] = ()
    trees: Trees | None = None
    constants: tuple[float, ...] = ()
    reason: str = ""


NO_LEADING = Leading(
    reason="The version came without leading features: they are found when an ONNX model is registered with a"
    " reference."
)


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What the leading features of a version's answers are measured in, `scale`, and from which mean score,
    `base`: by class where it answers classes. Without either the `reason` says why its answers carry none."""

    scale: Scale | None = None
    base: float | dict[str, float] | None = None
    reason: str | None = None


class Leader:
    """Finds the leading features of rows that a version has answered."""

    def __init__(self, leading: Leading, contract: Contract) -> None:
        self.leading = leading
        self.names = contract.names
        self._places = {value: place for place, value in enumerate(contract.output.classes)}
        self._lookups = [lookup(effect) for effect in leading.effects]
        self._at = [list(effect.at) for effect in leading.effects]
        self._width = len(leading.base)
        self._walk = None if leading.trees is None else Walk(leading.trees, len(self.names))
        self._columns = self._columns_of()

    def top(self, row: Sequence[Any], value: Any) -> list[Contribution] | None:
        """The features that moved the score of that answer most, the largest first; none that did nothing.
        None where a value of the row was never seen when the version was registered."""
        found = self.contributions(row, value)
        if found is None:
            return None
        ranked = sorted(zip(self.names, found, strict=True), key=lambda one: -abs(one[1]))[:TOP]
        return [Contribution(name, moved) for name, moved in ranked if moved]

    def base(self, value: Any) -> float:
        """The mean score over the reference rows, of the class that is answered."""
        number, sign = self._number_of(value)
        mean = self._centre(self.leading.base)
        if sign < 0 and self.leading.scale == "probability":
            return 1.0 - self.leading.base[0]
        return sign * (self.leading.base[number] - mean)

    def told(self) -> Told:
        """What there is to know of them."""
        leading = self.leading
        if leading.reason:
            return Told(reason=leading.reason)
        if leading.scale == "number":
            return Told(scale=leading.scale, base=self.base(None))
        return Told(scale=leading.scale, base={class_name(one): self.base(one) for one in self._places})

    def contributions(self, row: Sequence[Any], value: Any) -> list[float] | None:
        """What each feature did, in contract order; with `base` they add up to the score. None as in
        `top`."""
        number, sign = self._number_of(value)
        if self._walk is None:
            found = self._summed(row, number)
        else:
            columns = self._columns(row)
            found = None if columns is None else self._walked(self._walk, columns, number)
        if found is None or not math.isfinite(sum(found)):
            return None
        return found if sign > 0 else [-one for one in found]

    def _number_of(self, value: Any) -> tuple[int, int]:
        """Which number of the score speaks of that answer, and whether for or against it."""
        if self.leading.scale == "number":
            return 0, 1
        place = self._places[value]
        return (place, 1) if self._width > 1 else (0, 1 if place else -1)

    def _centre(self, numbers: Sequence[float]) -> float:
        """What the score of a class is held against: the mean of all where there are more than two."""
        return sum(numbers) / self._width if self._width > 1 and self.leading.scale == "log_odds" else 0.0

    def _summed(self, row: Sequence[Any], number: int) -> list[float] | None:
        found = []
        for value, of, at in zip(row, self._lookups, self._at, strict=True):
            if not at:
                found.append(0.0)
                continue
            moved = of(value)
            if moved is None:
                return None
            # All numbers of a score move, or none does.
            found.append(moved[number] - self._centre(moved))
        return found

    def _walked(self, walk: Walk, columns: Any, number: int) -> list[float]:
        found = walk(columns, number)
        if self._width > 1 and self.leading.scale == "log_odds":
            found = found - sum(walk(columns, one) for one in range(self._width)) / self._width
        moved: list[float] = found.tolist()
        return moved

    def _columns_of(self) -> Callable[[Sequence[Any]], Any]:
        """Gives the columns that the trees ask, for a row."""
        if self.leading.effects and all(
            effect.at == (place,) and effect.slopes == (1.0,) and effect.offsets == (0.0,)
            and effect.null in (None, (None,))
            for place, effect in enumerate(self.leading.effects)
        ) and len(self.leading.constants) == len(self.leading.effects):  # fmt: skip
            return lambda row: np.array(row, np.float64)
        constants = np.array(self.leading.constants, np.float64)

        def columns(row: Sequence[Any]) -> Any:
            made = constants.copy()
            for value, of, at in zip(row, self._lookups, self._at, strict=True):
                if at:
                    held = of(value)
                    if held is None:
                        return None
                    made[at] = held
            return made

        return columns
