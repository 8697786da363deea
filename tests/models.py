"""Small real models for tests: trained here, converted by skl2onnx, laid out as a gateway finds them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from fairlead.contracts.contract import Contract, Field, Output
from fairlead.registry.artifacts import manifest_of
from fairlead.registry.versions import Lineage, ModelSettings, VersionSpec
from fairlead.routing.assign import rebalance, slot_order, targets
from fairlead.routing.plan import SLOTS, Arm, Plan, Role
from fairlead.runtimes.base import OutputNames, RuntimeSpec, Tensor
from fairlead.runtimes.leading import LEADING_FILE, Leading
from fairlead.serving.folder import DataFolder, ModelPlans, ServingPlan

FEATURES = ("sepal_length", "sepal_width", "petal_length", "petal_width")
SAMPLE = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}


def iris_onnx(seed: int = 0) -> bytes:
    """A small forest on iris as ONNX: input `X` [N, 4] of float32, outputs label and probabilities."""
    from skl2onnx import to_onnx
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier

    data = load_iris()
    forest = RandomForestClassifier(5, max_depth=3, random_state=seed).fit(data.data, data.target)
    sample = data.data[:1].astype(np.float32)
    converted = to_onnx(forest, sample, options={id(forest): {"zipmap": False}}, target_opset=17)
    return converted.SerializeToString()  # type: ignore[no-any-return]


def iris_contract(**changes: Any) -> Contract:
    """The contract of `iris_onnx`; `changes` apply to every field."""
    fields = [Field(name=name, type="float", minimum=0, maximum=10) for name in FEATURES]
    return Contract(
        inputs=tuple(msgspec.structs.replace(field, **changes) for field in fields),
        output=Output(kind="class", classes=(0, 1, 2)),
    )


IRIS_RUNTIME = RuntimeSpec(
    kind="onnx",
    entry="model.onnx",
    binding="matrix",
    inputs=(Tensor(name="X", dtype="float32", shape=(-1, 4)),),
    outputs=OutputNames(label="label", probabilities="probabilities"),
)


def lay_version(
    folder: DataFolder,
    version: str,
    onnx: bytes,
    *,
    model: str = "iris",
    contract: Contract | None = None,
    settings: ModelSettings | None = None,
    leading: Leading | None = None,
) -> VersionSpec:
    """Puts a version's files where gateways load them from and returns its spec."""
    scratch = folder.root / "scratch" / version
    scratch.mkdir(parents=True)
    (scratch / "model.onnx").write_bytes(onnx)
    if leading is not None:
        (scratch / LEADING_FILE).write_bytes(msgspec.json.encode(leading))
    manifest = manifest_of(scratch)
    target = folder.versions / manifest.digest
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        scratch.rename(target)
    return VersionSpec(
        model=model,
        version=version,
        manifest=manifest,
        runtime=IRIS_RUNTIME,
        contract=contract or iris_contract(),
        settings=settings or ModelSettings(),
        lineage=Lineage(training_data="iris-1936", code_revision="abc123"),
    )


def plan_of(weights: dict[str, tuple[str, Role, float]], *, generation: int = 1, model: str = "iris") -> Plan:
    """A plan from {arm: (version, role, percent)}: of the units, for a shadow of the requests it mirrors."""
    mirrors = {name: percent for name, (_, role, percent) in weights.items() if role == "shadow"}
    names = list(weights)
    wanted = targets({name: 0.0 if name in mirrors else weights[name][2] for name in names})
    owners = rebalance([names[0]] * SLOTS, wanted, slot_order("rollout"))
    return Plan(
        model=model,
        generation=generation,
        salt="salt",
        arms=tuple(
            Arm(name=name, version=weights[name][0], role=weights[name][1], mirror=mirrors.get(name, 0.0))
            for name in names
        ),
        slots=bytes(names.index(owner) for owner in owners),
        rollout="rollout",
    ).verify()


def lay_plan(folder: DataFolder, plan: Plan, *specs: VersionSpec, keep: tuple[str, ...] = ()) -> None:
    """Makes the plan the active one of its model."""
    versions = {spec.version: spec for spec in specs}
    folder.write_plans(
        ModelPlans(model=plan.model, active=ServingPlan(plan=plan, versions=versions, keep=keep))
    )


def data_folder(root: Path) -> DataFolder:
    """An empty data folder."""
    return DataFolder(root).make()


def faulty_onnx() -> bytes:
    """Takes what `iris_onnx` takes and really fails on some rows, by what their `sepal_length` says.

    9 asks for what is not there (ONNX Runtime raises), 8 gives a probability that is not a number, anything
    else class 0 of the same three.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    table = np.zeros((9, 3), np.float32)
    table[:, 0] = 1.0
    table[8] = np.nan
    constants = {
        "column": np.array([0], np.int64),
        "axis": np.array([1], np.int64),
        "table": table,
    }
    nodes = [
        helper.make_node("Gather", ["X", "column"], ["first"], axis=1),
        helper.make_node("Squeeze", ["first", "axis"], ["flat"]),
        helper.make_node("Cast", ["flat"], ["place"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "place"], ["probabilities"], axis=0),
        helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "faulty",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, 4])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 3]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()  # type: ignore[no-any-return]


def line_onnx(weights: Sequence[float]) -> bytes:
    """Class 1 where the weighted sum of its features is above 0, made without anything to learn with: input
    `X` [N, features] of float32, outputs label and probabilities."""
    from onnx import TensorProto, helper, numpy_helper

    constants = {
        "weights": np.array([[-one, one] for one in weights], np.float32),
        "half": np.array([0.5], np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["X", "weights"], ["sides"]),
        helper.make_node("Mul", ["sides", "half"], ["halves"]),
        helper.make_node("Softmax", ["halves"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "line",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, len(weights)])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())
