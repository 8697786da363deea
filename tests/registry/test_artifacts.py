"""A folder is what was registered, file for file and byte for byte, or it is refused."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.errors import BlobNotFound, DigestMismatch, InvalidModelFile
from fairlead.registry.artifacts import fetch, manifest_of, verify, verify_paths
from fairlead.registry.versions import File, Manifest
from fairlead.stores.blobs import Blobs

FILES = {"model.onnx": b"weights", "pre/scaler.bin": b"", "pre/größe/данные.txt": "🚢".encode()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of a model with a folder in it."""
    made = tmp_path / "model"
    for name, content in FILES.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_bytes(content)
    return made


def store(blobs: Blobs, folder: Path) -> Manifest:
    manifest = manifest_of(folder)
    for file in manifest.files:
        blobs.put(folder / file.path, file.sha256)
    return manifest


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- manifests ----------------------------------------------------------------------------------------------


def test_a_manifest_lists_every_file_sorted_with_digest_and_size(folder: Path) -> None:
    manifest = manifest_of(folder)
    assert {file.path: (file.sha256, file.size) for file in manifest.files} == {
        name: (hashlib.sha256(content).hexdigest(), len(content)) for name, content in FILES.items()
    }
    assert [file.path for file in manifest.files] == sorted(FILES)


def test_one_file_is_listed_under_its_own_name(folder: Path) -> None:
    assert [file.path for file in manifest_of(folder / "model.onnx").files] == ["model.onnx"]


def test_files_can_be_given_other_names(folder: Path) -> None:
    manifest = manifest_of({"z": folder / "model.onnx", "a/b": folder / "pre/scaler.bin"})
    assert [(file.path, file.size) for file in manifest.files] == [("a/b", 0), ("z", 7)]


def test_the_same_files_have_the_same_digest_whoever_lists_them(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    for name in reversed(FILES):
        (other / name).parent.mkdir(parents=True, exist_ok=True)
        (other / name).write_bytes(FILES[name])
    assert manifest_of(other).digest == manifest_of(folder).digest


def test_a_link_within_the_folder_counts_as_the_file_it_means(folder: Path) -> None:
    (folder / "alias.onnx").symlink_to("model.onnx")
    by_path = {file.path: file.sha256 for file in manifest_of(folder).files}
    assert by_path["alias.onnx"] == by_path["model.onnx"]


def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("geheim")
    (folder / "innocent").symlink_to(tmp_path / "secret")
    with pytest.raises(InvalidModelFile, match="innocent"):
        manifest_of(folder)


@pytest.mark.parametrize("target", ["pre", "..", "nowhere"])
def test_a_link_to_a_folder_or_to_nothing_is_refused(folder: Path, target: str) -> None:
    (folder / "link").symlink_to(target)
    with pytest.raises(InvalidModelFile, match="link"):
        manifest_of(folder)


def test_a_pipe_is_refused_and_not_read(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(InvalidModelFile, match="pipe"):
        manifest_of(folder)


def test_an_empty_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidModelFile, match="at least one"):
        manifest_of(tmp_path)
    with pytest.raises(InvalidModelFile, match="no file"):
        manifest_of(tmp_path / "missing.onnx")


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../up", "a/../b", "./a", "a//b", "a/", "", "a\\b", "nul\x00", "new\nline", "x" * 501],
)
def test_a_path_that_could_leave_the_folder_is_refused(path: str) -> None:
    with pytest.raises(InvalidModelFile):
        verify_paths(Manifest(files=(File(path=path, sha256="0" * 64, size=1),)))


@pytest.mark.parametrize("paths", [("b", "a"), ("a", "a"), ("a", "a/b"), ()])
def test_paths_that_cannot_lie_together_are_refused(paths: tuple[str, ...]) -> None:
    with pytest.raises(InvalidModelFile):
        verify_paths(Manifest(files=tuple(File(path=path, sha256="0" * 64, size=1) for path in paths)))


@given(path=st.text(max_size=40))
@settings(max_examples=300)
def test_whatever_path_is_allowed_stays_inside(path: str) -> None:
    try:
        verify_paths(Manifest(files=(File(path=path, sha256="0" * 64, size=1),)))
    except InvalidModelFile:
        return
    inside = os.path.normpath(os.path.join("/root/of/version", path))
    assert inside == f"/root/of/version/{path}"


# --- verification -------------------------------------------------------------------------------------------


def test_an_untouched_folder_verifies(folder: Path) -> None:
    verify(folder, manifest_of(folder))


def test_a_flipped_bit_is_found(folder: Path) -> None:
    manifest = manifest_of(folder)
    (folder / "model.onnx").write_bytes(b"weightt")
    with pytest.raises(DigestMismatch, match="not the one") as caught:
        verify(folder, manifest)
    assert caught.value.details == {"path": "model.onnx", "kind": "changed"}


def test_a_missing_file_is_named(folder: Path) -> None:
    manifest = manifest_of(folder)
    (folder / "pre/scaler.bin").unlink()
    with pytest.raises(DigestMismatch) as caught:
        verify(folder, manifest)
    assert caught.value.details == {"path": "pre/scaler.bin", "kind": "missing"}


def test_an_extra_file_is_named(folder: Path) -> None:
    manifest = manifest_of(folder)
    (folder / "pre/.hidden").write_bytes(b"")
    with pytest.raises(DigestMismatch) as caught:
        verify(folder, manifest)
    assert caught.value.details == {"path": "pre/.hidden", "kind": "extra"}


def test_a_folder_that_is_not_there_misses_its_files(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(DigestMismatch, match="missing"):
        verify(tmp_path / "nowhere", manifest_of(folder))


def test_a_link_in_place_of_a_file_is_refused_though_its_bytes_are_right(
    folder: Path, tmp_path: Path
) -> None:
    manifest = manifest_of(folder)
    (folder / "model.onnx").rename(tmp_path / "moved")
    (folder / "model.onnx").symlink_to(tmp_path / "moved")
    with pytest.raises(DigestMismatch, match="not the one"):
        verify(folder, manifest)


def test_a_link_to_a_folder_is_extra(folder: Path) -> None:
    manifest = manifest_of(folder)
    (folder / "more").symlink_to("pre")
    with pytest.raises(DigestMismatch, match="more"):
        verify(folder, manifest)


def test_verifying_needs_no_store_library() -> None:
    code = (
        "import sys, fairlead.registry.artifacts;"
        "print(sorted({'obstore', 'sqlalchemy', 'alembic', 'psycopg'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- fetching -----------------------------------------------------------------------------------------------


def test_a_fetched_folder_is_the_registered_one_and_nothing_else_is_left(
    blobs: Blobs, folder: Path, tmp_path: Path
) -> None:
    manifest = store(blobs, folder)
    versions = tmp_path / "versions"
    assert fetch(blobs, manifest, versions / manifest.digest) == versions / manifest.digest
    verify(versions / manifest.digest, manifest)
    assert names_in(versions) == [manifest.digest]


def test_a_right_folder_is_used_again_without_the_store(blobs: Blobs, folder: Path, tmp_path: Path) -> None:
    manifest = manifest_of(folder)
    inode = folder.stat().st_ino
    assert fetch(blobs, manifest, folder) == folder  # the store is empty
    assert folder.stat().st_ino == inode


def test_a_damaged_folder_is_replaced(blobs: Blobs, folder: Path, tmp_path: Path) -> None:
    manifest = store(blobs, folder)
    target = fetch(blobs, manifest, tmp_path / "versions" / "v")
    (target / "model.onnx").write_bytes(b"rotten!")
    (target / "extra").mkdir()
    (target / "extra" / "file").write_bytes(b"")
    fetch(blobs, manifest, target)
    verify(target, manifest)
    assert names_in(tmp_path / "versions") == ["v"]


def test_a_file_where_the_folder_should_be_is_replaced(blobs: Blobs, folder: Path, tmp_path: Path) -> None:
    manifest = store(blobs, folder)
    (tmp_path / "v").write_text("in the way")
    fetch(blobs, manifest, tmp_path / "v")
    verify(tmp_path / "v", manifest)


def test_a_missing_blob_leaves_no_folder(blobs: Blobs, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BlobNotFound):
        fetch(blobs, manifest_of(folder), tmp_path / "versions" / "v")
    assert names_in(tmp_path / "versions") == []


def test_a_manifest_that_lies_about_a_size_is_refused(blobs: Blobs, folder: Path, tmp_path: Path) -> None:
    first, *rest = store(blobs, folder).files
    lying = Manifest(files=(File(path=first.path, sha256=first.sha256, size=first.size + 1), *rest))
    with pytest.raises(DigestMismatch):
        fetch(blobs, lying, tmp_path / "versions" / "v")
    assert names_in(tmp_path / "versions") == []


def test_a_hostile_manifest_writes_nothing(blobs: Blobs, folder: Path, tmp_path: Path) -> None:
    sha256 = store(blobs, folder).files[0].sha256
    hostile = Manifest(files=(File(path="../../stolen", sha256=sha256, size=7),))
    with pytest.raises(InvalidModelFile):
        fetch(blobs, hostile, tmp_path / "versions" / "v")
    assert not (tmp_path / "stolen").exists()
    assert not (tmp_path / "versions").exists()


@pytest.mark.parametrize("start", ["empty", "damaged"])
def test_many_may_fetch_at_once(blobs: Blobs, folder: Path, tmp_path: Path, start: str) -> None:
    manifest = store(blobs, folder)
    target = tmp_path / "versions" / "v"
    if start == "damaged":
        target.mkdir(parents=True)
        (target / "model.onnx").write_bytes(b"rotten!")
    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(fetch, blobs, manifest, target) for _ in range(24)]:
            assert done.result() == target
    verify(target, manifest)
    assert names_in(tmp_path / "versions") == ["v"]
