"""The seam between a contract's rows and a model's tensors, compiled once per version.

Rows are tuples of values in contract order with None for null; they have passed the contract. Every path to
a model goes through here, the proof of a conversion included.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from fairlead.contracts.contract import Contract, Field, class_name
from fairlead.errors import InvalidContract, RuntimeFailed
from fairlead.runtimes.base import NUMPY_TYPES, Array, RuntimeSpec, Tensors

__all__ = ["Binding", "Prediction", "Row"]

Row = tuple[Any, ...]
_json = msgspec.json.Encoder().encode


class Prediction(msgspec.Struct, gc=False):
    """One row's answer: `value` as the contract's output kind says, `probabilities` in class order.

    `texts` are both as JSON once somebody needed them (`Binding.texts`): a cached answer is logged often.
    """

    value: Any
    probabilities: list[float] | None = None
    texts: tuple[str, str | None] | None = None


class Binding:
    """Turns rows into the tensors a version takes, and its output tensors into predictions."""

    def __init__(self, contract: Contract, spec: RuntimeSpec) -> None:
        _verify(contract, spec)
        self.wanted = spec.outputs.wanted()
        self.class_names = tuple(class_name(value) for value in contract.output.classes)
        self.encode: Callable[[Sequence[Row]], Tensors] = _encoder(contract, spec)
        self.decode: Callable[[dict[str, Array], int], list[Prediction]] = _decoder(contract, spec)
        self._named = _named_probabilities(self.class_names)

    def texts(self, prediction: Prediction) -> tuple[str, str | None]:
        """Value and probabilities by class name as JSON, kept with the prediction."""
        held = prediction.probabilities
        named = None if held is None else _json(self._named(held)).decode()
        texts = prediction.texts = (_json(prediction.value).decode(), named)
        return texts

    def probabilities(self, prediction: Prediction) -> dict[str, float] | None:
        """The probability of each class by its name; None where the model gives none."""
        held = prediction.probabilities
        return None if held is None else dict(zip(self.class_names, held, strict=False))


def _named_probabilities(names: tuple[str, ...]) -> Callable[[list[float]], Any]:
    """Gives probabilities their names: by a struct where all are there, which costs less than a dict."""
    if not names or len(set(names)) != len(names):
        return lambda held: dict(zip(names, held, strict=False))
    attributes = [f"c{index}" for index in range(len(names))]
    kind = msgspec.defstruct(
        "Probabilities", [(attribute, float) for attribute in attributes],
        rename=dict(zip(attributes, names, strict=True)), gc=False,
    )  # fmt: skip
    count = len(names)
    return lambda held: kind(*held) if len(held) == count else dict(zip(names, held, strict=False))


# --- rows to tensors ----------------------------------------------------------------------------------------


def _encoder(contract: Contract, spec: RuntimeSpec) -> Callable[[Sequence[Row]], Tensors]:
    encode = (_matrix_encoder if spec.binding == "matrix" else _columns_encoder)(contract, spec)
    if not any(field.shape == (-1,) for field in contract.inputs):
        return encode

    def encode_lists(rows: Sequence[Row]) -> Tensors:
        try:
            return encode(rows)
        except ValueError as error:
            raise RuntimeFailed(
                "Rows with lists of different lengths do not fit into one tensor.",
                remedy="Send them one by one.",
            ) from error

    return encode_lists


def _matrix_encoder(contract: Contract, spec: RuntimeSpec) -> Callable[[Sequence[Row]], Tensors]:
    name = spec.inputs[0].name
    dtype = NUMPY_TYPES[spec.inputs[0].dtype]
    array = np.array
    if len(contract.inputs) == 1 and contract.inputs[0].shape:
        return _list_encoder(name, dtype, contract.inputs[0].shape[0])

    if dtype is not np.float32:
        return lambda rows: {name: array(rows, dtype)}
    width = len(contract.inputs)
    pack = struct.Struct(f"{width}f").pack

    def encode(rows: Sequence[Row]) -> Tensors:
        try:
            packed = b"".join([pack(*row) for row in rows])
        except (struct.error, OverflowError):
            # A null becomes NaN, which is what it means to a model; what is too large becomes infinite.
            return {name: array(rows, dtype)}
        return {name: np.frombuffer(packed, dtype).reshape(len(rows), width)}

    return encode


def _list_encoder(name: str, dtype: Any, width: int) -> Callable[[Sequence[Row]], Tensors]:
    array = np.array
    if width < 0 or dtype is not np.float32:
        return lambda rows: {name: array([row[0] for row in rows], dtype)}
    pack = struct.Struct(f"{width}f").pack

    def encode(rows: Sequence[Row]) -> Tensors:
        try:
            packed = b"".join([pack(*row[0]) for row in rows])
        except (struct.error, OverflowError, TypeError):
            return {name: array([row[0] for row in rows], dtype)}
        return {name: np.frombuffer(packed, dtype).reshape(len(rows), width)}

    return encode


def _columns_encoder(contract: Contract, spec: RuntimeSpec) -> Callable[[Sequence[Row]], Tensors]:
    tensors = {tensor.name: tensor for tensor in spec.inputs}
    # ONNX texts have no null, Python's do.
    blank = "" if spec.kind == "onnx" else None
    plan = [
        (index, field.name, NUMPY_TYPES[tensors[field.name].dtype], len(tensors[field.name].shape))
        for index, field in enumerate(contract.inputs)
    ]

    def encode(rows: Sequence[Row]) -> Tensors:
        feed: dict[str, Array] = {}
        for index, name, dtype, rank in plan:
            values = [row[index] for row in rows]
            if dtype is np.object_ and blank is not None:
                values = [blank if value is None else value for value in values]
            column = np.array(values, dtype)
            feed[name] = column.reshape(-1, 1) if rank == 2 and column.ndim == 1 else column
        return feed

    return encode


# --- tensors to predictions ---------------------------------------------------------------------------------


def _decoder(contract: Contract, spec: RuntimeSpec) -> Callable[[dict[str, Array], int], list[Prediction]]:
    match contract.output.kind:
        case "class":
            return _class_decoder(contract, spec)
        case "number":
            return _number_decoder(contract, spec)
        case "vector":
            return _vector_decoder(contract, spec)
        case "ranking":
            return _ranking_decoder(contract, spec)


def _class_decoder(
    contract: Contract, spec: RuntimeSpec
) -> Callable[[dict[str, Array], int], list[Prediction]]:
    label, probabilities = spec.outputs.label, spec.outputs.probabilities
    classes = contract.output.classes
    # ONNX answers a boolean target as 0 and 1; the contract knows it was a boolean.
    as_bool = bool(classes) and all(isinstance(value, bool) for value in classes)

    def decode(outputs: dict[str, Array], count: int) -> list[Prediction]:
        table: list[list[float]] | None = None
        if probabilities is not None:
            table = _checked(outputs, probabilities, count).reshape(count, -1).tolist()
            for row in table:
                # A sum is NaN or infinite exactly when a part is: one check for the whole row.
                if not math.isfinite(sum(row)):
                    raise RuntimeFailed("The model answered a probability that is not finite.")
        if label is not None:
            labels: list[Any] = _checked(outputs, label, count).reshape(count).tolist()
        elif table is not None:
            labels = [classes[max(range(len(row)), key=row.__getitem__)] for row in table]
        else:
            raise RuntimeFailed("The model answers neither a label nor probabilities.")
        if as_bool:
            labels = [bool(value) for value in labels]
        if table is None:
            return [Prediction(value) for value in labels]
        return [Prediction(value, row) for value, row in zip(labels, table, strict=True)]

    return decode


def _number_decoder(
    contract: Contract, spec: RuntimeSpec
) -> Callable[[dict[str, Array], int], list[Prediction]]:
    name = _required(spec.outputs.value, "value")
    low = -math.inf if contract.output.minimum is None else contract.output.minimum
    high = math.inf if contract.output.maximum is None else contract.output.maximum

    def decode(outputs: dict[str, Array], count: int) -> list[Prediction]:
        values = _checked(outputs, name, count).reshape(count).tolist()
        for value in values:
            if not math.isfinite(value):
                raise RuntimeFailed(f"The model answered {value}, which is not finite.")
            if not low <= value <= high:
                raise RuntimeFailed(f"The model answered {value}, outside of {low} to {high}.")
        return [Prediction(value) for value in values]

    return decode


def _vector_decoder(
    contract: Contract, spec: RuntimeSpec
) -> Callable[[dict[str, Array], int], list[Prediction]]:
    name = _required(spec.outputs.value, "value")
    length = contract.output.length

    def decode(outputs: dict[str, Array], count: int) -> list[Prediction]:
        values = _checked(outputs, name, count).reshape(count, -1)
        if length is not None and values.shape[1] != length:
            raise RuntimeFailed(f"The model answered {values.shape[1]} numbers instead of {length}.")
        if not np.isfinite(values).all():
            raise RuntimeFailed("The model answered a number that is not finite.")
        return [Prediction(value) for value in values.tolist()]

    return decode


def _ranking_decoder(
    contract: Contract, spec: RuntimeSpec
) -> Callable[[dict[str, Array], int], list[Prediction]]:
    ids_name = _required(spec.outputs.ids, "ids")
    scores_name = _required(spec.outputs.scores, "scores")
    items = contract.output.items

    def decode(outputs: dict[str, Array], count: int) -> list[Prediction]:
        ids = _checked(outputs, ids_name, count).reshape(count, -1).tolist()
        scores = _checked(outputs, scores_name, count).reshape(count, -1)
        if not np.isfinite(scores).all():
            raise RuntimeFailed("The model answered a score that is not finite.")
        ranked = []
        for row, points in zip(ids, scores.tolist(), strict=True):
            if items:
                if any(not 0 <= position < len(items) for position in row):
                    raise RuntimeFailed("The model ranked a position that the contract's items lack.")
                row = [items[position] for position in row]
            ranked.append(
                Prediction([{"id": key, "score": score} for key, score in zip(row, points, strict=True)])
            )
        return ranked

    return decode


def _checked(outputs: dict[str, Array], name: str, count: int) -> Array:
    """The tensor, once it is known to have one entry for each row: an answer never goes to a neighbour."""
    tensor = outputs.get(name)
    if tensor is None:
        raise RuntimeFailed(f"The model did not answer its output {name!r}.")
    if tensor.shape[:1] != (count,):
        raise RuntimeFailed(f"The model answered shape {list(tensor.shape)} in {name!r} for {count} rows.")
    return tensor


# --- does the contract fit the model? -----------------------------------------------------------------------


def _verify(contract: Contract, spec: RuntimeSpec) -> None:
    if spec.binding == "matrix":
        _verify_matrix(contract, spec)
    else:
        _verify_columns(contract, spec)


def _verify_matrix(contract: Contract, spec: RuntimeSpec) -> None:
    if len(spec.inputs) != 1:
        raise InvalidContract(f"A matrix model has one input tensor, not {len(spec.inputs)}.")
    tensor = spec.inputs[0]
    width = tensor.shape[-1] if len(tensor.shape) > 1 else 1
    if len(contract.inputs) == 1 and contract.inputs[0].shape:
        given = contract.inputs[0].shape[0]
        _refuse_null(contract.inputs[0], tensor.dtype)
    else:
        given = len(contract.inputs)
        for field in contract.inputs:
            _refuse_unless(field.type != "string" or tensor.dtype == "string", field, "text", tensor.dtype)
            _refuse_unless(not field.shape, field, "a list among other columns", tensor.dtype)
            _refuse_null(field, tensor.dtype)
    if -1 not in (width, given) and width != given:
        raise InvalidContract(
            f"The model takes {width} columns and the contract has {given}.",
            remedy="Give a contract or a reference table with the columns that the model was trained on.",
        )


def _verify_columns(contract: Contract, spec: RuntimeSpec) -> None:
    tensors = {tensor.name: tensor for tensor in spec.inputs}
    unknown = [name for name in contract.names if name not in tensors]
    missing = [name for name in tensors if name not in contract.names]
    if unknown or missing:
        raise InvalidContract(
            f"The contract and the model name different inputs: only in the contract {unknown}, "
            f"only in the model {missing}.",
            remedy="Name the fields as the model's inputs are named.",
        )
    for field in contract.inputs:
        dtype = tensors[field.name].dtype
        _refuse_unless((field.type == "string") == (dtype == "string"), field, field.type, dtype)
        _refuse_null(field, dtype)


def _refuse_null(field: Field, dtype: str) -> None:
    """NaN and the empty string stand for null; integers, booleans and lists have nothing that could."""
    null = dtype in ("float32", "float64", "string") and not field.shape
    _refuse_unless(null or not field.nullable, field, "a nullable list" if field.shape else "nullable", dtype)


def _refuse_unless(fits: bool, field: Field, given: str, dtype: str) -> None:
    if not fits:
        raise InvalidContract(
            f"Field {field.name!r} is {given} and the model's input is {dtype}.",
            remedy="Change the field's type in the contract, or the model.",
        )


def _required(name: str | None, part: str) -> str:
    if name is None:
        raise InvalidContract(f"The contract's output needs the model's {part!r} tensor, and none is bound.")
    return name
