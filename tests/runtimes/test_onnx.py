"""ONNX Runtime in process: what runs, what is refused, and how."""

from __future__ import annotations

import gc
import threading
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from fairlead.contracts.contract import Output
from fairlead.errors import InvalidModelFile, RuntimeFailed
from fairlead.runtimes.base import OutputNames, RuntimeSpec, Tensor
from fairlead.runtimes.machine import resident_bytes
from fairlead.runtimes.onnx import OnnxRuntime, inspect_onnx, spec_from_onnx

from .conftest import (
    BOOL,
    DOUBLE,
    FLOAT,
    HALF,
    INT32,
    INT64,
    STRING,
    Save,
    graph_model,
    passed_through,
    row_sums,
)

SUMS = RuntimeSpec(
    kind="onnx",
    entry="model.onnx",
    binding="matrix",
    inputs=(Tensor(name="X", dtype="float64", shape=(-1, 3)),),
    outputs=OutputNames(value="variable"),
)


def test_a_model_answers_its_wanted_outputs_for_any_number_of_rows(save: Save) -> None:
    runtime = OnnxRuntime(save(row_sums()).parent, SUMS)
    for rows in (1, 2, 1000):
        feed = {"X": np.arange(rows * 3.0).reshape(rows, 3)}
        answers = runtime.run(feed)
        assert list(answers) == ["variable"]
        assert answers["variable"].tolist() == feed["X"].sum(axis=1, keepdims=True).tolist()


def test_outputs_that_nobody_wants_are_not_computed(save: Save) -> None:
    path = save(passed_through(("a", DOUBLE, [None, 1]), ("b", STRING, [None, 1])))
    inputs, _ = inspect_onnx(path)
    spec = RuntimeSpec(
        kind="onnx", entry=path.name, binding="columns", inputs=inputs, outputs=OutputNames(value="b_out")
    )
    feed = {"a": np.ones((2, 1)), "b": np.array([["x"], ["年"]], dtype=object)}
    answers = OnnxRuntime(path.parent, spec).run(feed)
    assert {name: tensor.tolist() for name, tensor in answers.items()} == {"b_out": [["x"], ["年"]]}


def test_a_model_computes_in_the_thread_that_asks(save: Save) -> None:
    path = save(row_sums())
    before = threading.active_count(), len(list(Path("/proc/self/task").iterdir()))
    runtime = OnnxRuntime(path.parent, SUMS)
    runtime.run({"X": np.ones((500, 3))})
    # Fewer is fine: a thread of an earlier test may have ended meanwhile.
    assert threading.active_count() <= before[0]
    assert len(list(Path("/proc/self/task").iterdir())) <= before[1]


@pytest.mark.parametrize(
    "feed",
    [
        {"X": np.ones((1, 4))},
        {"X": np.ones((1, 3), np.float32)},
        {"Y": np.ones((1, 3))},
        {},
        {"X": np.ones(3)},
        {"X": np.array([["a", "b", "c"]], dtype=object)},
    ],
)
def test_a_run_that_fails_says_why_in_one_sentence(save: Save, feed: dict[str, np.ndarray]) -> None:
    runtime = OnnxRuntime(save(row_sums()).parent, SUMS)
    with pytest.raises(RuntimeFailed, match=r"^Model 'model\.onnx' failed: ") as caught:
        runtime.run(feed)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 260
    assert runtime.run({"X": np.ones((1, 3))})["variable"].tolist() == [[3.0]]


def test_a_damaged_file_is_refused_by_name_and_without_its_path(save: Save) -> None:
    whole = row_sums().SerializeToString()
    damaged = {
        "garbage": b"\x00garbage" * 50,
        "torn": whole[: len(whole) // 2],
        "empty": b"",
        "text": b"hello",
    }
    for name, data in damaged.items():
        path = save(data, f"{name}.onnx")
        with pytest.raises(InvalidModelFile, match=f"'{name}.onnx' cannot be loaded: .") as caught:
            inspect_onnx(path)
        assert str(path.parent) not in str(caught.value)
        assert "[ONNXRuntimeError]" not in str(caught.value)
    with pytest.raises(InvalidModelFile, match=r"no model file 'absent\.onnx'"):
        inspect_onnx(path.parent / "absent.onnx")


def test_a_model_with_an_operator_that_does_not_exist_is_refused(save: Save) -> None:
    model = graph_model(
        [helper.make_node("NoSuchOperator", ["X"], ["y"])],
        [("X", DOUBLE, [None, 1])],
        [("y", DOUBLE, [None, 1])],
    )
    with pytest.raises(InvalidModelFile, match="NoSuchOperator"):
        inspect_onnx(save(model))


def test_a_file_that_is_not_the_one_the_spec_describes_is_refused(save: Save) -> None:
    path = save(passed_through(("X", DOUBLE, [None, 3])))
    with pytest.raises(InvalidModelFile, match=r"has no output 'variable'; it has X_out"):
        OnnxRuntime(path.parent, SUMS)
    save(passed_through(("Z", DOUBLE, [None, 3])))
    with pytest.raises(InvalidModelFile, match=r"has no input 'X'; it has Z"):
        OnnxRuntime(path.parent, SUMS)


def test_inspection_gives_names_types_and_shapes_with_free_sizes(save: Save) -> None:
    path = save(
        passed_through(
            ("f", FLOAT, ["n", 3]),
            ("d", DOUBLE, [None, "k"]),
            ("i", INT32, [None]),
            ("l", INT64, [None, 1]),
            ("b", BOOL, [None]),
            ("s", STRING, [7, 1]),
        )
    )
    inputs, outputs = inspect_onnx(path)
    assert [(tensor.name, tensor.dtype, tensor.shape) for tensor in inputs] == [
        ("f", "float32", (-1, 3)),
        ("d", "float64", (-1, -1)),
        ("i", "int32", (-1,)),
        ("l", "int64", (-1, 1)),
        ("b", "bool", (-1,)),
        ("s", "string", (7, 1)),
    ]
    assert [tensor.name for tensor in outputs] == ["f_out", "d_out", "i_out", "l_out", "b_out", "s_out"]


def test_a_zipmap_output_is_refused_with_the_option_that_avoids_it(save: Save) -> None:
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression

    features = np.random.default_rng(1).normal(size=(50, 2)).astype(np.float32)
    fitted = LogisticRegression().fit(features, features[:, 0] > 0)
    path = save(to_onnx(fitted, features[:1]).SerializeToString())
    with pytest.raises(InvalidModelFile, match="ZipMap") as caught:
        inspect_onnx(path)
    assert "zipmap=False" in caught.value.remedy


def test_an_input_of_a_type_that_fairlead_lacks_is_refused_and_such_an_output_ignored(save: Save) -> None:
    with pytest.raises(InvalidModelFile, match=r"'h' is a tensor\(float16\)"):
        inspect_onnx(save(passed_through(("h", HALF, [None, 1]))))
    cast = helper.make_node("Cast", ["x"], ["h"], to=HALF)
    same = helper.make_node("Identity", ["x"], ["y"])
    model = graph_model(
        [cast, same], [("x", FLOAT, [None, 1])], [("h", HALF, [None, 1]), ("y", FLOAT, [None, 1])]
    )
    assert [tensor.name for tensor in inspect_onnx(save(model))[1]] == ["y"]


def test_a_spec_from_the_file_runs_that_file(save: Save) -> None:
    path = save(row_sums(2))
    spec, contract = spec_from_onnx(path, path.name, ["weight", "height"])
    assert contract.names == ("weight", "height")
    assert contract.output == Output(kind="number")
    assert OnnxRuntime(path.parent, spec).run({"X": np.ones((1, 2))})["variable"].tolist() == [[2.0]]


def test_a_closed_model_refuses_to_run_and_gives_its_memory_back(save: Save) -> None:
    weights = helper.make_tensor("w", DOUBLE, [3, 1_000_000], np.ones(3_000_000).tobytes(), raw=True)
    node = helper.make_node("MatMul", ["X", "w"], ["variable"])
    path = save(
        graph_model([node], [("X", DOUBLE, [None, 3])], [("variable", DOUBLE, [None, 1_000_000])], [weights])
    )
    del weights
    gc.collect()
    runtime = OnnxRuntime(path.parent, SUMS)
    assert runtime.memory_bytes >= path.stat().st_size
    held = resident_bytes()
    runtime.close()
    runtime.close()
    assert resident_bytes() < held - 12_000_000
    with pytest.raises(RuntimeFailed, match="unloaded"):
        runtime.run({"X": np.ones((1, 3))})


def test_two_versions_of_one_file_do_not_disturb_each_other(save: Save) -> None:
    folder = save(row_sums()).parent
    first, second = OnnxRuntime(folder, SUMS), OnnxRuntime(folder, SUMS)
    first.close()
    assert second.run({"X": np.ones((1, 3))})["variable"].tolist() == [[3.0]]


def test_the_log_can_say_what_computed_an_answer() -> None:
    assert OnnxRuntime.library_version[0].isdigit()
    assert OnnxRuntime.cpu.split()[0]
