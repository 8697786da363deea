"""The contracts that ingest hears of, with real databases and a real artifact store."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from fairlead.contracts.profile import REFERENCE_FILE, ReferenceProfile, profile
from fairlead.contracts.table import read_table
from fairlead.predictions.binning import ContractNote
from fairlead.registry.references import first_reference
from fairlead.registry.registry import NewVersion, Registry
from fairlead.registry.versions import File, Manifest, VersionSpec
from fairlead.rollouts.contract_notes import ContractNotes
from fairlead.serving.folder import DataFolder
from fairlead.stores.blobs import Blobs
from fairlead.stores.database import Database
from tests.rollouts.shop import CONTRACT, RUNTIME


def reference(*ages: float) -> ReferenceProfile:
    return profile(read_table({"age": list(ages)}), CONTRACT, predictions=list(ages))


def registered(
    registry: Registry, blobs: Blobs, version: str, held: ReferenceProfile | bytes | None
) -> VersionSpec:
    contents = {"model.onnx": version.encode()}
    if held is not None:
        contents[REFERENCE_FILE] = held if isinstance(held, bytes) else msgspec.json.encode(held)
    files = []
    for path, content in sorted(contents.items()):
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
    registry.register(NewVersion(spec=spec, framework="onnx", created_by="ann"))
    return spec


def noted(folder: DataFolder) -> ContractNote:
    path = folder.root / "bins" / "shop" / f"{CONTRACT.id}.json"
    return msgspec.json.decode(path.read_bytes(), type=ContractNote)


def test_the_first_version_with_a_reference_lends_its_bins_to_later_ones(
    database: Database, blobs: Blobs, tmp_path: Path
) -> None:
    registry, folder = Registry(database, blobs), DataFolder(tmp_path).make()
    bare = registered(registry, blobs, "v1", None)
    ContractNotes(registry, folder).note(bare)
    assert noted(folder) == ContractNote(contract=CONTRACT)
    first = reference(1.0, 2.0, 3.0)
    registered(registry, blobs, "v2", b"damaged")
    registered(registry, blobs, "v3", first)
    last = registered(registry, blobs, "v4", reference(7.0, 8.0))
    notes = ContractNotes(registry, folder)
    notes.note(last)
    assert noted(folder) == ContractNote(contract=CONTRACT, version="v3", reference=first)
    notes.note(bare)
    assert noted(folder).version == "v3"


def test_a_reference_that_is_away_holds_up_nobody(database: Database, blobs: Blobs, tmp_path: Path) -> None:
    registry, folder = Registry(database, blobs), DataFolder(tmp_path / "data").make()
    spec = registered(registry, blobs, "v1", reference(1.0))
    away = Registry(database, Blobs((tmp_path / "elsewhere").as_uri()))
    ContractNotes(away, folder).note(spec)
    assert noted(folder).reference is None
    ContractNotes(registry, folder).note(spec)
    assert noted(folder).version == "v1"


def test_the_reference_of_a_contract_can_be_asked_for(
    database: Database, blobs: Blobs, tmp_path: Path
) -> None:
    registry, held = Registry(database, blobs), reference(1.0, 5.0)
    registered(registry, blobs, "v1", None)
    assert first_reference(registry, "shop", CONTRACT.id) == (None, None)
    registered(registry, blobs, "v2", held)
    registered(registry, blobs, "v3", reference(9.0))
    assert first_reference(registry, "shop", CONTRACT.id) == ("v2", held)
    assert first_reference(registry, "shop", "c0") == (None, None)
