"""What the manifest does not name is garbage; without a manifest nothing is touched."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from fairlead.errors import StoreUnavailable
from fairlead.predictions.manifest import DataFile, Manifest, recover, save_manifest
from tests.predictions.records import SCHEMA


def data_file(folder: Path, name: str) -> DataFile:
    for path in (folder / f"predictions/shop/{name}.parquet", folder / f"predictions/shop/{name}.index.npy"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"data")
    return DataFile(
        dataset="predictions",
        path=f"predictions/shop/{name}.parquet",
        index=f"predictions/shop/{name}.index.npy",
        rows=7,
        size=4,
        first_at=1,
        last_at=2,
        model="shop",
        features={"age": "double"},
    )


def test_a_manifest_is_read_as_it_was_saved(tmp_path: Path) -> None:
    recover(tmp_path)
    manifest = Manifest(
        files=(data_file(tmp_path, "a"),), positions={"g0/1": 99}, contracts={SCHEMA.contract_id: SCHEMA}
    )
    save_manifest(tmp_path, manifest)
    assert recover(tmp_path) == manifest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.json", "predictions"]


def test_files_that_the_manifest_does_not_name_are_deleted(tmp_path: Path) -> None:
    recover(tmp_path)
    kept = data_file(tmp_path, "kept")
    data_file(tmp_path, "garbage")
    save_manifest(tmp_path, Manifest(files=(kept,)))
    assert recover(tmp_path).files == (kept,)
    names = sorted(path.name for path in (tmp_path / "predictions/shop").iterdir())
    assert names == ["kept.index.npy", "kept.parquet"]


def test_other_files_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    recover(tmp_path)
    assert (tmp_path / "notes.txt").exists()


def test_a_manifest_that_is_missing_beside_data_is_refused_and_no_data_deleted(tmp_path: Path) -> None:
    data_file(tmp_path, "precious")
    with pytest.raises(StoreUnavailable, match="not there") as refused:
        recover(tmp_path)
    assert "backup" in refused.value.remedy
    assert (tmp_path / "predictions/shop/precious.parquet").exists()


@pytest.mark.parametrize("damage", [b"", b"{", b'{"files": 3}', b'{"format": 2}'])
def test_a_damaged_manifest_is_refused_and_no_data_deleted(tmp_path: Path, damage: bytes) -> None:
    data_file(tmp_path, "precious")
    (tmp_path / "manifest.json").write_bytes(damage)
    with pytest.raises(StoreUnavailable, match="cannot be read"):
        recover(tmp_path)
    assert (tmp_path / "predictions/shop/precious.parquet").exists()


def test_a_file_that_somebody_deleted_is_missed_aloud_and_the_rest_serves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recover(tmp_path)
    kept, lost = data_file(tmp_path, "kept"), data_file(tmp_path, "lost")
    save_manifest(tmp_path, Manifest(files=(kept, lost)))
    (tmp_path / lost.path).unlink()
    with caplog.at_level(logging.ERROR):
        assert recover(tmp_path).files == (kept,)
    assert "lost.parquet" in caplog.text
    assert "7 rows" in caplog.text


def test_a_save_that_fails_leaves_the_old_manifest(tmp_path: Path) -> None:
    recover(tmp_path)
    before = (tmp_path / "manifest.json").read_bytes()
    (tmp_path / ".manifest.json.new").mkdir()  # the place of the new one is taken
    with pytest.raises(OSError):
        save_manifest(tmp_path, Manifest(positions={"g0/1": 1}))
    assert (tmp_path / "manifest.json").read_bytes() == before
