"""Transformers that skl2onnx cannot convert in double precision, or not at all, as plain ONNX operators.

Importing this file imports skl2onnx.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from skl2onnx._parse import _parse_sklearn_simple_model
from skl2onnx.common.data_types import StringTensorType, guess_proto_type
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import LinearSVC

__all__ = ["CONVERTERS", "PARSERS", "SHAPES"]

# numpy function → ONNX operators, applied in turn. What starts with a number first adds it.
_FUNCTIONS: dict[str, tuple[str | float, ...]] = {
    "log1p": (1.0, "Log"),
    "expm1": ("Exp", -1.0),
    "log": ("Log",),
    "exp": ("Exp",),
    "sqrt": ("Sqrt",),
    "absolute": ("Abs",),
    "sin": ("Sin",),
    "cos": ("Cos",),
    "tanh": ("Tanh",),
}


def _same_shape(operator: Any) -> None:
    """As many columns out as in, of the same type."""
    kind = operator.inputs[0].type
    operator.outputs[0].type = kind.__class__([None, kind.shape[1]])


def _imputed_shape(operator: Any) -> None:
    kept = len(_kept(operator.raw_operator))
    operator.outputs[0].type = operator.inputs[0].type.__class__([None, kept])


def _kept(imputer: Any) -> list[int]:
    """The columns that the imputer keeps: one without any value in the training data is dropped."""
    known = [value == value and value is not None for value in imputer.statistics_]
    return [index for index, is_known in enumerate(known) if is_known]


def _convert_imputer(scope: Any, operator: Any, container: Any) -> None:
    """`SimpleImputer`: ONNX's own Imputer exists for float32 alone, and rounding comes last.

    In text a missing value is the empty string, which is how null reaches a model.
    """
    imputer, source = operator.raw_operator, operator.inputs[0]
    if imputer.add_indicator:
        raise NotImplementedError("SimpleImputer with add_indicator=True is not supported")
    is_text = isinstance(source.type, StringTensorType)
    kept = _kept(imputer)
    fill = np.asarray(imputer.statistics_)[kept]
    proto = guess_proto_type(source.type)
    columns = source.full_name
    if len(kept) < len(imputer.statistics_):
        indices = scope.get_unique_variable_name("kept")
        container.add_initializer(indices, _INT64, [len(kept)], kept)
        columns = scope.get_unique_variable_name("kept_columns")
        container.add_node("Gather", [source.full_name, indices], columns, axis=1, op_version=13)
    filling = scope.get_unique_variable_name("fill")
    texts = [str(value).encode() for value in fill] if is_text else fill.astype(np.float64).tolist()
    container.add_initializer(filling, proto, [1, len(kept)], texts)
    missing = scope.get_unique_variable_name("missing")
    marker = imputer.missing_values
    if not is_text and isinstance(marker, float) and marker != marker:
        container.add_node("IsNaN", columns, missing, op_version=13)
    else:
        if not is_text and not isinstance(marker, int | float):
            raise NotImplementedError(f"SimpleImputer with missing_values={marker!r} is not supported")
        blank = scope.get_unique_variable_name("blank")
        text = marker if isinstance(marker, str) else ""
        container.add_initializer(blank, proto, [1], [text.encode()] if is_text else [float(marker)])
        container.add_node("Equal", [columns, blank], missing, op_version=19)
    answer = operator.outputs[0].full_name
    container.add_node("Where", [missing, filling, columns], answer, op_version=16)


def _convert_function(scope: Any, operator: Any, container: Any) -> None:
    """`FunctionTransformer` of nothing, or of a numpy function that ONNX has as well."""
    function, source = operator.raw_operator.func, operator.inputs[0]
    name = getattr(function, "__name__", str(function))
    if function is None:
        steps: tuple[str | float, ...] = ()
    elif isinstance(function, np.ufunc) and name in _FUNCTIONS:
        steps = _FUNCTIONS[name]
    else:
        raise NotImplementedError(
            f"FunctionTransformer of {name!r} is not supported; of numpy's functions these are: "
            f"{', '.join(_FUNCTIONS)}"
        )
    held = source.full_name
    for step in steps:
        given = [held]
        if not isinstance(step, str):
            summand = scope.get_unique_variable_name("summand")
            container.add_initializer(summand, guess_proto_type(source.type), [1], [step])
            given.append(summand)
        held = scope.get_unique_variable_name("step")
        container.add_node(step if isinstance(step, str) else "Add", given, held, op_version=13)
    container.add_node("Identity", held, operator.outputs[0].full_name, op_version=13)


_INT64 = 7  # onnx.TensorProto.INT64

CONVERTERS: dict[type, Any] = {SimpleImputer: _convert_imputer, FunctionTransformer: _convert_function}
SHAPES: dict[type, Any] = {SimpleImputer: _imputed_shape, FunctionTransformer: _same_shape}

# skl2onnx asks LinearSVC, which knows no probabilities, whether to zip them, and fails on its own question.
PARSERS: dict[type, Any] = {LinearSVC: _parse_sklearn_simple_model}
