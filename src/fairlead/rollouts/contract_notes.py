"""What ingest is told of contracts: each that is served here, and whose training data it is counted on.

The first version registered under a contract that has a reference lends its bins to all later ones, so that
the traffic of all of them can be added up and compared.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from fairlead.predictions.binning import ContractNote
from fairlead.registry.references import first_reference
from fairlead.registry.registry import Registry
from fairlead.registry.versions import VersionSpec
from fairlead.serving.folder import DataFolder
from fairlead.stores.files import write_whole

__all__ = ["ContractNotes"]

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
            version, reference = first_reference(self._registry, spec.model, contract_id)
            if reference is not None:  # traffic is counted on its bins; what lies in them is asked elsewhere
                reference = msgspec.structs.replace(reference, slices=msgspec.UNSET)
            found = ContractNote(contract=spec.contract, version=version, reference=reference)
            if found != held:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, msgspec.json.encode(found))
        self._noted.add((spec.model, spec.version))


def _read(path: Path) -> ContractNote | None:
    try:
        return _decode(path.read_bytes())
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
