"""A model whose run takes milliseconds: dense layers as ONNX, laid out as `tests.models` does."""

from __future__ import annotations

import itertools

import numpy as np

__all__ = ["dense_onnx"]


def dense_onnx(
    inputs: int = 4, width: int = 2_000, layers: int = 2, classes: int = 3, seed: int = 0
) -> bytes:
    """`layers` dense layers of `width`: input `X` [N, inputs] of float32, outputs label and probabilities."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(seed)
    sizes = [inputs, *[width] * (layers + 1), classes]
    weights, nodes, last = [], [], "X"
    for index, (rows, columns) in enumerate(itertools.pairwise(sizes)):
        values = (rng.standard_normal((rows, columns)) / np.sqrt(rows)).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"W{index}"))
        nodes.append(helper.make_node("MatMul", [last, f"W{index}"], [f"m{index}"]))
        last = f"m{index}"
        if index < len(sizes) - 2:
            nodes.append(helper.make_node("Relu", [last], [f"r{index}"]))
            last = f"r{index}"
    nodes.append(helper.make_node("Softmax", [last], ["probabilities"], axis=1))
    nodes.append(helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0))
    graph = helper.make_graph(
        nodes,
        "dense",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, inputs])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, classes]),
        ],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return model.SerializeToString()  # type: ignore[no-any-return]
