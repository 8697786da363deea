"""How a worker's model becomes a function of tensors: a pickle's object, or an ONNX file."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fairlead.engine.frames import Array, WorkerSpec

__all__ = ["Run", "callable_of", "load"]

Run = Callable[[Mapping[str, Array]], dict[str, Array]]


def load(spec: WorkerSpec) -> Run:
    """The model of that version; raises whatever loading it raises."""
    if spec.kind == "onnx":
        return _onnx(spec)
    return callable_of(_unpickled(Path(spec.folder) / spec.entry), spec.outputs, spec.names)


def _onnx(spec: WorkerSpec) -> Run:
    # Only here: a pickle's environment need not have ONNX Runtime.
    from fairlead.runtimes.base import OutputNames, RuntimeSpec
    from fairlead.runtimes.onnx import OnnxRuntime

    outputs = OutputNames(**spec.outputs)
    described = RuntimeSpec(kind="onnx", entry=spec.entry, binding="matrix", inputs=(), outputs=outputs)
    return OnnxRuntime(spec.folder, described, spec.threads).run


def callable_of(model: Any, wanted: Mapping[str, str], names: tuple[str, ...]) -> Run:
    """How to ask the object for the wanted outputs, the tensor's name for each part.

    An estimator gets a frame with the names that it was fitted with, else a matrix of the features in order,
    and NaN for null. Any other callable gets the columns by name, with NaN or None for null, and answers a
    mapping of arrays, or the one wanted array.
    """
    if hasattr(model, "predict"):
        return _estimator(model, wanted, names)
    if callable(model):
        return _function(model, wanted)
    raise TypeError(f"a {type(model).__qualname__} has no predict() and cannot be called")


def _estimator(model: Any, wanted: Mapping[str, str], names: tuple[str, ...]) -> Run:
    methods = {"label": "predict", "value": "predict", "probabilities": "predict_proba"}
    asked: dict[str, Callable[[Any], Any]] = {}
    for part, tensor in wanted.items():
        if part not in methods:
            raise TypeError(f"an estimator answers no {part}; a callable that returns a mapping can")
        if not hasattr(model, methods[part]):
            raise TypeError(f"the {type(model).__qualname__} has no {methods[part]}()")
        asked[tensor] = getattr(model, methods[part])
    rows = _frames(model, names) if hasattr(model, "feature_names_in_") else _matrices(names)

    def run(feed: Mapping[str, Array]) -> dict[str, Array]:
        given = rows(feed)
        return {tensor: np.asarray(method(given)) for tensor, method in asked.items()}

    return run


def _frames(model: Any, names: tuple[str, ...]) -> Callable[[Mapping[str, Array]], Any]:
    import pandas as pd

    fitted = [str(name) for name in model.feature_names_in_]

    def rows(feed: Mapping[str, Array]) -> Any:
        if names and set(feed).isdisjoint(names):
            (matrix,) = feed.values()
            return pd.DataFrame(matrix, columns=list(names))[fitted]
        columns = {name: _with_nan(column).reshape(len(column)) for name, column in feed.items()}
        return pd.DataFrame(columns)[fitted]

    return rows


def _matrices(names: tuple[str, ...]) -> Callable[[Mapping[str, Array]], Any]:
    def rows(feed: Mapping[str, Array]) -> Any:
        if len(feed) == 1:
            matrix = _with_nan(*feed.values())
            return matrix if matrix.ndim == 2 else matrix.reshape(-1, 1)
        return np.column_stack([_with_nan(feed[name]) for name in names or feed])

    return rows


def _with_nan(column: Array) -> Array:
    """Missing text is NaN in the frames that estimators are fitted on."""
    if column.dtype == object:
        column[column == None] = np.nan  # noqa: E711 - each element is compared
    return column


def _function(model: Any, wanted: Mapping[str, str]) -> Run:
    def run(feed: Mapping[str, Array]) -> dict[str, Array]:
        answer = model(dict(feed))
        if isinstance(answer, Mapping):
            missing = [tensor for tensor in wanted.values() if tensor not in answer]
            if missing:
                raise KeyError(f"the model answered {sorted(answer)} without {missing[0]!r}")
            return {tensor: np.asarray(answer[tensor]) for tensor in wanted.values()}
        if len(wanted) != 1:
            raise TypeError(f"the model must answer a mapping with {sorted(wanted.values())}")
        return {tensor: np.asarray(answer) for tensor in wanted.values()}

    return run


def _unpickled(path: Path) -> Any:
    """The pickled object; joblib's own format is tried second, since importing it takes a while."""
    try:
        with path.open("rb") as stream:
            return pickle.load(stream)
    except Exception as error:
        try:
            import joblib

            return joblib.load(path)
        except Exception:
            raise error from None
