"""A fitted model, arranged for conversion: what it computes stays, where it rounds to float32 is chosen.

scikit-learn transforms in double precision and most of its trees then compare in single precision. A model
that rounds earlier or later takes another branch for values next to a threshold, so every arrangement must
be proven. The caller's model is never changed: containers are copied, fitted parts are shared.

Importing this file imports scikit-learn and skl2onnx.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from skl2onnx.sklapi import CastTransformer
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

__all__ = ["Rounding", "final_estimator", "rearranged", "roundings", "unwrapped"]

Rounding = Literal["never", "last", "first"]
"""When numbers become float32: never, just before the final estimator, or before everything."""


def unwrapped(model: Any) -> Any:
    """The model that a finished search found; any other model itself."""
    return getattr(model, "best_estimator_", model)


def final_estimator(model: Any) -> Any:
    """The last step of a pipeline; any other model itself."""
    while isinstance(model, Pipeline):
        model = model.steps[-1][1]
    return model


def roundings(model: Any) -> tuple[Rounding, ...]:
    """The arrangements worth trying, the most faithful first."""
    # Trees compare float32 with their thresholds; what ONNX Runtime makes of doubles is another model.
    module = type(final_estimator(model)).__module__
    if module.startswith(("sklearn.tree", "sklearn.ensemble")):
        return ("last", "first")
    return ("never", "last", "first")


def rearranged(model: Any, rounding: Rounding, is_number: Sequence[bool]) -> Any:
    """A copy of the model that rounds where it is told to.

    `is_number` says for each column of the input whether it holds numbers.
    """
    steps = model.steps if isinstance(model, Pipeline) else [("model", model)]
    inner = _Arranger(np.float32 if rounding == "first" else np.float64)
    before: list[tuple[str, Any]] = []
    if rounding == "first" and all(is_number):
        before.append(("round", _cast(np.float32)))
    for name, step in steps[:-1]:
        if step is not None and step != "passthrough":
            before.append((name, inner.transformer(step, is_number if not before else None)))
    if rounding != "never":
        before.append(("round_last", _cast(np.float32)))
    last = _estimator(steps[-1][1])
    return Pipeline([*before, (steps[-1][0], last)]) if before else last


class _Arranger:
    """Copies transformers so that all that meet again afterwards have one type."""

    def __init__(self, dtype: Any) -> None:
        self._dtype = dtype

    def transformer(self, transformer: Any, is_number: Sequence[bool] | None) -> Any:
        """`is_number` is None where the columns are no longer those of the input."""
        if isinstance(transformer, Pipeline):
            steps = [(name, step) for name, step in transformer.steps if step not in (None, "passthrough")]
            kinds = [is_number, *[None] * len(steps)]
            return Pipeline(
                [
                    (name, self.transformer(step, kind))
                    for (name, step), kind in zip(steps, kinds, strict=False)
                ]
            )
        if isinstance(transformer, ColumnTransformer):
            return self._columns(transformer, is_number)
        if isinstance(transformer, FeatureUnion):
            union = copy.copy(transformer)
            union.transformer_list = [
                (name, self._branch(part, is_number, rounds_first=False))
                for name, part in transformer.transformer_list
                if part not in (None, "drop")
            ]
            return union
        if isinstance(transformer, OneHotEncoder):
            return _with_blank_category(transformer)
        return transformer

    def _columns(self, transformer: Any, is_number: Sequence[bool] | None) -> Any:
        copied = copy.copy(transformer)
        copied.transformers_ = []
        for name, part, _ in transformer.transformers_:
            # The columns may be given as names, masks, slices or a function; resolved, they are positions.
            indices = list(transformer._transformer_to_input_indices[name])
            if part == "drop" or not indices:
                continue
            kinds = None if is_number is None else [is_number[index] for index in indices]
            rounds_first = self._dtype is np.float32 and kinds is not None and all(kinds)
            copied.transformers_.append((name, self._branch(part, kinds, rounds_first=rounds_first), indices))
        return copied

    def _branch(self, part: Any, is_number: Sequence[bool] | None, *, rounds_first: bool) -> Any:
        cast = _cast(self._dtype)
        is_identity = isinstance(part, FunctionTransformer) and part.func is None
        if isinstance(part, str) or is_identity:
            return cast
        steps = [("part", self.transformer(part, is_number)), ("unify", cast)]
        return Pipeline([("round", _cast(np.float32)), *steps] if rounds_first else steps)


def _with_blank_category(encoder: Any) -> Any:
    """Missing text reaches a model as the empty string; the encoder knows it as None or NaN."""
    categories = [
        np.array(["" if value is None or value != value else value for value in known], dtype=object)
        if known.dtype == object and not (known == "").any()
        else known
        for known in encoder.categories_
    ]
    copied = copy.copy(encoder)
    copied.categories_ = categories
    return copied


def _estimator(estimator: Any) -> Any:
    if getattr(estimator, "flatten_transform", False) is True:
        # It shapes what a voting classifier's transform() gives, never a prediction.
        estimator = copy.copy(estimator)
        estimator.flatten_transform = False
    return estimator


def _cast(dtype: Any) -> Any:
    return CastTransformer(dtype=dtype)
