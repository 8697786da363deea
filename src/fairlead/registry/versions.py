"""The nouns of the registry: manifest, version, settings. Data only; gateways import this file."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from typing import Any, Literal

import msgspec

from fairlead.contracts.contract import Contract
from fairlead.contracts.uncertainty import Uncertainty
from fairlead.errors import InvalidName
from fairlead.runtimes.base import RuntimeSpec

__all__ = [
    "DetectorName", "File", "Lineage", "Manifest", "ModelSettings", "Version", "VersionSpec", "verify_name",
]  # fmt: skip

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
    """Where a version comes from: training run, tag and fingerprint of its data, code revision.

    Of one that was retrained: the id of the retraining, the version that it was trained beside (`parent`),
    and why.
    """

    run: str | None = None
    training_data: str | None = None
    training_data_fingerprint: str | None = None
    code_revision: str | None = None
    retraining: str | None = None
    parent: str | None = None
    cause: str | None = None


DetectorName = Literal["adwin", "page-hinkley"]


class ModelSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Serving settings of a model or a version (a version's own values win over its model's).

    `cache_seconds` 0 switches the cache off. `timeout_ms` bounds one prediction. `max_batch_rows` bounds one
    request and one run of the model. `memory_limit_mb` bounds a model worker. A model that had no request for
    `idle_unload_seconds` leaves memory, and the next request loads it; 0 is never.

    The others matter where the version runs in a model worker. `max_queue_delay_ms` is how long a row may
    wait for company while the model is idle. `max_queue_rows` and `max_queue_bytes` bound what waits for the
    model on one machine; more is refused. `latency_target_ms` chooses the rows of a run so that waiting for
    one run and taking part in the next stay below it; null leaves them at `max_batch_rows`. `instances` is
    how many runs of an ONNX model there may be at a time.

    When the version cannot answer, a cached answer may stand in up to `stale_seconds` past its lifetime, then
    `fallback_version`: the name of another version that is loaded, or `stable` for the one in production.

    `adaptive_coverage`: how fast intervals and sets follow the labels, by so much of a share with each; 0 is
    never, 0.005 is usual.

    The others are a model's alone. `gate_required`: only versions that have passed a gate get traffic.
    `drift_alarm_days`: of its drift there is one false alarm in so many days at most, on average.
    `drift_moved_share`: the share of rows that have to hold something else than in the reference before it
    matters, however certain it is. `performance_alarm_days`: of what labels say of a version's risk there is
    one false alarm in so many days at most, on average, and one of slices, calibration and fairness together;
    `performance_tolerance`: a risk that is higher by no
    more than this does not matter. `fairness_gap`: nor does a gap between groups that is no wider.
    `performance_detector`: a detector of river that follows the losses beside the risk, none unless named.
    `label_delay_hours`: labels are complete after so many hours; null is when 95 % of them came lately.
    `price_per_core_hour`: what an hour of the cores that it runs on costs; null is what the server says.
    """

    cache_seconds: float = 300.0
    timeout_ms: float = 10_000.0
    max_batch_rows: int = 1_000
    memory_limit_mb: int = 2_048
    max_queue_delay_ms: float = 0.0
    max_queue_rows: int = 10_000
    max_queue_bytes: int = 256 * 2**20
    latency_target_ms: float | None = None
    instances: int = 1
    stale_seconds: float = 0.0
    fallback_version: str | None = None
    idle_unload_seconds: float = 0.0
    adaptive_coverage: float = 0.0
    gate_required: bool = False
    drift_alarm_days: float = 30.0
    drift_moved_share: float = 0.05
    performance_alarm_days: float = 30.0
    performance_tolerance: float = 0.05
    fairness_gap: float = 0.1
    performance_detector: DetectorName | None = None
    label_delay_hours: float | None = None
    price_per_core_hour: float | None = None


class VersionSpec(msgspec.Struct, frozen=True, kw_only=True):
    """All that a gateway needs to serve one version. Without `uncertainty` its answers do not say how sure
    they are."""

    model: str
    version: str
    manifest: Manifest
    runtime: RuntimeSpec
    contract: Contract
    settings: ModelSettings = msgspec.field(default_factory=ModelSettings)
    lineage: Lineage = msgspec.field(default_factory=Lineage)
    uncertainty: Uncertainty | None = None


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
