"""The references of versions: profiles of their training data, and which one lends its bins."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import TypeVar

import msgspec

from fairlead.contracts.profile import REFERENCE_FILE, ReferenceProfile
from fairlead.errors import FairleadError
from fairlead.registry.registry import Registry
from fairlead.registry.versions import VersionSpec

__all__ = ["document_of", "first_reference"]

logger = logging.getLogger(__name__)

T = TypeVar("T")


def first_reference(
    registry: Registry, model: str, contract_id: str
) -> tuple[str, ReferenceProfile] | tuple[None, None]:
    """The version whose profile lends its bins to all later ones under that contract, the first that has one,
    and that profile; nothing where there is none.

    A profile that cannot be had or read is passed over, with an entry in the log. Raises `ModelNotFound`,
    and `StoreUnavailable` when the database is away.
    """
    for version in registry.versions(model):
        if version.spec.contract.id == contract_id:
            found = document_of(registry, version.spec, REFERENCE_FILE, ReferenceProfile)
            if found is not None:
                return version.version, found
    return None, None


def document_of(registry: Registry, spec: VersionSpec, name: str, kind: type[T]) -> T | None:
    """What a JSON file of a version says; None where there is no such file, and, with an entry in the log,
    where it cannot be had or read."""
    digest = next((file.sha256 for file in spec.manifest.files if file.path == name), None)
    if digest is None:
        return None
    with tempfile.TemporaryDirectory(prefix="fairlead-") as folder:
        target = Path(folder) / name
        try:
            registry.blobs.get_to(digest, target)
            return msgspec.json.decode(target.read_bytes(), type=kind)
        except (FairleadError, OSError, msgspec.MsgspecError) as error:
            logger.warning("%s of %s %s cannot be used: %s", name, spec.model, spec.version, error)
            return None
