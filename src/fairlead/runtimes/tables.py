"""The seam between tensors that a caller sends and tensors that a model takes, for many rows at once.

A caller names either the model's own inputs or the contract's fields. What is sent under the name of an
input of the model has that input's datatype; what is sent under the name of a field alone is converted as the
contract says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fairlead.contracts.arrays import Checked, Table, TableCheck
from fairlead.contracts.check import nearest
from fairlead.contracts.contract import Contract, Field
from fairlead.errors import MalformedRequest, RuntimeFailed
from fairlead.runtimes.base import NUMPY_TYPES, Array, RuntimeSpec, Tensor, Tensors
from fairlead.runtimes.binding import Prediction

__all__ = ["Answers", "TableBinding"]


class Answers(NamedTuple):
    """What the contract's output is, for each row: `values` ([rows], or [rows, k] for vectors and rankings),
    `probabilities` in class order, and the `scores` of a ranking."""

    values: Array
    probabilities: Array | None = None
    scores: Array | None = None


class TableBinding:
    """Turns named tensors into the tables that a version's contract checks, and those into what it runs."""

    def __init__(self, contract: Contract, spec: RuntimeSpec) -> None:
        self._contract = contract
        self._spec = spec
        self._inputs = {tensor.name: tensor for tensor in spec.inputs}
        self._fields = {field.name: field for field in contract.inputs}
        self._listed = len(contract.inputs) == 1 and bool(contract.inputs[0].shape)
        self._split = any(field.type in ("bool", "string") for field in contract.inputs)
        self.check = TableCheck(contract)
        self._shapes: dict[str, tuple[Any, tuple[int, ...]]] = {}

    # --- what was sent --------------------------------------------------------------------------------------

    def bind(
        self, tensors: Mapping[str, Array], also_known: frozenset[str] = frozenset(), *, typed: bool = True
    ) -> Table:
        """The rows that were sent; names in `also_known` belong to other live versions and are dropped.

        Unless `typed`, a tensor of the model's may have any type: the contract says what fits.

        Raises `MalformedRequest` for a name that is none of the model's, a wrong datatype or a wrong shape.
        """
        matrix = self._spec.inputs[0].name if self._spec.binding == "matrix" else None
        if matrix is not None and matrix in tensors and (self._listed or matrix not in self._fields):
            self._refuse_unknown(tensors, {matrix}, also_known)
            return self._of_matrix(self._inputs[matrix], tensors[matrix], typed)
        self._refuse_unknown(tensors, set(self._fields), also_known)
        rows = _rows(tensors)
        columns = [
            self._column(field, tensors.get(field.name), rows, typed) for field in self._contract.inputs
        ]
        return Table(rows, columns=columns)

    def _of_matrix(self, tensor: Tensor, array: Array, typed: bool) -> Table:
        if typed:
            _require_dtype(tensor, array)
        width = tensor.shape[1] if len(tensor.shape) == 2 else 1
        if array.ndim == 1 and width == 1:
            array = array.reshape(-1, 1)
        if array.ndim != 2 or width not in (-1, array.shape[1]):
            raise _wrong_shape(tensor.name, array, f"[rows, {width}]")
        if not len(array):
            raise _no_rows()
        if self._listed:
            return Table(len(array), columns=[array])
        if array.shape[1] != len(self._fields):
            raise _wrong_shape(tensor.name, array, f"[rows, {len(self._fields)}]")
        if not self._split and array.dtype.kind in "iuf":
            return Table(len(array), matrix=array)
        columns = [_as_bool(f, array[:, i]) for i, f in enumerate(self._contract.inputs)]
        return Table(len(array), columns=columns)

    def _column(self, field: Field, array: Array | None, rows: int, typed: bool) -> Array | None:
        if array is None:
            return None
        if typed and field.name in self._inputs and self._spec.binding == "columns":
            _require_dtype(self._inputs[field.name], array)
        if field.shape:
            array = array.reshape(-1, 1) if array.ndim == 1 and array.dtype != object else array
        elif array.ndim == 2 and array.shape[1] == 1:
            array = array.reshape(-1)
        if array.ndim != (2 if field.shape and array.dtype != object else 1) or len(array) != rows:
            wanted = f"[{rows}, {field.shape[0]}]" if field.shape else f"[{rows}] or [{rows}, 1]"
            raise _wrong_shape(field.name, array, wanted)
        return array

    def _refuse_unknown(
        self, tensors: Mapping[str, Array], known: set[str], also_known: frozenset[str]
    ) -> None:
        for name in tensors:
            if name not in known and name not in also_known:
                near = nearest(name, known | set(self._inputs))
                inputs = ", ".join(repr(tensor.name) for tensor in self._spec.inputs[:20])
                raise MalformedRequest(
                    f"The model has no input {name[:100]!r}.",
                    remedy=f"Did you mean {near!r}?" if near else f"Send {inputs}, or the contract's fields.",
                )
        if not any(name in known for name in tensors):
            raise MalformedRequest(
                "The request has no input.", remedy=f"Send {', '.join(map(repr, list(self._inputs)[:20]))}."
            )

    # --- what the model takes -------------------------------------------------------------------------------

    def feed(self, checked: Checked) -> Tensors:
        """The tensors that the model runs. Raises `RuntimeFailed` for lists that fit no tensor."""
        with np.errstate(over="ignore"):
            if self._spec.binding == "matrix":
                tensor = self._spec.inputs[0]
                return {tensor.name: self._matrix(NUMPY_TYPES[tensor.dtype], checked)}
            return {
                field.name: self._of_column(self._inputs[field.name], checked, index)
                for index, field in enumerate(self._contract.inputs)
            }

    def _matrix(self, dtype: Any, checked: Checked) -> Array:
        if checked.matrix is not None:
            return np.ascontiguousarray(checked.matrix, dtype)
        if self._listed:
            return _converted(checked, 0, dtype, blank="")
        made = np.empty((checked.rows, len(checked.columns)), dtype)
        for index in range(len(checked.columns)):
            made[:, index] = _converted(checked, index, dtype, blank="")
        return made

    def _of_column(self, tensor: Tensor, checked: Checked, index: int) -> Array:
        # ONNX texts have no null, Python's do.
        blank = "" if self._spec.kind == "onnx" else None
        column = _converted(checked, index, NUMPY_TYPES[tensor.dtype], blank)
        return column.reshape(-1, 1) if len(tensor.shape) == 2 and column.ndim == 1 else column

    # --- what it answers ------------------------------------------------------------------------------------

    def answers(self, outputs: Mapping[str, Array], rows: int) -> Answers:
        """The output tensors as the contract's output; raises `RuntimeFailed` for what it forbids."""
        names = self._spec.outputs
        output = self._contract.output
        table = None
        if names.probabilities is not None:
            table = _checked(outputs, names.probabilities, rows).reshape(rows, -1)
            if not np.isfinite(table).all():
                raise RuntimeFailed("The model answered a probability that is not finite.")
        match output.kind:
            case "class":
                return Answers(self._labels(outputs, table, rows), table)
            case "ranking":
                scores = _checked(outputs, names.scores or "scores", rows).reshape(rows, -1)
                if not np.isfinite(scores).all():
                    raise RuntimeFailed("The model answered a score that is not finite.")
                return Answers(self._ranked(outputs, rows), None, scores)
            case _:
                values = _checked(outputs, names.value or "value", rows)
                values = values.reshape(rows, -1) if output.kind == "vector" else values.reshape(rows)
                self._verify_numbers(values)
                return Answers(values)

    @property
    def knows_outputs(self) -> bool:
        """Whether `outputs_of` can tell: a run has shown datatypes and shapes, and nothing was renamed."""
        return bool(self._shapes)

    def learn(self, outputs: Mapping[str, Array]) -> None:
        """Remembers datatypes and shapes of the output tensors of a run."""
        if not self._contract.output.items:
            self._shapes = {name: (array.dtype, array.shape[1:]) for name, array in outputs.items()}

    def outputs_of(self, prediction: Prediction) -> dict[str, Array]:
        """The output tensors that a row's prediction came from.

        A part that it lacks, since something stood in for the model, is NaN.
        """
        names, value = self._spec.outputs, prediction.value
        parts: dict[str | None, Any] = {
            names.label: value,
            names.probabilities: prediction.probabilities,
            names.value: value,
        }
        if names.ids is not None:
            parts[names.ids] = [entry["id"] for entry in value]
            parts[names.scores] = [entry["score"] for entry in value]
        found = {}
        for name, (dtype, shape) in self._shapes.items():
            part = parts[name]
            array = np.full(shape, np.nan, dtype) if part is None else np.array(part, dtype)
            found[name] = array.reshape(1, *shape)
        return found

    def _labels(self, outputs: Mapping[str, Array], table: Array | None, rows: int) -> Array:
        classes = self._contract.output.classes
        if self._spec.outputs.label is not None:
            labels = _checked(outputs, self._spec.outputs.label, rows).reshape(rows)
            # ONNX answers a boolean target as 0 and 1; the contract knows it was a boolean.
            is_bool = bool(classes) and all(isinstance(value, bool) for value in classes)
            return labels.astype(np.bool_) if is_bool else labels
        if table is None:
            raise RuntimeFailed("The model answers neither a label nor probabilities.")
        return _named(classes, table.argmax(axis=1))

    def _ranked(self, outputs: Mapping[str, Array], rows: int) -> Array:
        ids = _checked(outputs, self._spec.outputs.ids or "ids", rows).reshape(rows, -1)
        items = self._contract.output.items
        if not items:
            return ids
        if ids.size and (ids.min() < 0 or ids.max() >= len(items)):
            raise RuntimeFailed("The model ranked a position that the contract's items lack.")
        return _named(items, ids)

    def _verify_numbers(self, values: Array) -> None:
        output = self._contract.output
        if output.kind == "vector" and output.length not in (None, values.shape[1]):
            raise RuntimeFailed(f"The model answered {values.shape[1]} numbers instead of {output.length}.")
        if not np.isfinite(values).all():
            raise RuntimeFailed("The model answered a number that is not finite.")
        if output.kind == "number":
            exact = values.astype(np.float64)
            outside = np.zeros(len(exact), np.bool_)
            if output.minimum is not None:
                outside |= exact < output.minimum
            if output.maximum is not None:
                outside |= exact > output.maximum
            if outside.any():
                raise RuntimeFailed(
                    f"The model answered {exact[outside][0].item()}, outside of "
                    f"{output.minimum} to {output.maximum}."
                )


def _named(names: Sequence[Any], positions: Array) -> Array:
    table = np.empty(len(names), object)
    table[:] = names
    return table[positions]


def _checked(outputs: Mapping[str, Array], name: str, count: int) -> Array:
    """The tensor, once it is known to have one entry for each row: an answer never goes to a neighbour."""
    tensor = outputs.get(name)
    if tensor is None:
        raise RuntimeFailed(f"The model did not answer its output {name!r}.")
    if tensor.shape[:1] != (count,):
        raise RuntimeFailed(f"The model answered shape {list(tensor.shape)} in {name!r} for {count} rows.")
    return tensor


def _converted(checked: Checked, index: int, dtype: Any, blank: str | None) -> Array:
    if checked.matrix is not None:
        return np.ascontiguousarray(checked.matrix[:, index], dtype)
    values, null = checked.columns[index]
    if dtype is np.object_:
        texts = values if values.dtype == object else values.astype(object)
        return texts if blank is None else np.where(texts == None, blank, texts)  # noqa: E711 - elements
    try:
        if values.dtype == object:
            return np.array(list(values), dtype)
        made: Array = values.astype(dtype, copy=False)
    except (TypeError, ValueError) as error:
        raise RuntimeFailed(
            "Rows with lists of different lengths do not fit into one tensor.",
            remedy="Send them one by one.",
        ) from error
    if null is not None:
        made = made.copy()
        made[null] = np.nan
    return made


def _as_bool(field: Field, column: Array) -> Array:
    """A matrix of numbers has no booleans of its own: 0 and 1 stand for them."""
    if field.type == "bool" and column.dtype.kind in "iuf" and np.isin(column, (0, 1)).all():
        return column.astype(np.bool_)
    return column


def _rows(tensors: Mapping[str, Array]) -> int:
    first = next(iter(tensors.values()))
    if first.ndim == 0 or not len(first):
        raise _no_rows()
    return len(first)


def _require_dtype(tensor: Tensor, array: Array) -> None:
    if array.dtype != NUMPY_TYPES[tensor.dtype]:
        given = "string" if array.dtype == object else array.dtype.name
        raise MalformedRequest(
            f"Input {tensor.name!r} is of type {given}, and the model takes {tensor.dtype}.",
            remedy="See the model's metadata for its inputs.",
        )


def _wrong_shape(name: str, array: Array, wanted: str) -> MalformedRequest:
    return MalformedRequest(
        f"Input {name!r} has shape {list(array.shape)}, and {wanted} is wanted.",
        remedy="The first axis is the row; see the model's metadata.",
    )


def _no_rows() -> MalformedRequest:
    return MalformedRequest("The request has no rows.", remedy="Send at least one.")
