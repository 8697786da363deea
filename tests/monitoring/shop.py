"""Model `shop`: people of some lands, and two versions of which only the first brought a profile."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import numpy as np

from fairlead.contracts.contract import Contract, Field, Output
from fairlead.contracts.profile import ReferenceProfile, profile
from fairlead.contracts.sliced import reference_of
from fairlead.contracts.table import read_table
from fairlead.registry.registry import NewVersion, Registry
from fairlead.registry.versions import File, Manifest, VersionSpec
from fairlead.runtimes.base import OutputNames, RuntimeSpec, Tensor
from fairlead.stores.blobs import Blobs
from fairlead.stores.database import Database

__all__ = ["CONTRACT", "reference", "rows", "shop"]

CONTRACT = Contract(
    inputs=(
        Field(name="age", type="float", nullable=True),
        Field(name="land", type="string", slice=True, nullable=True),
    ),
    output=Output(kind="number"),
)
RUNTIME = RuntimeSpec(
    kind="onnx",
    entry="model.onnx",
    binding="columns",
    inputs=(
        Tensor(name="age", dtype="float64", shape=(-1, 1)),
        Tensor(name="land", dtype="string", shape=(-1, 1)),
    ),
    outputs=OutputNames(value="y"),
)
LANDS = ["DE"] * 60 + ["FR"] * 30 + ["AT"] * 10


def rows(n: int, seed: int, *, shift: float = 0.0, nulls: float = 0.0) -> dict[str, list[Any]]:
    generator = np.random.default_rng(seed)
    ages: list[Any] = generator.normal(40.0 + shift, 10.0, n).tolist()
    ages[: round(nulls * n)] = [None] * round(nulls * n)
    return {"age": ages, "land": generator.choice(LANDS, n).tolist()}


def reference() -> ReferenceProfile:
    """The profile of v1's training data, without slices."""
    return profile(read_table(rows(10_000, 1)), CONTRACT)


def shop(database: Database, blobs: Blobs, *, sliced: bool = False) -> Registry:
    """A registry with `shop`: v1, in production, with a profile, and v2 without."""
    made = Registry(database, blobs)
    held = reference_of(read_table(rows(10_000, 1)), CONTRACT) if sliced else reference()
    for version in ("v1", "v2"):
        contents = {"model.onnx": version.encode()}
        if version == "v1":
            contents["reference.json"] = msgspec.json.encode(held)
        files = []
        for path, content in contents.items():
            digest = hashlib.sha256(content).hexdigest()
            blobs.put(content, digest)
            files.append(File(path=path, sha256=digest, size=len(content)))
        spec = VersionSpec(
            model="shop",
            version=version,
            manifest=Manifest(files=tuple(files)),
            runtime=RUNTIME,
            contract=CONTRACT,
        )
        made.register(NewVersion(spec=spec, framework="onnx", created_by="ann"))
    with database.write() as connection:
        made.record_stages(connection, "shop", {"v1": "production"}, generation=1, who="ann")
    return made
