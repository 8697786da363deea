"""A registry with versions to move traffic between. The files are no models: nothing here runs them."""

from __future__ import annotations

import hashlib
from typing import Any

from fairlead.contracts.contract import Contract, Field, Output
from fairlead.contracts.uncertainty import Uncertainty
from fairlead.registry.registry import NewVersion, Registry
from fairlead.registry.versions import File, Manifest, ModelSettings, VersionSpec
from fairlead.runtimes.base import OutputNames, RuntimeSpec, Tensor
from fairlead.stores.blobs import Blobs

__all__ = ["CONTRACT", "RUNTIME", "register"]

CONTRACT = Contract(inputs=(Field(name="age", type="float"),), output=Output(kind="number"))
RUNTIME = RuntimeSpec(
    kind="onnx",
    entry="model.onnx",
    binding="matrix",
    inputs=(Tensor(name="x", dtype="float64", shape=(-1, 1)),),
    outputs=OutputNames(value="y"),
)


def register(
    registry: Registry,
    blobs: Blobs,
    *versions: str,
    model: str = "shop",
    who: str = "ann",
    probe: dict[str, Any] | None = None,
    uncertainty: Uncertainty | None = None,
    scores: tuple[float, ...] = (),
) -> list[Manifest]:
    """Registers versions, each with one file whose bytes are its name; answers their manifests."""
    manifests = []
    for version in versions:
        content = f"{model} {version}".encode()
        digest = hashlib.sha256(content).hexdigest()
        blobs.put(content, digest)
        manifest = Manifest(files=(File(path="model.onnx", sha256=digest, size=len(content)),))
        spec = VersionSpec(
            model=model,
            version=version,
            manifest=manifest,
            runtime=RUNTIME,
            contract=CONTRACT,
            settings=ModelSettings(),
            uncertainty=uncertainty,
        )
        registry.register(NewVersion(spec=spec, framework="onnx", created_by=who, probe=probe, scores=scores))
        manifests.append(manifest)
    return manifests
