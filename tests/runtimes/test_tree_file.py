"""Trees as ONNX files describe them, read without the package that writes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from fairlead.errors import NotExplainable
from fairlead.runtimes.tree_file import tree_node, with_output
from fairlead.runtimes.trees import depth_of, leaf_sums

ROWS = np.array([[-1.0, 0.0], [0.5, 0.0], [0.5, 1.0], [np.nan, 2.0], [0.0, np.nan]], np.float32)


def model(mode: str = "BRANCH_LEQ", *, ensembles: int = 1, cast: bool = False, **changes: Any) -> bytes:
    """Two small trees: is column 0 at most 0.5, then is column 1 at most 1; and a leaf alone."""
    attributes = {
        "n_targets": 1,
        "nodes_treeids": [0, 0, 0, 0, 0, 1],
        "nodes_nodeids": [0, 1, 2, 3, 4, 0],
        "nodes_modes": [mode, "LEAF", mode, "LEAF", "LEAF", "LEAF"],
        "nodes_featureids": [0, 0, 1, 0, 0, 0],
        "nodes_values": [0.5, 0.0, 1.0, 0.0, 0.0, 0.0],
        "nodes_truenodeids": [1, 0, 3, 0, 0, 0],
        "nodes_falsenodeids": [2, 0, 4, 0, 0, 0],
        "nodes_missing_value_tracks_true": [0, 0, 1, 0, 0, 0],
        "target_treeids": [0, 0, 0, 1],
        "target_nodeids": [1, 3, 4, 0],
        "target_ids": [0, 0, 0, 0],
        "target_weights": [1.0, 2.0, 4.0, 8.0],
        "base_values": [0.25],
        **changes,
    }
    attributes = {name: value for name, value in attributes.items() if value is not None}
    nodes = [
        helper.make_node(
            "TreeEnsembleRegressor", ["asked"], [f"out{number}"], domain="ai.onnx.ml", **attributes
        )
        for number in range(ensembles)
    ]
    kind = TensorProto.DOUBLE if cast else TensorProto.FLOAT
    first = helper.make_node("Cast" if cast else "Identity", ["X"], ["asked"], **({"to": 1} if cast else {}))
    graph = helper.make_graph(
        [first, *nodes],
        "trees",
        [helper.make_tensor_value_info("X", kind, [None, 2])],
        [
            helper.make_tensor_value_info(f"out{number}", TensorProto.FLOAT, [None, 1])
            for number in range(ensembles)
        ],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    return made.SerializeToString()  # type: ignore[no-any-return]


def run(data: bytes, wanted: str, rows: np.ndarray = ROWS) -> np.ndarray:
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    return session.run([wanted], {"X": rows})[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("mode", ["BRANCH_LEQ", "BRANCH_LT"])
def test_the_sums_are_those_of_the_runtime_at_thresholds_and_where_values_are_missing(mode: str) -> None:
    data = model(mode)
    nodes = tree_node(data).nodes
    sums, visits = leaf_sums(nodes, ROWS.astype(np.float64), depth_of(nodes))
    assert sums[:, 0].tolist() == run(data, "out0")[:, 0].tolist()
    assert visits[nodes.roots].tolist() == [5.0, 5.0]


def test_an_average_is_divided_by_the_trees() -> None:
    data = model(aggregate_function="AVERAGE", base_values=None)
    nodes = tree_node(data).nodes
    sums, _ = leaf_sums(nodes, ROWS.astype(np.float64), depth_of(nodes))
    assert sums[:, 0].tolist() == run(data, "out0")[:, 0].tolist()


def test_trees_are_read_alike_whoever_wrote_the_numbers_one_by_one() -> None:
    packed = model()
    parsed = onnx.load_from_string(packed)
    (node,) = (node for node in parsed.graph.node if node.op_type != "Identity")
    names = [attribute.name for attribute in node.attribute]
    node.attribute.extend(reversed([node.attribute.pop() for _ in names]))
    one, other = tree_node(packed).nodes, tree_node(parsed.SerializeToString()).nodes
    assert all(np.array_equal(getattr(one, name), getattr(other, name)) for name in one.__struct_fields__)


def test_an_inner_value_becomes_an_output() -> None:
    found = run(with_output(model(), "asked", double=False), "asked")
    assert np.array_equal(found, ROWS, equal_nan=True)


def test_what_trees_read_is_named_as_it_was_before_it_was_rounded() -> None:
    assert tree_node(model()).source == "asked"
    assert tree_node(model(cast=True)).source == "X"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (model("BRANCH_EQ"), "other questions: BRANCH_EQ"),
        (model(ensembles=2), "it has 2 of those"),
        (model(ensembles=0), "it has 0 of those"),
        (model(target_nodeids=[1, 3, 77, 0]), "not understood"),
        (model(nodes_truenodeids=[1, 0, 99, 0, 0, 0]), "not understood"),
        (model(target_ids=None), "not understood"),
        (b"", "no graph"),
    ],
    ids=["modes", "two", "none", "leaf", "child", "attribute", "empty"],
)
def test_other_models_are_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(NotExplainable, match=reason):
        tree_node(data)
