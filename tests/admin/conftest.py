"""An admin API over real stores, with gateways that are threads, and small real models to register."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fastapi.testclient import TestClient
from onnx import TensorProto, helper

from fairlead.admin.api import create_app
from fairlead.alerts.delivery import Deliveries
from fairlead.alerts.following import Following
from fairlead.alerts.reading import Config
from fairlead.explanations.explaining import Explaining
from fairlead.gate.runs import Gates
from fairlead.predictions.ask import IngestClient
from fairlead.registry.registry import Registry
from fairlead.retraining.runner import Retraining
from fairlead.rollouts.commands import Rollouts
from fairlead.rollouts.traffic import Traffic
from fairlead.serving.folder import DataFolder
from fairlead.settings import Settings
from fairlead.stores.blobs import Blobs
from fairlead.stores.database import Database
from fairlead.syncs.runner import Syncs
from tests.rollouts.fakes import FakeFleet
from tests.rollouts.shop import CONTRACT, RUNTIME, register

__all__ = ["Api", "plain", "tiny_model"]


def plain(struct: msgspec.Struct) -> Any:
    """The struct as its JSON is read back."""
    return msgspec.json.decode(msgspec.json.encode(struct))


def tiny_model(factor: float = 1.0) -> bytes:
    """An ONNX model that `CONTRACT` and `RUNTIME` of the shop describe: y = factor * x."""
    by = helper.make_tensor("by", TensorProto.DOUBLE, [1], [factor])
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "by"], ["y"])],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, [None, 1])],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, [None, 1])],
        [by],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


class Api:
    """The API under test: `call` answers status and JSON; the stores behind it are at hand."""

    def __init__(self, database: Database, blobs: Blobs, settings: Settings) -> None:
        self.database = database
        self.blobs = blobs
        self.registry = Registry(database, blobs)
        self.traffic = Traffic(database, self.registry, settings)
        self.folder = DataFolder(settings.folder).make()
        ingest = IngestClient(self.folder.ingest_socket)
        self.syncs = Syncs(database, self.folder.log, name="api")
        gates = Gates(self.registry, self.folder, ingest, settings)
        recent = timedelta(days=settings.return_days)
        rollouts = Rollouts(
            database, self.folder.counters, ask=ingest.rows, registry=self.registry, recent=recent
        )
        self.retraining = Retraining(
            self.registry, gates, rollouts, ingest, self.folder, settings, name="api"
        )
        self.following = Following("")
        self.app = create_app(
            settings, database, self.registry, self.traffic, ingest, self.folder, self.syncs,
            Deliveries(database, Config(), name="api"), gates, rollouts, self.retraining,
            Explaining(self.registry, ingest, self.folder, trust_pickle=settings.trust_pickle),
            self.following,
        )  # fmt: skip
        self.http = TestClient(self.app, raise_server_exceptions=False)

    def call(
        self, method: str, path: str, body: Any = None, *, root: str = "/api/v1", **headers: str
    ) -> tuple[int, Any]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        response = self.http.request(method, root + path, json=body, headers=named)
        problem = response.status_code >= 400
        assert response.headers["content-type"] == f"application/{'problem+' if problem else ''}json"
        return response.status_code, response.json()

    def refused(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, str]:
        """Status and code of a call that is refused."""
        status, problem = self.call(method, path, body, **headers)
        assert status >= 400, problem
        assert problem["status"] == status
        return status, problem["code"]

    def upload(self, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        response = self.http.put(f"/api/v1/blobs/{digest}", content=content)
        assert response.status_code == 200, response.text
        return digest

    def registration(self, content: bytes, version: str = "v1", **more: Any) -> dict[str, Any]:
        """The body that registers a version of one file with these bytes."""
        file = {
            "path": "model.onnx",
            "sha256": hashlib.sha256(content).hexdigest(),
            "size": len(content),
        }
        return {
            "version": version,
            "manifest": {"files": [file]},
            "runtime": plain(RUNTIME),
            "contract": plain(CONTRACT),
            "framework": "onnx",
            **more,
        }

    def versions(self, *versions: str, model: str = "shop") -> None:
        """Puts versions into the registry without trying them out."""
        register(self.registry, self.blobs, *versions, model=model)


@pytest.fixture
def database_kind() -> str:
    """The API only translates. What it translates to is tested on both databases elsewhere."""
    return "sqlite"


@pytest.fixture
def api(database: Database, blobs: Blobs, tmp_path: Path) -> Iterator[Api]:
    """The API on an empty database, without gateways."""
    settings = Settings(data=str(tmp_path / "data"), max_body_bytes=100_000, max_artifact_bytes=1_000_000)
    made = Api(database, blobs, settings)
    with made.http:
        yield made


@pytest.fixture
def shop(api: Api) -> Iterator[Api]:
    """The API with a model `shop`: v1 in production, v2 and v3 registered, one gateway that follows."""
    with FakeFleet(api.database, "g0").running():
        api.versions("v1", "v2", "v3")
        assert api.call("POST", "/models/shop/deploy", {"version": "v1", "strategy": "direct"})[0] == 200
        yield api
