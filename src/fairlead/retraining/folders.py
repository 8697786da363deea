"""Where the files of a retraining lie while it is under way, and how they go: they hold what people sent."""

from __future__ import annotations

import shutil
from pathlib import Path

from fairlead.predictions.exports import EXPORTS
from fairlead.retraining.job import Job
from fairlead.serving.folder import DataFolder
from fairlead.stores.blobs import Blobs

__all__ = ["folder_of", "forget", "remove"]


def folder_of(folder: DataFolder, identifier: str) -> Path:
    """The folder of a retraining, for as long as it is under way."""
    return folder.root / EXPORTS / identifier


def remove(folder: DataFolder, identifier: str) -> None:
    """Takes the folder away."""
    shutil.rmtree(folder_of(folder, identifier), ignore_errors=True)


def forget(folder: DataFolder, blobs: Blobs, job: Job) -> None:
    """Takes away what is left of a retraining that is over: its folder, and the rows that were held out,
    which its gate alone has read. Raises `StoreUnavailable`."""
    remove(folder, job.id)
    if job.rows is not None:
        blobs.remove(job.rows.held_digest)
