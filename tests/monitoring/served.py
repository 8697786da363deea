"""A log that is asked in this process, and a registry whose versions are as old as its records."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from fairlead.contracts.contract import Contract, Field, Output
from fairlead.contracts.uncertainty import Uncertainty
from fairlead.predictions.ask import IngestClient
from fairlead.predictions.ingest import Ingest
from fairlead.predictions.operations import Operations
from fairlead.predictions.query import Queries
from fairlead.predictions.segments import SegmentWriter, frame
from fairlead.registry.registry import NewVersion, Registry
from fairlead.registry.versions import File, Manifest, VersionSpec
from fairlead.runtimes.base import OutputNames, RuntimeSpec, Tensor
from fairlead.stores.blobs import Blobs
from fairlead.stores.database import Database
from tests.predictions.records import AT, SCHEMA, make_outcome, make_record

__all__ = ["CLASSES", "START", "Here", "Served"]

START = datetime.fromtimestamp(AT / 1e6, UTC)
_RUNTIME = RuntimeSpec(
    kind="onnx",
    entry="model.onnx",
    binding="columns",
    inputs=tuple(
        Tensor(name=name, dtype=dtype, shape=(-1, 1))
        for name, dtype in (
            ("age", "float64"),
            ("visits", "int64"),
            ("member", "bool"),
            ("country", "string"),
        )
    ),
    outputs=OutputNames(label="label", value="value", ids="ids", scores="scores"),
)
CLASSES = Contract(
    inputs=(
        Field(name="age", type="float"),
        Field(name="visits", type="int"),
        Field(name="member", type="bool", slice=True),
        Field(name="country", type="string", slice=True),
    ),
    output=Output(kind="class", classes=(0, 1)),
)


class Here(IngestClient):
    """Answers from operations in this process, by way of JSON as the socket does."""

    def __init__(self, operations: Operations) -> None:
        super().__init__("nowhere")
        self._operations = operations

    def call(self, op: str, **args: Any) -> Any:
        sent = msgspec.json.decode(msgspec.json.encode(args))
        return msgspec.json.decode(self._operations.answer(op, sent))


class Served:
    """A log and a registry; `serve` writes answers and labels, `register` versions of model `shop`."""

    def __init__(self, folder: Path, *, contract: Contract = CLASSES) -> None:
        self.writer = SegmentWriter(folder / "log" / "g0")
        self.writer.register_schema(SCHEMA)
        self.ingest = Ingest(folder)
        self.client = Here(Operations(Queries(self.ingest)))
        self.database = Database(f"sqlite:///{folder}/fairlead.db")
        self.database.migrate()
        self.blobs = Blobs(f"file://{folder}/blobs")
        self.registry = Registry(self.database, self.blobs, clock=lambda: START)
        self.contract = contract

    def close(self) -> None:
        self.ingest.close()
        self.database.close()

    def register(self, version: str = "v1", uncertainty: Uncertainty | None = None, **more: Any) -> None:
        digest = hashlib.sha256(version.encode()).hexdigest()
        self.blobs.put(version.encode(), digest)
        file = File(path="model.onnx", sha256=digest, size=len(version))
        spec = VersionSpec(
            model="shop", version=version, manifest=Manifest(files=(file,)), runtime=_RUNTIME,
            contract=self.contract, uncertainty=uncertainty,
        )  # fmt: skip
        self.registry.register(NewVersion(spec=spec, framework="onnx", created_by="ann", **more))

    def serve(
        self,
        values: Sequence[Any],
        labels: Sequence[Any],
        *,
        at: timedelta,
        scores: Sequence[float] | None = None,
        countries: Sequence[str] | None = None,
        every: float = 1.0,
        version: str = "v1",
        quantile: float | None = None,
    ) -> None:
        """Answers from `at` after the start, one each `every` seconds; a label of None does not come."""
        first = AT + int(at.total_seconds() * 1e6)
        for index, (value, label) in enumerate(zip(values, labels, strict=True)):
            moment = first + int(index * every * 1e6)
            score = None if scores is None else float(scores[index])
            record = make_record(
                (31.5, 4, True, "DE" if countries is None else countries[index], [1.0]),
                at=moment, request_id=f"{version}-{first}-{index}", prediction=json.dumps(value),
                probabilities=None if score is None else json.dumps({"0": 1.0 - score, "1": score}),
                served_version=version, assigned_version=version, conformal_quantile=quantile,
            )  # fmt: skip
            self.writer.append(frame(record))
            if label is not None:
                told = make_outcome(
                    metric="label", value=label, request_id=record.request_id, at=moment,
                    received_at=moment + 1_000_000,
                )  # fmt: skip
                self.writer.append(frame(told))

    def late(self, at: timedelta, index: int, label: Any, *, version: str = "v1") -> None:
        """The label of an answer that was served `at` as number `index`, a day later."""
        first = AT + int(at.total_seconds() * 1e6)
        told = make_outcome(
            metric="label", value=label, request_id=f"{version}-{first}-{index}", at=first,
            received_at=first + 86_400_000_000,
        )  # fmt: skip
        self.writer.append(frame(told))
