"""The proof of a conversion: every reference row through the original, and as a request will be served."""

from __future__ import annotations

import itertools
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np

from fairlead.contracts.contract import Contract
from fairlead.contracts.table import Table
from fairlead.runtimes.base import Array, Runtime
from fairlead.runtimes.binding import Binding, Prediction

__all__ = ["Answers", "Compared", "Proof", "compare", "serve"]

Compared = Literal["probabilities", "values", "labels"]

_ONE_BY_ONE = 32
_BLOCK = 1_000


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """How far the converted model is from the original on the reference rows.

    `compared` says what: probabilities (differences are absolute), values (differences are relative to the
    value, or to the mean absolute value of all where that is larger), or only labels, for classifiers that
    know no probabilities. A row is off when it differs by more than `tolerance` or has another label; a label
    may flip where the original's two best probabilities are a tie within the tolerance. `share_off` is the
    share of rows that are off, `max_difference` is measured like the tolerance, `max_abs_difference` plainly.
    """

    rows: int
    compared: Compared
    tolerance: float
    share_off: float
    max_difference: float
    max_abs_difference: float
    label_flips: int
    rounding: str
    versions: dict[str, str]

    @property
    def holds(self) -> bool:
        """Whether no row is off."""
        return self.share_off == 0.0


class Answers(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What the original answers to the rows: labels or numbers, and probabilities [rows, classes] if any.

    `renamed` tells that the labels are not the model's own.
    """

    compared: Compared
    values: list[Any]
    probabilities: Array | None = None
    renamed: bool = False


def serve(table: Table, contract: Contract, runtime: Runtime, binding: Binding) -> list[Prediction]:
    """The predictions of the reference rows through the path of a request: rows, tensors, model, decoding.

    The first rows go one by one, as requests do, the others in blocks; models may compute them differently.
    """
    whole = table.select(contract.names)
    cuts = [*range(min(_ONE_BY_ONE, table.rows)), *range(_ONE_BY_ONE, table.rows, _BLOCK), table.rows]
    served: list[Prediction] = []
    for start, stop in itertools.pairwise(cuts):
        rows = whole.records(start, stop)
        served += binding.decode(runtime.run(binding.encode(rows)), len(rows))
    return served


def compare(
    expected: Answers, served: list[Prediction], tolerance: float, *, rounding: str, versions: dict[str, str]
) -> Proof:
    """The proof that these answers give."""
    match expected.compared:
        case "probabilities":
            measured = _measure_probabilities(expected, served, tolerance)
        case "values":
            measured = _measure_values(expected, served, tolerance)
        case "labels":
            flips = _flips(expected, served)
            measured = _Measured(flips, np.zeros(1), np.zeros(1), int(flips.sum()))
    return Proof(
        rows=len(served),
        compared=expected.compared,
        tolerance=tolerance,
        share_off=float(measured.off.mean()),
        max_difference=float(measured.differences.max()),
        max_abs_difference=float(measured.plain.max()),
        label_flips=measured.flips,
        rounding=rounding,
        versions=versions,
    )


class _Measured(NamedTuple):
    off: Array
    differences: Array
    plain: Array
    flips: int


def _measure_probabilities(expected: Answers, served: list[Prediction], tolerance: float) -> _Measured:
    known = np.asarray(expected.probabilities, np.float64)
    plain = np.abs(np.asarray([prediction.probabilities for prediction in served], np.float64) - known)
    flips = _flips(expected, served)
    best = np.sort(known, axis=1)[:, -2:]
    tie = best[:, -1] - best[:, 0] <= 2 * tolerance
    off: Array = ~(plain <= tolerance).all(axis=1) | (flips & ~tie)
    return _Measured(off, plain, plain, int(flips.sum()))


def _measure_values(expected: Answers, served: list[Prediction], tolerance: float) -> _Measured:
    known = np.asarray(expected.values, np.float64).reshape(len(served), -1)
    answered = np.asarray([prediction.value for prediction in served], np.float64).reshape(known.shape)
    plain = np.abs(answered - known)
    mean = np.abs(known).mean(axis=0)
    differences = plain / np.maximum(np.abs(known), np.where(mean > 0, mean, 1.0))
    off: Array = np.logical_not((differences <= tolerance).all(axis=1))
    return _Measured(off, differences, plain, 0)


def _flips(expected: Answers, served: list[Prediction]) -> Array:
    return np.array([a != b.value for a, b in zip(expected.values, served, strict=True)], dtype=bool)
