"""Files and manifests: describe a folder, prove that a folder is what was registered, fetch what is missing.

`verify` runs in every gateway on every load, so this file imports no store.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from fairlead.errors import DigestMismatch, InvalidModelFile
from fairlead.registry.versions import File, Manifest

if TYPE_CHECKING:
    from fairlead.stores.blobs import Blobs

__all__ = ["fetch", "manifest_of", "verify", "verify_paths"]

_LONGEST_PATH = 500


def manifest_of(files: Path | Mapping[str, Path]) -> Manifest:
    """The manifest of a folder, of one file under its own name, or of files under the names given.

    `InvalidModelFile` when there is nothing, when a link leads out of the folder, and for whatever is no
    plain file: a model is bytes that can be copied.
    """
    if isinstance(files, Path):
        files = dict(_files_of(files)) if files.is_dir() else {files.name: files}
    listed = []
    for name in sorted(files):
        path = files[name]
        if not path.is_file():
            raise InvalidModelFile(
                f"{path} is no file that can be copied.", remedy="Register plain files and folders of them."
            )
        listed.append(File(path=name, sha256=_digest(path), size=path.stat().st_size))
    manifest = Manifest(files=tuple(listed))
    verify_paths(manifest)
    return manifest


def verify_paths(manifest: Manifest) -> None:
    """Raises `InvalidModelFile` unless every path stays inside its folder and all can lie there together."""
    if not manifest.files:
        raise InvalidModelFile(
            "A version needs at least one file.", remedy="Name the model's file or folder."
        )
    paths = [file.path for file in manifest.files]
    if paths != sorted(set(paths)):
        raise InvalidModelFile("The manifest's paths are not sorted, or one stands there twice.")
    for path in paths:
        parts = path.split("/")
        if (
            any(part in ("", ".", "..") for part in parts)
            or "\\" in path
            or not path.isprintable()
            or len(path.encode(errors="replace")) > _LONGEST_PATH
        ):
            raise InvalidModelFile(
                f"Path {path!r} is not allowed in a version.",
                remedy="Use relative paths with '/' and neither '..' nor control characters.",
            )
    taken = set(paths)
    for path in paths:
        for parent in PurePosixPath(path).parents:
            if str(parent) in taken:
                raise InvalidModelFile(f"{str(parent)!r} is both a file and the folder of {path!r}.")


def verify(folder: Path, manifest: Manifest) -> None:
    """Raises `DigestMismatch` unless the folder holds exactly the manifest's files with exactly their bytes.

    The message and `details` name the first file that is missing, extra or changed.
    """
    found = set(_entries(folder))
    expected = {file.path: file for file in manifest.files}
    for path in sorted(expected.keys() - found):
        raise _mismatch(folder, path, "missing")
    for path in sorted(found - expected.keys()):
        raise _mismatch(folder, path, "extra")
    for path, file in expected.items():
        if not _is(folder / path, file):
            raise _mismatch(folder, path, "changed")


def fetch(blobs: Blobs, manifest: Manifest, target: Path) -> Path:
    """The folder `target` with the manifest's files, verified; from the store unless it is right already.

    The folder appears whole or not at all; whoever else fetches the same at the same time is welcome, and a
    damaged folder is replaced. Raises `BlobNotFound`, `DigestMismatch`, `StorageFull`, `StoreUnavailable`.
    """
    verify_paths(manifest)
    if _is_right(target, manifest):
        return target
    partial = _sibling(target, "part")
    try:
        for file in manifest.files:
            place = partial / file.path
            place.parent.mkdir(parents=True, exist_ok=True)
            blobs.get_to(file.sha256, place)
        verify(partial, manifest)
        _install(partial, target, manifest)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _install(partial: Path, target: Path, manifest: Manifest) -> None:
    while True:
        try:
            partial.rename(target)
            return
        except OSError as error:
            if _is_right(target, manifest):
                return  # someone else was faster
            if not os.path.lexists(target):
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                    continue  # someone else has just moved what stood there
                raise
        # What stands there is wrong. Models that have it open keep their bytes; the name gets the right ones.
        damaged = _sibling(target, "damaged")
        try:
            target.rename(damaged)
        except FileNotFoundError:
            continue  # someone else moved it
        if damaged.is_dir() and not damaged.is_symlink():
            shutil.rmtree(damaged, ignore_errors=True)
        else:
            damaged.unlink()


def _is_right(folder: Path, manifest: Manifest) -> bool:
    try:
        verify(folder, manifest)
    except DigestMismatch:
        return False
    return True


def _files_of(folder: Path) -> Iterator[tuple[str, Path]]:
    root = folder.resolve()
    for name in _entries(folder):
        path = folder / name
        if path.is_symlink() and not (path.is_file() and path.resolve().is_relative_to(root)):
            raise InvalidModelFile(
                f"{path} is a link that leads to no file within {folder}.",
                remedy="Replace the link by the file that it means.",
            )
        yield name, path


def _entries(folder: Path) -> Iterator[str]:
    """Relative paths with '/' of all that is no folder, links to folders included."""

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise error

    for where, folders, files in os.walk(folder, onerror=refuse):
        inside = Path(where)
        links = [name for name in folders if (inside / name).is_symlink()]
        for name in [*files, *links]:
            yield (inside / name).relative_to(folder).as_posix()


def _is(path: Path, file: File) -> bool:
    try:
        about = path.lstat()
        return stat.S_ISREG(about.st_mode) and about.st_size == file.size and _digest(path) == file.sha256
    except (FileNotFoundError, NotADirectoryError):
        return False  # someone is replacing the folder


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sibling(target: Path, kind: str) -> Path:
    return target.with_name(f".{target.name}.{uuid.uuid4().hex}.{kind}")


def _mismatch(folder: Path, path: str, kind: str) -> DigestMismatch:
    what = {
        "missing": f"File {path!r} of the version is missing in {folder}.",
        "extra": f"File {path!r} in {folder} does not belong to the version.",
        "changed": f"File {path!r} in {folder} is not the one that was registered.",
    }
    return DigestMismatch(
        what[kind],
        remedy="Delete the folder: it is fetched again from the artifact store.",
        path=path,
        kind=kind,
    )
