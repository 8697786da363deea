"""How sure a model's answers are, found where the person is: its answers to rows whose labels are known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

from fairlead.contracts.adaptive import thinned
from fairlead.contracts.contract import Contract, class_name
from fairlead.contracts.infer import split_target
from fairlead.contracts.table import Column, Table
from fairlead.contracts.uncertainty import COVERAGE, Uncertainty, conformal_quantile, least_rows
from fairlead.errors import InvalidReference
from fairlead.runtimes.base import RuntimeSpec

if TYPE_CHECKING:
    from fairlead.runtimes.binding import Prediction

__all__ = ["known_rows", "served_rows", "uncertainty_of"]

MOST_ROWS = 20_000
"""More rows say little more: of so many, what lies within is off by 0.2 points (one standard deviation)."""


def known_rows(rows: Any, target: Any, contract: Contract) -> tuple[Table, Column]:
    """The features of the rows as the contract orders them, and their labels: those rows that have one, at
    most `MOST_ROWS` of them, drawn by chance (the same ones each time).

    `rows` and `target` are as in `register`. Raises `InvalidReference`.
    """
    columns = None
    if isinstance(rows, np.ndarray) and rows.ndim == 2:
        width = rows.shape[1] - isinstance(target, str)
        columns = contract.names if width == len(contract.names) else None
    table, labels = split_target(rows, target, columns)
    if labels is None:
        raise InvalidReference("The rows have no labels.", remedy="Give the answers as the target.")
    places = np.flatnonzero(~labels.null)
    if len(places) > MOST_ROWS:
        places = np.sort(np.random.default_rng(0).choice(places, MOST_ROWS, replace=False))
    held = tuple(_at(column, places) for column in table.select(contract.names).columns)
    return Table(columns=held, rows=len(places)), _at(labels, places)


def served_rows(folder: Path, runtime: RuntimeSpec, contract: Contract, table: Table) -> list[Prediction]:
    """The answers of the ONNX model in that folder, by the way of a request."""
    from fairlead.runtimes.binding import Binding
    from fairlead.runtimes.onnx import OnnxRuntime
    from fairlead.runtimes.proof import serve

    session = OnnxRuntime(folder, runtime)
    try:
        return serve(table, contract, session, Binding(contract, runtime))
    finally:
        session.close()


def uncertainty_of(
    contract: Contract, answers: Sequence[Prediction], labels: Column, *, optimistic: bool
) -> tuple[Uncertainty, tuple[float, ...]]:
    """The quantile that covers nine of ten labels, and the scores that it may later be moved by.

    Raises `InvalidReference` where none can be told: other answers than numbers and classes with
    probabilities, labels that are none, too few rows.
    """
    if len(answers) < least_rows():
        raise InvalidReference(
            f"{len(answers)} rows with a label are too few to say how sure answers are.",
            remedy=f"Give at least {least_rows()}; some hundreds are better.",
        )
    kind: Literal["interval", "set"]
    match contract.output.kind:
        case "number":
            kind, scores = "interval", _distances(answers, labels)
        case "class":
            kind, scores = "set", _improbabilities(contract, answers, labels)
        case other:
            raise InvalidReference(
                f"The model answers a {other}, of which no uncertainty is known.",
                remedy="Leave calibration out: it is for numbers and classes.",
            )
    quantile = conformal_quantile(scores)
    if not math.isfinite(quantile):
        raise InvalidReference(
            f"More than {1.0 - COVERAGE:.0%} of the model's answers to these rows are no finite number, or "
            "their labels are none.",
            remedy="Correct the rows.",
        )
    said = Uncertainty(kind=kind, quantile=quantile, n=len(answers), optimistic=optimistic)
    return said, thinned(scores)


def _distances(answers: Sequence[Prediction], labels: Column) -> Any:
    if labels.shape or labels.type == "string":
        raise InvalidReference(
            f"The model answers numbers, and column {labels.name!r} of labels is text or lists.",
            remedy="Give the numbers that the model shall answer.",
        )
    off = np.abs(np.array([one.value for one in answers], np.float64) - labels.values.astype(np.float64))
    return np.where(np.isfinite(off), off, np.inf)


def _improbabilities(contract: Contract, answers: Sequence[Prediction], labels: Column) -> Any:
    places = {class_name(one): place for place, one in enumerate(contract.output.classes)}
    scores = []
    for answer, label in zip(answers, labels.to_list(), strict=True):
        held = answer.probabilities
        if held is None:
            raise InvalidReference(
                "The model gives no probabilities, without which nothing says how sure its classes are.",
                remedy="Leave calibration out.",
            )
        place = places.get(_named(label))
        if place is None:
            raise InvalidReference(
                f"The label {label!r} is none of the model's classes {list(contract.output.classes)}.",
                remedy="Give labels as the model names its classes.",
            )
        scores.append(1.0 - held[place])
    found = np.array(scores, np.float64)
    return np.where(np.isfinite(found), found, np.inf)


def _named(label: Any) -> str:
    """Labels that are whole floats are classes that are integers, as in `runtimes.original`."""
    return class_name(int(label) if isinstance(label, float) and label.is_integer() else label)


def _at(column: Column, places: Any) -> Column:
    return msgspec.structs.replace(column, values=column.values[places], null=column.null[places])
