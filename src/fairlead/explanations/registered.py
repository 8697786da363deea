"""What is known since its registration of what a version goes by."""

from __future__ import annotations

import msgspec

from fairlead.explanations.importance import IMPORTANCE_FILE, Importance
from fairlead.registry.references import document_of
from fairlead.registry.registry import Registry
from fairlead.registry.versions import VersionSpec
from fairlead.runtimes.leading import LEADING_FILE, NO_LEADING, Leader, Leading, Told

__all__ = ["VersionFeatures", "version_features"]


class VersionFeatures(msgspec.Struct, frozen=True, kw_only=True):
    """`importance` is what the version goes by on its training data, None where it came without; `leading`
    what the leading features beside its answers are measured in, or why there are none."""

    importance: Importance | None
    leading: Told


def version_features(registry: Registry, spec: VersionSpec) -> VersionFeatures:
    """What came with that version. A document that cannot be had or read counts as missing."""
    leading = document_of(registry, spec, LEADING_FILE, Leading) or NO_LEADING
    return VersionFeatures(
        importance=document_of(registry, spec, IMPORTANCE_FILE, Importance),
        leading=Leader(leading, spec.contract).told(),
    )
