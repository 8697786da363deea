"""What a runtime is: a loaded model that takes tensors by name and answers tensors by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

__all__ = ["Array", "DType", "OutputNames", "Runtime", "RuntimeSpec", "Tensor", "Tensors"]

Array = npt.NDArray[Any]
Tensors = Mapping[str, Array]
DType = Literal["float32", "float64", "int32", "int64", "bool", "string"]

NUMPY_TYPES: dict[DType, Any] = {
    "float32": np.float32,
    "float64": np.float64,
    "int32": np.int32,
    "int64": np.int64,
    "bool": np.bool_,
    "string": np.object_,
}


class Tensor(msgspec.Struct, frozen=True, kw_only=True):
    """One input or output of a model: -1 marks a size that varies; the first axis is the row."""

    name: str
    dtype: DType
    shape: tuple[int, ...]


class OutputNames(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which tensor of the model plays which part of the contract's output.

    `class` uses `label` and, where the model gives them, `probabilities` ([rows, classes]); `number` and
    `vector` use `value`; `ranking` uses `ids` and `scores` ([rows, k]).
    """

    label: str | None = None
    probabilities: str | None = None
    value: str | None = None
    ids: str | None = None
    scores: str | None = None

    def wanted(self) -> tuple[str, ...]:
        """The tensor names to ask the model for."""
        every = (self.label, self.probabilities, self.value, self.ids, self.scores)
        return tuple(name for name in every if name is not None)


class RuntimeSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How the files of a version become a callable.

    `kind` `onnx` runs in ONNX Runtime; `python` is a pickled object that only an isolated worker may load.
    `entry` is the main file's path within the manifest. `binding` says how features meet `inputs`:
    `matrix`, one tensor whose columns are the features in contract order, or `columns`, one tensor per
    feature under the feature's own name.
    """

    kind: Literal["onnx", "python"]
    entry: str
    binding: Literal["matrix", "columns"]
    inputs: tuple[Tensor, ...]
    outputs: OutputNames


class Runtime(Protocol):
    """A loaded model. `run` takes tensors that share their first axis and answers likewise."""

    def run(self, feed: Tensors) -> dict[str, Array]:
        """The wanted output tensors; raises `RuntimeFailed` when the model does."""
        ...

    def close(self) -> None:
        """Gives back the model's memory."""
        ...
