"""The original of a conversion: the person's model in the person's process, answering the reference rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fairlead.contracts.columns import bases_of
from fairlead.contracts.contract import Output
from fairlead.contracts.infer import split_target
from fairlead.contracts.table import Table
from fairlead.errors import ConversionRefused, FairleadError, InvalidReference, MissingExtra
from fairlead.runtimes.proof import Answers

__all__ = ["WORKER", "original_answers", "reference_rows", "short_reason"]

WORKER = "register the pickle itself with trust_pickle, which runs it in an isolated worker"


def reference_rows(model: Any, reference: Any, target: Any) -> tuple[Table, Any]:
    """The features as a table, and as the model's own `predict` takes them."""
    names = [str(name) for name in getattr(model, "feature_names_in_", [])]
    bases = bases_of(reference)
    is_matrix = isinstance(reference, np.ndarray)
    table, _ = split_target(reference, target, names or None)
    wanted = getattr(model, "n_features_in_", len(table.columns))
    if wanted != len(table.columns):
        raise InvalidReference(
            f"The model was fitted on {wanted} columns and the reference table has {len(table.columns)}.",
            remedy="Give exactly those columns; name the one that is the answer as target.",
        )
    if any(column.shape for column in table.columns):
        listed = next(column.name for column in table.columns if column.shape)
        raise InvalidReference(f"Column {listed!r} holds lists.", remedy="Give each number its own column.")
    if not names:
        return table, reference if is_matrix else _matrix(table)
    if "pandas.DataFrame" in bases:
        columns = {str(name): name for name in reference.columns}
        return table, reference[[columns[name] for name in names]]
    if "polars.DataFrame" in bases:
        return table, reference.select(names)
    return table, _frame(table)


def _matrix(table: Table) -> Any:
    if any(column.type == "string" for column in table.columns):
        return np.array(table.records(), dtype=object)
    return np.array(table.records(), dtype=np.float64)


def _frame(table: Table) -> Any:
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingExtra(
            "The model was fitted on named columns, which takes pandas.", remedy="pip install pandas"
        ) from error
    return pd.DataFrame({column.name: column.to_list() for column in table.columns})


def original_answers(
    model: Any, frame: Any, classes: Sequence[str | int | bool] | None
) -> tuple[Output, Answers]:
    """What the model predicts, and its own answers to the reference rows."""
    if not hasattr(model, "predict") or not hasattr(model, "get_params"):
        raise ConversionRefused(
            f"An object of type {type(model).__qualname__} is no scikit-learn model.",
            remedy=f"Export it to ONNX with its own library, or {WORKER}.",
        )
    try:
        predicted = np.asarray(model.predict(frame))
        # hasattr runs the model's own check of whether it knows probabilities.
        table = np.asarray(model.predict_proba(frame)) if hasattr(model, "predict_proba") else None
    except Exception as error:
        raise InvalidReference(
            f"The model cannot answer the reference rows itself: {short_reason(error)}",
            remedy="Fit the model first, and give rows as it was fitted on.",
        ) from error
    if hasattr(model, "classes_"):
        return _classes(model, predicted, table, classes)
    if predicted.dtype.kind not in "iuf":
        raise ConversionRefused(f"The model predicts {predicted.dtype}.", remedy=f"Perhaps {WORKER}.")
    values = predicted.reshape(len(predicted), -1).astype(np.float64)
    width = values.shape[1]
    output = Output(kind="number") if width == 1 else Output(kind="vector", length=width)
    return output, Answers(compared="values", values=values.tolist())


def _classes(
    model: Any, predicted: Any, table: Any, classes: Sequence[str | int | bool] | None
) -> tuple[Output, Answers]:
    if predicted.ndim != 1:
        raise ConversionRefused(
            "The model predicts several labels at once.", remedy=f"Register a model per label, or {WORKER}."
        )
    own = [_plain(value) for value in model.classes_]
    names = own if classes is None else list(classes)
    if len(names) != len(own):
        raise ConversionRefused(
            f"{len(names)} class names were given for the {len(own)} classes {own}.",
            remedy="Name each class, in the order of the model's classes_.",
        )
    if table is None and names != own:
        raise ConversionRefused(
            "The model knows no probabilities, so its classes cannot be renamed.", remedy="Leave classes out."
        )
    named = dict(zip(own, names, strict=True))
    answers = Answers(
        compared="labels" if table is None else "probabilities",
        values=[named[_plain(value)] for value in predicted],
        probabilities=table,
        renamed=names != own,
    )
    return Output(kind="class", classes=tuple(names)), answers


def _plain(value: Any) -> Any:
    """A label as plain Python. Where labels are floats they are whole, and ONNX makes integers of them."""
    plain = value.item() if isinstance(value, np.generic) else value
    return int(plain) if isinstance(plain, float) else plain


def short_reason(error: Exception) -> str:
    """What an error of any library says, in one sentence of at most 240 characters."""
    reason = error.message if isinstance(error, FairleadError) else " ".join(str(error).split())
    reason = reason.partition(" You may raise an issue")[0] or type(error).__name__
    return (reason if len(reason) <= 240 else reason[:239] + "…").rstrip(".") + "."
