"""What ingest is told of contracts: each that is served here, and whose training data it is counted on.

The first version registered under a contract that has a reference lends its bins to all later ones, so that
the traffic of all of them can be added up and compared.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import msgspec

from fairlead.contracts.profile import REFERENCE_FILE, ReferenceProfile
from fairlead.errors import FairleadError
from fairlead.predictions.binning import ContractNote
from fairlead.registry.registry import Registry
from fairlead.registry.versions import VersionSpec
from fairlead.serving.folder import DataFolder
from fairlead.stores.files import write_whole

__all__ = ["ContractNotes"]

logger = logging.getLogger(__name__)

_decode = msgspec.json.Decoder(ContractNote).decode


class ContractNotes:
    """Writes `bins/<model>/<contract id>.json`; not for use by two threads."""

    def __init__(self, registry: Registry, folder: DataFolder) -> None:
        self._registry = registry
        self._folder = folder
        self._noted: set[tuple[str, str]] = set()

    def note(self, spec: VersionSpec) -> None:
        """Sees to it that the version's contract is noted. What cannot be had is noted as not there, and no
        reason to hold up a plan: it is looked for again when the process starts. Raises OSError when the
        folder takes no file."""
        if (spec.model, spec.version) in self._noted:
            return
        contract_id = spec.contract.id
        path = self._folder.bins / spec.model / f"{contract_id}.json"
        held = _read(path)
        if held is None or held.reference is None:
            version, reference = self._first_reference(spec.model, contract_id)
            found = ContractNote(contract=spec.contract, version=version, reference=reference)
            if found != held:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, msgspec.json.encode(found))
        self._noted.add((spec.model, spec.version))

    def _first_reference(self, model: str, contract_id: str) -> tuple[str | None, ReferenceProfile | None]:
        for version in self._registry.versions(model):
            if version.spec.contract.id != contract_id:
                continue
            for file in version.spec.manifest.files:
                if file.path == REFERENCE_FILE:
                    found = self._fetched(version.spec, file.sha256)
                    if found is not None:
                        return version.version, found
        return None, None

    def _fetched(self, spec: VersionSpec, sha256: str) -> ReferenceProfile | None:
        with tempfile.TemporaryDirectory(prefix="fairlead-") as folder:
            target = Path(folder) / REFERENCE_FILE
            try:
                self._registry.blobs.get_to(sha256, target)
                return msgspec.json.decode(target.read_bytes(), type=ReferenceProfile)
            except (FairleadError, OSError, msgspec.MsgspecError) as error:
                logger.warning("the reference of %s %s cannot be used: %s", spec.model, spec.version, error)
                return None


def _read(path: Path) -> ContractNote | None:
    try:
        return _decode(path.read_bytes())
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
