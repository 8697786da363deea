"""The manifest: which files hold the log, and up to where in each segment they reach. The only commit point.

`save` writes beside the old manifest, synchronises, renames. Before the rename nothing has happened, after it
everything has: files that it does not name do not exist, whatever lies in the folder, and segments before the
positions that it names need not be read again.
"""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
from typing import Literal, get_args

import msgspec

from fairlead.errors import StoreUnavailable
from fairlead.predictions.record import SchemaFrame

__all__ = ["DataFile", "Dataset", "Manifest", "recover", "save_manifest", "sync_folder"]

Dataset = Literal["predictions", "outcomes", "windows", "profiles"]

logger = logging.getLogger(__name__)

_NAME = "manifest.json"


class DataFile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One Parquet file. `path` and `index` are relative to the predictions folder.

    `first_at` and `last_at` are the earliest and latest time in it, in Unix microseconds (of `at`; of
    `received_at` in outcomes). `features` names each feature with its Arrow type.
    `seconds` is how long each row of a profile is.
    """

    dataset: Dataset
    path: str
    rows: int
    size: int
    first_at: int
    last_at: int
    model: str | None = None
    index: str | None = None
    features: dict[str, str] = {}
    seconds: int = 0

    def paths(self) -> list[str]:
        """Everything that belongs to it in the folder."""
        return [self.path] if self.index is None else [self.path, self.index]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The files that count, the bytes consumed of each segment, and every contract seen."""

    format: Literal[1] = 1
    files: tuple[DataFile, ...] = ()
    positions: dict[str, int] = {}
    contracts: dict[str, SchemaFrame] = {}

    def of(self, dataset: Dataset, model: str | None = None) -> list[DataFile]:
        """The files of a dataset, of one model where given."""
        return [
            file for file in self.files if file.dataset == dataset and (model is None or file.model == model)
        ]


def recover(folder: Path) -> Manifest:
    """The folder's manifest, after deleting the files that a crash left behind and it does not name.

    A folder without one is begun with an empty one, so that a manifest that is missing later is noticed.
    Raises `StoreUnavailable` when it is missing beside data, or cannot be read.
    """
    found = {
        str(path.relative_to(folder)): path
        for dataset in get_args(Dataset)
        for path in (folder / dataset).rglob("*")
        if path.is_file()
    }
    path = folder / _NAME
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError as error:
        if found:
            raise _unreadable(path, "it is not there, and data files are") from error
        manifest = Manifest()
        save_manifest(folder, manifest)
    except (msgspec.MsgspecError, OSError) as error:
        raise _unreadable(path, str(error)) from error
    missing = [file for file in manifest.files if file.path not in found]
    if missing:
        logger.error(
            "%d files of the prediction log are missing, the first is %s; their %d rows are lost.",
            len(missing),
            folder / missing[0].path,
            sum(file.rows for file in missing),
        )
        kept = tuple(file for file in manifest.files if file.path in found)
        manifest = msgspec.structs.replace(manifest, files=kept)
    for name in found.keys() - {name for file in manifest.files for name in file.paths()}:
        found[name].unlink()
    return manifest


def _unreadable(path: Path, reason: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"The manifest of the prediction log, {path}, cannot be read: {reason}.",
        remedy="Restore it from a backup. Without it nobody knows which Parquet files count.",
    )


def save_manifest(folder: Path, manifest: Manifest) -> None:
    """Commits the manifest. Raises OSError when it could not; then the old one still holds."""
    fresh = folder / f".{_NAME}.new"
    try:
        with fresh.open("wb") as file:
            file.write(msgspec.json.encode(manifest))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(folder / _NAME)
    except OSError:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise
    with contextlib.suppress(OSError):  # the rename has happened: it must not be reported as failed
        sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Brings the folder's entries to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
