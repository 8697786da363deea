"""Versions to register: small, valid, and different where a test wants them to be."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

from fairlead.contracts.contract import Contract, Field, Output
from fairlead.registry.registration import NewVersion
from fairlead.registry.versions import File, Lineage, Manifest, ModelSettings, VersionSpec
from fairlead.runtimes.base import OutputNames, RuntimeSpec, Tensor
from fairlead.stores.blobs import Blobs

__all__ = ["Clock", "contract_of", "new_version"]

RUNTIME = RuntimeSpec(
    kind="onnx",
    entry="model.onnx",
    binding="columns",
    inputs=(Tensor(name="age", dtype="float64", shape=(-1, 1)),),
    outputs=OutputNames(value="score"),
)


class Clock:
    """A clock that moves one second with every look."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


def contract_of(**changes: Any) -> Contract:
    """A contract with the one feature `age`."""
    return Contract(inputs=(Field(name="age", type="float", **changes),), output=Output(kind="number"))


def new_version(
    version: str = "1",
    *,
    model: str = "churn",
    content: bytes = b"weights",
    blobs: Blobs | None = None,
    contract: Contract | None = None,
    settings: ModelSettings | None = None,
    **changes: Any,
) -> NewVersion:
    """A version of one file; its bytes are put into `blobs` where given."""
    sha256 = hashlib.sha256(content).hexdigest()
    if blobs is not None:
        blobs.put(content, sha256)
    spec = VersionSpec(
        model=model,
        version=version,
        manifest=Manifest(files=(File(path="model.onnx", sha256=sha256, size=len(content)),)),
        runtime=RUNTIME,
        contract=contract or contract_of(),
        settings=settings or ModelSettings(),
        lineage=Lineage(run="mlflow://runs/7", training_data="orders-2026-10"),
    )
    given: dict[str, Any] = {"framework": "sklearn", "created_by": "ada", "metrics": {"accuracy": 0.91}}
    return NewVersion(spec=spec, **{**given, **changes})
