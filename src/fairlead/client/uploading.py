"""Files to the artifact store: hashed here, sent in pieces, and only those that are not there yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fairlead.client.session import Call, Session
from fairlead.errors import BlobNotFound

if TYPE_CHECKING:
    from fairlead.registry.versions import Manifest

__all__ = ["upload"]

_PATH = "/api/v1/blobs"
_PIECE_BYTES = 1 << 20


def upload(session: Session, files: Mapping[str, Path], advance: Callable[[int, int], None]) -> Manifest:
    """The manifest of the files, once the server has all of them.

    `files` are paths on this machine by their path within the version. `advance` hears how many bytes of how
    many are there.
    """
    from fairlead.registry.artifacts import manifest_of

    manifest = manifest_of(files)
    total = sum(file.size for file in manifest.files)
    there = 0
    for file in manifest.files:
        if not _is_there(session, file.sha256):
            _send(session, file.sha256, _pieces(files[file.path], there, total, advance), file.size)
        there += file.size
        advance(there, total)
    return manifest


def _is_there(session: Session, sha256: str) -> bool:
    try:
        session.send(Call(method="GET", path=f"{_PATH}/{sha256}", read=_nothing))
    except BlobNotFound:
        return False
    return True


def _send(session: Session, sha256: str, pieces: Callable[[], Iterator[bytes]], size: int) -> None:
    session.send(
        Call(
            method="PUT",
            path=f"{_PATH}/{sha256}",
            body=pieces,
            headers={"content-length": str(size)},
            content_type="application/octet-stream",
            read=_nothing,
        )
    )


def _pieces(
    path: Path, before: int, total: int, advance: Callable[[int, int], None]
) -> Callable[[], Iterator[bytes]]:
    def pieces() -> Iterator[bytes]:
        sent = before
        with path.open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                yield piece
                sent += len(piece)
                advance(sent, total)

    return pieces


def _nothing(answer: bytes) -> None:
    return None
