"""Many models that differ: each answers a class of its own choice, out of a table as large as wanted."""

from __future__ import annotations

import numpy as np

from fairlead.registry.versions import ModelSettings, VersionSpec
from fairlead.serving.folder import DataFolder
from tests.models import lay_plan, lay_version, plan_of

__all__ = ["lay_many", "numbered_onnx"]


def numbered_onnx(number: int, kilobytes: int = 1) -> bytes:
    """Takes what `iris_onnx` takes and answers class `number` modulo 3; quick, however large it is."""
    from onnx import TensorProto, helper, numpy_helper

    rows = max(2, kilobytes * 1024 // 12)
    # Noise, so that no two pages of two models are alike; the answer is in the first row.
    table = np.random.default_rng(number).random((rows, 3), np.float32)
    table[0] = 0.1
    table[0, number % 3] = 0.8
    constants = {"column": np.array([0], np.int64), "zero": np.array(0, np.int64), "table": table}
    nodes = [
        helper.make_node("Gather", ["X", "column"], ["first"], axis=1),
        helper.make_node("Cast", ["first"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Mul", ["whole", "zero"], ["places"]),
        helper.make_node("GatherND", ["table", "places"], ["probabilities"]),
        helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "numbered",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, 4])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 3]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()  # type: ignore[no-any-return]


def lay_many(
    folder: DataFolder, count: int, kilobytes: int = 1, settings: ModelSettings | None = None
) -> list[VersionSpec]:
    """Models `m0`, `m1` and so on, each with one version that has all the traffic."""
    specs = []
    for number in range(count):
        name = f"m{number}"
        onnx = numbered_onnx(number, kilobytes)
        specs.append(lay_version(folder, f"v{number}", onnx, model=name, settings=settings))
        lay_plan(folder, plan_of({"stable": (f"v{number}", "stable", 100)}, model=name), specs[-1])
    return specs
