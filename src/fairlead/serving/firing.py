"""Which alerts fire, as a file that control writes and the gateways of its machine show in `/metrics`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from fairlead.stores.files import write_whole

__all__ = ["FiringAlert", "read_firing", "write_firing"]


class FiringAlert(msgspec.Struct, frozen=True):
    """One alert that fires; `model` is empty where it is about the server."""

    model: str
    rule: str
    severity: str


def write_firing(path: Path, alerts: Sequence[FiringAlert]) -> None:
    """Replaces the file by a rename, so that nobody reads half of it."""
    write_whole(path, msgspec.json.encode(list(alerts)))


def read_firing(path: Path) -> list[FiringAlert]:
    """The alerts that fire; none where there is no such file, or it is damaged."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[FiringAlert])
    except (OSError, msgspec.DecodeError):
        return []
