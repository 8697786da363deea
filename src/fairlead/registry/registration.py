"""Registering a version: what is checked before, and what one transaction then adds."""

from __future__ import annotations

import itertools
import math
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from fairlead.contracts import adaptive
from fairlead.errors import BlobNotFound, InvalidModelFile, InvalidName, MalformedRequest, VersionExists
from fairlead.registry import aliases, audit, declared, levels, settings
from fairlead.registry.artifacts import verify_paths
from fairlead.registry.versions import Manifest, ModelSettings, VersionSpec, verify_name
from fairlead.runtimes.binding import Binding
from fairlead.stores import tables
from fairlead.stores.blobs import Blobs

__all__ = ["NewVersion", "add", "make_model", "refuse_if_taken", "verify", "verify_blobs"]


class NewVersion(msgspec.Struct, frozen=True, kw_only=True):
    """What a person registers. The files of the spec's manifest are in the artifact store already.

    `proof` tells how the conversion was proven, `probe` what it took to load and run the model where it was
    registered. `scores` are those of calibration that `contracts/adaptive.py` keeps; without them the
    version's uncertainty cannot follow its labels.
    """

    spec: VersionSpec
    framework: str
    created_by: str
    metrics: dict[str, float] = {}
    tags: dict[str, str] = {}
    proof: dict[str, Any] | None = None
    probe: dict[str, Any] | None = None
    scores: tuple[float, ...] = ()


def verify(new: NewVersion) -> None:
    """Raises what is wrong with the version itself, before any store is asked."""
    spec = new.spec
    verify_name("model", spec.model)
    verify_name("version", spec.version)
    verify_paths(spec.manifest)
    if spec.runtime.entry not in {file.path for file in spec.manifest.files}:
        raise InvalidModelFile(
            f"The main file {spec.runtime.entry!r} is not among the version's files.",
            remedy="Name one of the files in the manifest.",
        )
    spec.contract.verify()
    Binding(spec.contract, spec.runtime)
    if spec.uncertainty is not None:
        spec.uncertainty.verify(spec.contract.output)
    _verify_scores(new)
    for name, value in new.metrics.items():
        if not math.isfinite(value):
            raise MalformedRequest(f"Metric {name!r} is {value}.", remedy="Leave out what was not measured.")


def _verify_scores(new: NewVersion) -> None:
    said, scores = new.spec.uncertainty, new.scores
    if not scores:
        return
    known = said is not None and len(scores) <= min(said.n, adaptive.KEPT)
    ordered = all(low <= high for low, high in itertools.pairwise((0.0, *scores, math.inf)))
    if not known or not ordered or not math.isfinite(scores[-1]):
        raise MalformedRequest(
            f"The scores of calibration are not up to {adaptive.KEPT} numbers from 0 on in order, with the "
            "uncertainty that was found from them.",
            remedy="Leave them out, or register with fairlead.register.",
        )


def verify_blobs(blobs: Blobs, manifest: Manifest) -> None:
    """Raises `BlobNotFound` naming the first file whose bytes are not in the store with their full size."""
    for file in manifest.files:
        size = blobs.size(file.sha256)
        if size != file.size:
            found = "is not in the artifact store" if size is None else f"has {size} bytes there"
            raise BlobNotFound(
                f"File {file.path!r} ({file.sha256}, {file.size} bytes) {found}.",
                remedy="Upload the version's files first.",
                path=file.path,
                sha256=file.sha256,
            )


def refuse_if_taken(connection: sa.Connection, spec: VersionSpec) -> None:
    """Raises `VersionExists` when the name is taken, saying whether by the same content."""
    columns = tables.versions.c
    taken = columns.model == spec.model, columns.version == spec.version
    body = connection.scalar(sa.select(columns.spec).where(*taken))
    if body is None:
        return
    registered = msgspec.json.decode(body, type=VersionSpec)
    parts = ("manifest", "runtime", "contract", "lineage", "uncertainty")
    changed = [part for part in parts if getattr(registered, part) != getattr(spec, part)]
    name = f"Version {spec.version!r} of {spec.model!r} is registered already"
    if changed:
        message = f"{name}, with another {' and '.join(changed)}."
        remedy = "Versions never change: register this one under a new name."
    else:
        message, remedy = f"{name}, with the same content.", "There is nothing to do: use it as it is."
    raise VersionExists(
        message,
        remedy=remedy,
        model=spec.model,
        version=spec.version,
        digest=registered.manifest.digest,
        changed=changed,
    )


def add(connection: sa.Connection, new: NewVersion, at: datetime) -> None:
    """Adds the version, its model if that is new, its contract, its settings and the audit entry."""
    spec, who = new.spec, new.created_by
    refuse_if_taken(connection, spec)
    if spec.version in aliases.current(connection, spec.model):
        raise InvalidName(
            f"Model {spec.model!r} has an alias named {spec.version!r}.",
            remedy="Choose another version name, or take the alias away first.",
        )
    promised = declared.declared(connection, spec.model)
    if promised is not None:
        declared.verify_compatible(spec.model, spec.contract, promised)
    own = settings.own_values(spec.settings)
    settings.verify(own, spec.version)

    make_model(connection, spec.model, at=at, who=who)
    contract_id = declared.keep(connection, spec.contract, at)
    # What is set lives in the revisions alone; a copy in the spec would grow stale.
    stored = msgspec.structs.replace(spec, settings=ModelSettings())
    connection.execute(
        tables.versions.insert().values(
            model=spec.model,
            version=spec.version,
            digest=spec.manifest.digest,
            framework=new.framework,
            spec=msgspec.json.encode(stored).decode(),
            metrics=new.metrics,
            tags=new.tags,
            proof=new.proof,
            probe=new.probe,
            stage="none",
            created_by=who,
            created_at=at,
        )
    )
    if new.scores and spec.uncertainty is not None:
        levels.add(connection, spec, spec.uncertainty, new.scores, at)
    if own:
        why = "given at registration"
        settings.append(connection, spec.model, spec.version, own, at=at, who=who, why=why)
    details = {"digest": spec.manifest.digest, "contract_id": contract_id}
    audit.append(
        connection,
        at=at,
        who=who,
        action="register",
        model=spec.model,
        version=spec.version,
        details=details,
    )


def make_model(connection: sa.Connection, model: str, at: datetime, who: str) -> None:
    """Adds the model unless it is there."""
    models = tables.models
    if connection.scalar(sa.select(models.c.name).where(models.c.name == model)) is None:
        connection.execute(models.insert().values(name=model, description="", created_at=at, created_by=who))
