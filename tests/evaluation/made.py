"""Registered versions of every kind, as control finds them: files in the artifact store, specs at hand."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from fairlead.contracts.contract import Contract
from fairlead.registry.versions import File, Manifest, ModelSettings, VersionSpec
from fairlead.runtimes.base import RuntimeSpec
from fairlead.runtimes.python import python_spec
from fairlead.stores.blobs import Blobs
from tests.models import IRIS_RUNTIME, iris_contract

__all__ = ["pickled", "stored"]


def stored(
    blobs: Blobs,
    content: bytes | Mapping[str, bytes],
    *,
    version: str = "v1",
    model: str = "iris",
    runtime: RuntimeSpec = IRIS_RUNTIME,
    contract: Contract | None = None,
    settings: ModelSettings | None = None,
) -> VersionSpec:
    """A version whose files lie in the store: one, the runtime's entry, or several by path."""
    files = {runtime.entry: content} if isinstance(content, bytes) else content
    listed = []
    for path, data in sorted(files.items()):
        digest = hashlib.sha256(data).hexdigest()
        blobs.put(data, digest)
        listed.append(File(path=path, sha256=digest, size=len(data)))
    return VersionSpec(
        model=model,
        version=version,
        manifest=Manifest(files=tuple(listed)),
        runtime=runtime,
        contract=contract or iris_contract(),
        settings=settings or ModelSettings(),
    )


def pickled(
    blobs: Blobs,
    source: str,
    contract: Contract,
    *,
    version: str = "v1",
    model: str = "iris",
    settings: ModelSettings | None = None,
) -> VersionSpec:
    """A version whose pickle is the function `model` of that source."""
    data = b"csource_of_it\nmodel\n."  # by reference: it can be loaded only where the source lies
    files = {"model.pkl": data, "source_of_it.py": source.encode()}
    runtime = python_spec(contract, "model.pkl")
    return stored(
        blobs, files, version=version, model=model, runtime=runtime, contract=contract, settings=settings
    )
