"""Inputs under the features' own names, in every graph of a model."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from fairlead.runtimes.base import OutputNames, RuntimeSpec
from fairlead.runtimes.graph import drop_unused_inputs, rename_inputs, use_plain_locale
from fairlead.runtimes.onnx import OnnxRuntime, inspect_onnx

from .conftest import BOOL, DOUBLE, STRING, Save, graph_model


def branching() -> onnx.ModelProto:
    """`label` is `a` where `flag`, else `b`: both branches read values of the outer graph."""

    def branch(name: str) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(f"{name}_out", DOUBLE, [None])
        return helper.make_graph([helper.make_node("Identity", [name], [f"{name}_out"])], name, [], [out])

    first = helper.make_node("ReduceMax", ["flag_number"], ["any"], keepdims=0)
    number = helper.make_node("Cast", ["flag"], ["flag_number"], to=DOUBLE)
    decided = helper.make_node("Cast", ["any"], ["decided"], to=BOOL)
    chosen = helper.make_node("If", ["decided"], ["label"], then_branch=branch("a"), else_branch=branch("b"))
    inputs = [("flag", BOOL, [None]), ("a", DOUBLE, [None]), ("b", DOUBLE, [None]), ("c", DOUBLE, [None])]
    return graph_model([number, first, decided, chosen], inputs, [("label", DOUBLE, [None])])


def test_an_input_that_no_graph_reads_is_dropped_and_one_that_a_branch_reads_is_kept() -> None:
    model = branching()
    drop_unused_inputs(model)
    assert [tensor.name for tensor in model.graph.input] == ["flag", "a", "b"]


def test_inputs_take_any_name_and_what_bears_it_makes_room(save: Save) -> None:
    model = branching()
    drop_unused_inputs(model)
    rename_inputs(model, {"flag": "ja/nein", "a": "label", "b": "any"})
    path = save(model)
    inputs, outputs = inspect_onnx(path)
    assert [tensor.name for tensor in inputs] == ["ja/nein", "label", "any"]
    spec = RuntimeSpec(
        kind="onnx",
        entry=path.name,
        binding="columns",
        inputs=inputs,
        outputs=OutputNames(value=outputs[0].name),
    )
    runtime = OnnxRuntime(path.parent, spec)
    for flag, expected in ((True, 1.0), (False, 2.0)):
        feed = {"ja/nein": np.array([flag]), "label": np.array([1.0]), "any": np.array([2.0])}
        assert runtime.run(feed)[outputs[0].name].tolist() == [expected]


def test_inputs_may_swap_their_names() -> None:
    model = branching()
    rename_inputs(model, {"a": "b", "b": "a"})
    assert [tensor.name for tensor in model.graph.input] == ["flag", "b", "a", "c"]
    branches = {attribute.name: attribute.g for attribute in model.graph.node[-1].attribute}
    assert list(branches["then_branch"].node[0].input) == ["b"]
    assert list(branches["else_branch"].node[0].input) == ["a"]


def test_text_is_lowered_in_a_locale_that_every_machine_has(save: Save) -> None:
    node = helper.make_node("StringNormalizer", ["s"], ["t"], case_change_action="LOWER")
    model = graph_model([node], [("s", STRING, [None])], [("t", STRING, [None])])
    use_plain_locale(model)
    use_plain_locale(model)
    assert [attribute.name for attribute in node.attribute] == ["case_change_action"]
    assert [a.s for a in model.graph.node[0].attribute if a.name == "locale"] == [b"C.UTF-8"]
    path = save(model)
    inputs, _ = inspect_onnx(path)
    spec = RuntimeSpec(
        kind="onnx", entry=path.name, binding="columns", inputs=inputs, outputs=OutputNames(label="t")
    )
    answer = OnnxRuntime(path.parent, spec).run({"s": np.array(["GRÖSSE"], dtype=object)})
    assert answer["t"].tolist() == ["größe".replace("ß", "ss")]
