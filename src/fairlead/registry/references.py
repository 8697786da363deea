"""The reference of a contract: the profile of the first version registered under it that has one."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import msgspec

from fairlead.contracts.profile import REFERENCE_FILE, ReferenceProfile
from fairlead.errors import FairleadError
from fairlead.registry.registry import Registry
from fairlead.registry.versions import VersionSpec

__all__ = ["first_reference"]

logger = logging.getLogger(__name__)


def first_reference(
    registry: Registry, model: str, contract_id: str
) -> tuple[str, ReferenceProfile] | tuple[None, None]:
    """The version and its profile, which lends its bins to all later ones; nothing where there is none.

    A profile that cannot be had or read is passed over, with an entry in the log. Raises `ModelNotFound`,
    and `StoreUnavailable` when the database is away.
    """
    for version in registry.versions(model):
        if version.spec.contract.id == contract_id:
            for file in version.spec.manifest.files:
                if file.path == REFERENCE_FILE:
                    found = _fetched(registry, version.spec, file.sha256)
                    if found is not None:
                        return version.version, found
    return None, None


def _fetched(registry: Registry, spec: VersionSpec, sha256: str) -> ReferenceProfile | None:
    with tempfile.TemporaryDirectory(prefix="fairlead-") as folder:
        target = Path(folder) / REFERENCE_FILE
        try:
            registry.blobs.get_to(sha256, target)
            return msgspec.json.decode(target.read_bytes(), type=ReferenceProfile)
        except (FairleadError, OSError, msgspec.MsgspecError) as error:
            logger.warning("the reference of %s %s cannot be used: %s", spec.model, spec.version, error)
            return None
