"""A gateway, its log and a registry, put together as control would find them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from fairlead.errors import FairleadError
from fairlead.evaluation.change_report import ChangeReport
from fairlead.evaluation.replay import Replayed, replay_request
from fairlead.evaluation.traffic import replay_traffic
from fairlead.predictions.ingest import Ingest
from fairlead.predictions.operations import Operations
from fairlead.predictions.query import Queries
from fairlead.predictions.segments import frame
from fairlead.registry.registry import NewVersion, Registry
from fairlead.registry.versions import VersionSpec
from fairlead.routing.plan import Role
from fairlead.serving.asks import Ask, BatchAsk
from fairlead.serving.folder import DataFolder
from fairlead.stores.blobs import Blobs
from fairlead.stores.database import Database
from tests.evaluation.made import stored
from tests.models import FEATURES, lay_plan, plan_of
from tests.serving.conftest import Gateway

__all__ = ["ALL", "Site", "rows_of_iris"]

ALL: dict[str, tuple[str, Role, float]] = {"stable": ("v1", "stable", 100)}


def rows_of_iris() -> list[dict[str, float]]:
    from sklearn.datasets import load_iris

    return [dict(zip(FEATURES, row, strict=True)) for row in load_iris().data.tolist()]


class Site:
    """A gateway, its log, and a registry with its versions; what control would have at hand."""

    def __init__(self, folder: DataFolder, database: Database, blobs: Blobs) -> None:
        self.gateway = Gateway(folder)
        self.folder = folder
        self.blobs = blobs
        self.registry = Registry(database, blobs)
        self.ingest = Ingest(folder.root)
        self._operations = Operations(Queries(self.ingest))
        self.specs: dict[str, VersionSpec] = {}

    def call(self, op: str, **arguments: Any) -> Any:
        """As `IngestClient.call`, without a process and a socket between."""
        plain = msgspec.json.decode(msgspec.json.encode(arguments))
        return msgspec.json.decode(self._operations.answer(op, plain))

    def register(self, version: str, onnx: bytes | Mapping[str, bytes], **options: Any) -> VersionSpec:
        spec = stored(self.blobs, onnx, version=version, **options)
        self.registry.register(NewVersion(spec=spec, framework="onnx", created_by="ann"))
        self.specs[version] = spec
        place = self.folder.versions / spec.manifest.digest
        place.mkdir(exist_ok=True)
        for name, content in ({"model.onnx": onnx} if isinstance(onnx, bytes) else onnx).items():
            (place / name).write_bytes(content)
        return spec

    def serve(self, weights: dict[str, tuple[str, Role, float]], generation: int = 1) -> None:
        plan = plan_of(weights, generation=generation)
        lay_plan(self.folder, plan, *self.specs.values(), keep=tuple(set(self.specs)))
        self.gateway.follow()

    def ask(self, features: Any, **members: Any) -> None:
        """Sends a request; its refusal is in the log, too."""
        model = self.gateway.plane.model("iris")
        body = json.dumps({"features": features, **members}).encode()
        ask = Ask.of(model.reader.read(body), received=time.perf_counter())
        try:
            asyncio.run(self.gateway.plane.infer(model, ask))
        except FairleadError:
            return

    def ask_batch(self, rows: list[Any], request_id: str) -> None:
        model = self.gateway.plane.model("iris")
        body = json.dumps({"instances": [{"features": row} for row in rows], "request_id": request_id})
        ask = BatchAsk(model.reader.read_batch(body.encode()), received=time.perf_counter())
        asyncio.run(self.gateway.plane.infer_batch(model, ask))

    def alter(self, request_id: str, **changes: Any) -> None:
        """Puts a copy of the request's record into the log under another id, altered."""
        (held,) = [record for record in self.gateway.records() if record.request_id == request_id]
        features = changes.pop("features", None)
        if features is not None:
            changes["features"] = msgspec.Raw(msgspec.msgpack.encode(features))
        record = msgspec.structs.replace(held, request_id=f"{request_id}-altered", **changes)
        self.gateway.writer.append(frame(record))

    def replay(self, request_id: str, **options: Any) -> list[Replayed]:
        return replay_request(
            self.registry,
            self,
            self.folder,
            request_id,
            trust_pickle=False,
            **options,  # type: ignore[arg-type]
        )

    def against(self, version: str, *, trust_pickle: bool = False, **options: Any) -> ChangeReport:
        now = datetime.now(UTC) + timedelta(seconds=1)
        return replay_traffic(
            self.registry, self, self.folder, "iris", version,  # type: ignore[arg-type]
            now - timedelta(hours=1), now, trust_pickle=trust_pickle, **options,
        )  # fmt: skip
