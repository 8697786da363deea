"""The three models that every server serves, their rows, and what each row must be answered.

Made once below `bench/peers/made/`. Each model has two versions, made from different seeds: every server
serves `v1`, and Fairlead splits its traffic between both. The expected answers come from `session.run`.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["CHECKED", "MODELS", "VERSIONS", "Model", "Row", "expected", "features", "make_models", "rows_of"]

Row = list[float]
VERSIONS = ("v1", "v2")
CHECKED = 5
"""So many rows are asked before and after each load, and compared with the raw model's answer."""
_USERS, _HIDDEN, _HEAVY_INPUTS = 10_000, 3584, 512


@dataclass(frozen=True)
class Model:
    """What a server must know to serve a model. `columns` names the features that are numbers of their own;
    where it is empty, the one feature is the tensor. `outputs` are the tensors of an answer, in order, and
    `sizes` their numbers per row. `rows` is how many different rows are asked."""

    name: str
    title: str
    input: str
    dtype: str
    width: int
    columns: tuple[str, ...]
    outputs: tuple[str, ...]
    sizes: tuple[int, ...]
    rows: int


def _breast_cancer_names() -> tuple[str, ...]:
    from sklearn.datasets import load_breast_cancer

    return tuple(name.replace(" ", "_") for name in load_breast_cancer().feature_names)


MODELS = {
    model.name: model
    for model in (
        Model(
            "forest", "random forest, 100 trees of depth 6, 30 features", "X", "float32", 30,
            _breast_cancer_names(), ("probabilities",), (2,), 20_000,
        ),
        Model(
            "recommender", "embedding of 64, 1,000 items scored, the best 10", "user_id", "int64", 1,
            ("user_id",), ("items", "scores"), (10, 10), _USERS,
        ),
        Model(
            "heavy", "network 512-3584-3584-3584-16, milliseconds a row", "x", "float32", _HEAVY_INPUTS,
            (), ("y",), (16,), 4_000,
        ),
    )
}  # fmt: skip


def make_models(folder: Path, names: list[str]) -> None:
    """Writes `<name>-<version>.onnx`, and `<name>.json` with the facts that the servers read. What is there
    stays."""
    makers: dict[str, Callable[[int], bytes]] = {
        "forest": _forest,
        "recommender": _recommender,
        "heavy": _heavy,
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}.json").write_text(json.dumps(asdict(MODELS[name])))
        for seed, version in enumerate(VERSIONS):
            path = folder / f"{name}-{version}.onnx"
            if not path.exists():
                scratch = path.with_suffix(".partial")
                scratch.write_bytes(makers[name](seed))
                scratch.rename(path)


def rows_of(model: Model) -> list[Row]:
    """The model's rows, all different, the same on every machine; their numbers are short enough to be read
    back exactly."""
    random = np.random.default_rng(0)
    if model.name == "recommender":
        return [[user] for user in random.permutation(model.rows).tolist()]
    if model.name == "heavy":
        return random.normal(size=(model.rows, model.width)).round(4).tolist()  # type: ignore[no-any-return]
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer().data
    noise = random.normal(1, 0.01, (model.rows, model.width))
    return (data[np.arange(model.rows) % len(data)] * noise).round(5).tolist()  # type: ignore[no-any-return]


def features(model: Model, row: Row) -> dict[str, Any]:
    """The row as named features."""
    return dict(zip(model.columns, row, strict=True)) if model.columns else {model.input: row}


def expected(folder: Path, model: Model, rows: list[Row]) -> dict[str, list[list[float]]]:
    """For each version, the answer to each row: the model's output tensors one after the other."""
    import onnxruntime as ort

    answers = {}
    for version in VERSIONS:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        path = str(folder / f"{model.name}-{version}.onnx")
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        found = session.run(list(model.outputs), {model.input: tensor(model, rows)})
        answers[version] = [
            [number for part in found for number in np.ravel(part[index]).tolist()]
            for index in range(len(rows))
        ]
    return answers


def tensor(model: Model, rows: list[Row]) -> npt.NDArray[Any]:
    """The rows as the model's input."""
    array = np.array(rows, model.dtype)
    return array.reshape(-1) if model.name == "recommender" else array


# --- how they are made --------------------------------------------------------------------------------------


def _forest(seed: int) -> bytes:
    from skl2onnx import to_onnx
    from sklearn.datasets import load_breast_cancer
    from sklearn.ensemble import RandomForestClassifier

    data = load_breast_cancer()
    forest = RandomForestClassifier(100, max_depth=6, random_state=seed).fit(data.data, data.target)
    sample = data.data[:1].astype(np.float32)
    converted = to_onnx(forest, sample, options={id(forest): {"zipmap": False}}, target_opset=17)
    return converted.SerializeToString()  # type: ignore[no-any-return]


def _recommender(seed: int) -> bytes:
    from onnx import TensorProto, helper

    random = np.random.default_rng(seed)
    weights = {
        "users": random.normal(size=(_USERS, 64)),
        "mix": random.normal(size=(64, 64)) / 8,
        "catalogue": random.normal(size=(64, 1000)),
    }
    steps = [
        helper.make_node("Gather", ["users", "user_id"], ["embedding"], axis=0),
        helper.make_node("MatMul", ["embedding", "mix"], ["mixed"]),
        helper.make_node("Relu", ["mixed"], ["taste"]),
        helper.make_node("MatMul", ["taste", "catalogue"], ["every"]),
        helper.make_node("TopK", ["every", "k"], ["scores", "items"], axis=1),
    ]
    inputs = [helper.make_tensor_value_info("user_id", TensorProto.INT64, ["N"])]
    outputs = [
        helper.make_tensor_value_info("items", TensorProto.INT64, ["N", 10]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 10]),
    ]
    return _graph("recommender", steps, inputs, outputs, weights, {"k": np.array([10], np.int64)})


def _heavy(seed: int) -> bytes:
    from onnx import TensorProto, helper

    random = np.random.default_rng(seed)
    sizes = [_HEAVY_INPUTS, _HIDDEN, _HIDDEN, _HIDDEN, 16]
    weights: dict[str, npt.NDArray[Any]] = {}
    steps, current = [], "x"
    for layer, (wide, narrow) in enumerate(itertools.pairwise(sizes)):
        weights[f"w{layer}"] = random.normal(size=(wide, narrow)) / np.sqrt(wide)
        weights[f"b{layer}"] = np.zeros(narrow)
        last = layer == len(sizes) - 2
        target = "y" if last else f"sum{layer}"
        steps.append(helper.make_node("Gemm", [current, f"w{layer}", f"b{layer}"], [target]))
        if not last:
            current = f"layer{layer}"
            steps.append(helper.make_node("Relu", [target], [current]))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", _HEAVY_INPUTS])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 16])]
    return _graph("heavy", steps, inputs, outputs, weights, {})


def _graph(
    name: str,
    steps: list[Any],
    inputs: list[Any],
    outputs: list[Any],
    weights: dict[str, npt.NDArray[Any]],
    constants: dict[str, npt.NDArray[Any]],
) -> bytes:
    from onnx import helper, numpy_helper

    held = {key: value.astype(np.float32) for key, value in weights.items()} | constants
    tensors = [numpy_helper.from_array(value, key) for key, value in held.items()]
    graph = helper.make_graph(steps, name, inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()  # type: ignore[no-any-return]
