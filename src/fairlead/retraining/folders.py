"""Where the files of a retraining lie while it is under way."""

from __future__ import annotations

import shutil
from pathlib import Path

from fairlead.predictions.exports import EXPORTS
from fairlead.serving.folder import DataFolder

__all__ = ["folder_of", "remove"]


def folder_of(folder: DataFolder, identifier: str) -> Path:
    """The folder of a retraining, for as long as it is under way."""
    return folder.root / EXPORTS / identifier


def remove(folder: DataFolder, identifier: str) -> None:
    """Takes the folder away: it holds what people have sent."""
    shutil.rmtree(folder_of(folder, identifier), ignore_errors=True)
