"""Which versions a gateway had in memory: its successor loads them before anybody asks."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import msgspec

from fairlead.serving.folder import DataFolder
from fairlead.serving.live import LoadedVersion
from fairlead.stores.files import write_whole

__all__ = ["RecentList"]

_List = list[tuple[str, str]]


class RecentList:
    """The file `run/resident/<gateway>.json`: pairs of model and version, those that ran last first."""

    def __init__(self, folder: DataFolder, gateway: str) -> None:
        self._path = folder.run / "resident" / f"{gateway}.json"
        self._written: _List = []

    def read(self) -> _List:
        """What the predecessor had in memory; empty when there was none, or nobody can read the list."""
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            return msgspec.json.decode(self._path.read_bytes(), type=_List)
        return []

    def write(self, versions: Sequence[LoadedVersion]) -> None:
        """Puts down what is in memory, if it is not the same as before. Raises OSError."""
        names = [(version.spec.model, version.spec.version) for version in versions]
        if names != self._written:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._path, msgspec.json.encode(names))
            self._written = names
