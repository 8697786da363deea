"""A real gateway with HTTP and gRPC and two models: `iris` takes a matrix, `shop` a column per field."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from fairlead.contracts.contract import Contract, Field, Output
from fairlead.contracts.uncertainty import Uncertainty
from fairlead.registry.versions import ModelSettings, VersionSpec
from fairlead.runtimes.base import OutputNames, RuntimeSpec, Tensor
from fairlead.serving.folder import DataFolder
from tests.gateway.conftest import GatewayProcess
from tests.models import data_folder, iris_onnx, lay_plan, lay_version, plan_of

SHOP_CONTRACT = Contract(
    inputs=(
        Field(name="country", type="string", categories=("DE", "FR")),
        Field(name="age", type="float", minimum=0, maximum=120),
        Field(name="visits", type="int", required=False, default=1),
    ),
    output=Output(kind="number"),
)
SHOP_RUNTIME = RuntimeSpec(
    kind="onnx",
    entry="model.onnx",
    binding="columns",
    inputs=(
        Tensor(name="country", dtype="string", shape=(-1, 1)),
        Tensor(name="age", dtype="float32", shape=(-1, 1)),
        Tensor(name="visits", dtype="int64", shape=(-1, 1)),
    ),
    outputs=OutputNames(value="value"),
)


def shop_onnx() -> bytes:
    """value = 100 for DE, 200 for FR, plus age plus visits."""
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [
            helper.make_node(
                "LabelEncoder", ["country"], ["base"], domain="ai.onnx.ml",
                keys_strings=["DE", "FR"], values_floats=[100.0, 200.0],
            ),
            helper.make_node("Cast", ["visits"], ["count"], to=TensorProto.FLOAT),
            helper.make_node("Sum", ["base", "age", "count"], ["value"]),
        ],
        "shop",
        [
            helper.make_tensor_value_info("country", TensorProto.STRING, ["N", 1]),
            helper.make_tensor_value_info("age", TensorProto.FLOAT, ["N", 1]),
            helper.make_tensor_value_info("visits", TensorProto.INT64, ["N", 1]),
        ],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, ["N", 1])],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 2)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()  # type: ignore[no-any-return]


def lay_shop(folder: DataFolder) -> VersionSpec:
    """Puts the model `shop` in the folder, with all traffic for its one version."""
    laid = lay_version(folder, "s1", shop_onnx(), model="shop", contract=SHOP_CONTRACT)
    spec = msgspec.structs.replace(
        laid, runtime=SHOP_RUNTIME, settings=ModelSettings(max_batch_rows=100),
        uncertainty=Uncertainty(kind="interval", quantile=2.5, n=100),
    )  # fmt: skip
    lay_plan(folder, plan_of({"stable": ("s1", "stable", 100)}, model="shop"), spec)
    return spec


class Served(GatewayProcess):
    """A gateway with a gRPC port of its own, held as the supervisor holds it: by a socket that is bound."""

    def __init__(self, folder: DataFolder, **settings: object) -> None:
        self._holder = socket.socket()
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._holder.bind(("127.0.0.1", 0))
        self.grpc_port = self._holder.getsockname()[1]
        super().__init__(folder, grpc_port=self.grpc_port, **settings)
        self.url = f"127.0.0.1:{self.port}"
        self.grpc_url = f"127.0.0.1:{self.grpc_port}"

    def close(self) -> None:
        super().close()
        self._holder.close()


def lay_models(root: Path) -> DataFolder:
    """`iris` with v1 in production and v2 as a canary at 10 %, v3 kept for a rollback, and `shop`. v1 and the
    shop say how sure they are."""
    folder = data_folder(root)
    specs = [lay_version(folder, f"v{number}", iris_onnx(number)) for number in (1, 2, 3)]
    specs[0] = msgspec.structs.replace(specs[0], uncertainty=Uncertainty(kind="set", quantile=0.7, n=100))
    arms = {"stable": ("v1", "stable", 90), "canary": ("v2", "canary", 10)}
    lay_plan(folder, plan_of(arms), *specs, keep=("v3",))
    lay_shop(folder)
    return folder


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The gateway, with `iris` as its default model and repository control switched on."""
    folder = lay_models(tmp_path_factory.mktemp("served") / "data")
    running = Served(folder, default_model="iris", repository_control=True)
    yield running
    running.close()
