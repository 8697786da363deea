"""Small ONNX models made by hand, so that each test sees exactly the graph that it speaks of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

Shape = Sequence[int | str | None]
Save = Callable[..., Path]

FLOAT, DOUBLE, INT64 = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64
STRING, BOOL, INT32, HALF = TensorProto.STRING, TensorProto.BOOL, TensorProto.INT32, TensorProto.FLOAT16


def graph_model(
    nodes: Sequence[Any],
    inputs: Sequence[tuple[str, int, Shape]],
    outputs: Sequence[tuple[str, int, Shape]],
    initializers: Sequence[Any] = (),
) -> onnx.ModelProto:
    """A model of these nodes, in opset 17."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(*tensor) for tensor in inputs],
        [helper.make_tensor_value_info(*tensor) for tensor in outputs],
        list(initializers),
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def row_sums(width: int | None = 3, dtype: int = DOUBLE) -> onnx.ModelProto:
    """`variable` [rows, 1]: the sum of the columns of `X`."""
    axes = helper.make_tensor("axes", INT64, [1], [1])
    node = helper.make_node("ReduceSum", ["X", "axes"], ["variable"], keepdims=1)
    return graph_model([node], [("X", dtype, [None, width])], [("variable", dtype, [None, 1])], [axes])


def passed_through(*tensors: tuple[str, int, Shape]) -> onnx.ModelProto:
    """Every input `x` comes out unchanged as the output `x_out`."""
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name, _, _ in tensors]
    return graph_model(nodes, tensors, [(f"{name}_out", kind, shape) for name, kind, shape in tensors])


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Writes a model to a file and gives its path."""

    def write(model: onnx.ModelProto | bytes, name: str = "model.onnx") -> Path:
        path = tmp_path / name
        path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
        return path

    return write
