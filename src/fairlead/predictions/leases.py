"""Leases: files that queries read are not deleted under them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from fairlead.predictions.manifest import DataFile
from fairlead.predictions.parquet import remove_files

__all__ = ["Leases"]


class Leases:
    """Which files are in use, and which are to be deleted once they are not; not for use by two threads."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._users: Counter[str] = Counter()
        self._doomed: dict[str, DataFile] = {}

    def take(self, files: Iterable[DataFile]) -> None:
        """One more user of each file."""
        self._users.update(file.path for file in files)

    def give_back(self, files: Iterable[DataFile]) -> None:
        """One user less of each file."""
        self._users.subtract(file.path for file in files)
        self._users = +self._users
        self._remove_unused()

    def doom(self, files: Iterable[DataFile]) -> None:
        """Deletes the files now, or when their last user gives them back."""
        self._doomed |= {file.path: file for file in files}
        self._remove_unused()

    def _remove_unused(self) -> None:
        for path in [path for path in self._doomed if path not in self._users]:
            remove_files(self._root, self._doomed.pop(path).paths())
