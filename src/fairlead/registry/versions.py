"""The nouns of the registry: manifest, version, settings. Data only; gateways import this file."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from typing import Any

import msgspec

from fairlead.contracts.contract import Contract
from fairlead.errors import InvalidName
from fairlead.runtimes.base import RuntimeSpec

__all__ = ["File", "Lineage", "Manifest", "ModelSettings", "Version", "VersionSpec", "verify_name"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def verify_name(kind: str, name: str) -> str:
    """The name, or `InvalidName`: 1 to 100 letters, digits, dots, dashes, underscores; no dot in front."""
    if not _NAME.fullmatch(name):
        raise InvalidName(
            f"{kind.capitalize()} name {name!r} is not allowed.",
            remedy="Use 1 to 100 letters, digits, '.', '-' and '_', beginning with a letter or digit.",
        )
    return name


class File(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One file of a version: relative path with '/', SHA-256 in hexadecimal, size in bytes."""

    path: str
    sha256: str
    size: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The files of a version, sorted by path. Its digest is the version's identity."""

    files: tuple[File, ...]

    @property
    def digest(self) -> str:
        """SHA-256 in hexadecimal of the manifest's canonical JSON (keys sorted, no blanks)."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()


class Lineage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a version comes from: training run, tag and fingerprint of its data, code revision."""

    run: str | None = None
    training_data: str | None = None
    training_data_fingerprint: str | None = None
    code_revision: str | None = None


class ModelSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Serving settings of a model or a version (a version's own values win over its model's).

    `cache_seconds` 0 switches the cache off. `timeout_ms` bounds one prediction. `max_batch_rows` bounds one
    request and one run of the model. `memory_limit_mb` bounds an isolated worker.
    """

    cache_seconds: float = 300.0
    timeout_ms: float = 10_000.0
    max_batch_rows: int = 1_000
    memory_limit_mb: int = 2_048


class VersionSpec(msgspec.Struct, frozen=True, kw_only=True):
    """All that a gateway needs to serve one version."""

    model: str
    version: str
    manifest: Manifest
    runtime: RuntimeSpec
    contract: Contract
    settings: ModelSettings = msgspec.field(default_factory=ModelSettings)
    lineage: Lineage = msgspec.field(default_factory=Lineage)


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """A registered version as people see it."""

    model: str
    version: str
    digest: str
    framework: str
    stage: str
    spec: VersionSpec
    metrics: dict[str, float]
    tags: dict[str, str]
    created_by: str
    created_at: datetime
    proof: dict[str, Any] | None = None
    probe: dict[str, Any] | None = None
