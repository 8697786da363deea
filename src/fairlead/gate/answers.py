"""What a version answered to the rows of a gate, and the truth in the same terms. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from fairlead.contracts.contract import Output, Scalar, class_name
from fairlead.errors import InvalidGate

__all__ = ["Answers", "as_class", "named", "spelling", "spellings", "truth_of"]

Array = npt.NDArray[Any]


class Answers(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One version's answers, row by row: the prediction, the probabilities by class name where it gives any,
    and the code of the error of a row that it could not answer."""

    values: list[Any]
    probabilities: list[Mapping[str, float] | None]
    errors: list[str | None]

    @property
    def answered(self) -> Array:
        """Which rows have an answer."""
        return np.array([error is None for error in self.errors], bool)

    def chance_of(self, name: str) -> Array:
        """The probability of a class in every row; NaN where there is none."""
        return np.array(
            [np.nan if held is None else held.get(name, 0.0) for held in self.probabilities], np.float64
        )

    def part(self, start: int, stop: int) -> Answers:
        """The answers from row `start` up to `stop`."""
        return Answers(
            values=self.values[start:stop],
            probabilities=self.probabilities[start:stop],
            errors=self.errors[start:stop],
        )


def truth_of(output: Output, values: Sequence[Any], column: str) -> list[Any]:
    """The truth of each row as the model would answer it; None where the data do not say.

    A table may call a class otherwise than the contract does: "1", 1.0 and true all mean the class 1, unless
    they are classes themselves. `InvalidGate` names the first value that the model can never answer.
    """
    if output.kind == "number":
        for row, value in enumerate(values):
            if value is not None and (isinstance(value, bool | str) or not isinstance(value, int | float)):
                raise InvalidGate(
                    f"Row {row} of target {column!r} is {value!r}, and the model answers numbers.",
                    remedy="Name the column with the truth.",
                )
        return [None if value is None else float(value) for value in values]
    if output.kind != "class":
        raise InvalidGate(
            f"A {output.kind} cannot be compared with one true value.",
            remedy="Leave target and metrics out, and write tests.",
        )
    known = spellings(output.classes)
    found: list[Any] = []
    for row, value in enumerate(values):
        if value is None or not output.classes:
            found.append(value)
            continue
        written = spelling(value)
        if written not in known:
            classes = ", ".join(repr(one) for one in output.classes[:12])
            raise InvalidGate(
                f"Row {row} of target {column!r} is {value!r}, which is none of the classes.",
                remedy=f"The model answers one of {classes}.",
            )
        found.append(known[written])
    return found


def named(output: Output, value: Scalar, where: str) -> str:
    """The name that the class meant has in probabilities; raises as `as_class`."""
    return class_name(as_class(output, value, where))


def as_class(output: Output, value: Scalar, where: str) -> str | int | bool:
    """The class that is meant by a value in the document; `InvalidGate` when there is none."""
    known = spellings(output.classes)
    if output.kind != "class" or spelling(value) not in known:
        classes = ", ".join(repr(one) for one in output.classes[:12]) or "none"
        raise InvalidGate(
            f"{where} is {value!r}, which is no class of the model.", remedy=f"It has {classes}."
        )
    found: str | int | bool = known[spelling(value)]
    return found


def spellings(classes: Sequence[Any]) -> dict[str, Any]:
    """The classes by how they are written in data: as numbers, or as text."""
    found = {spelling(one): one for one in classes}
    if all(isinstance(one, bool) for one in classes):
        found |= {text: one for one in classes for text in (str(one), str(one).lower())}
    return found


def spelling(value: Any) -> str:
    """A value of the data as `spellings` has it: 1, 1.0, true and "1" are one."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
