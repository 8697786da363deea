"""Files into the artifact store: streamed to disk, hashed, and stored whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from fastapi import Path as InPath

from fairlead.admin.problems import refusals
from fairlead.admin.schemas import Blob
from fairlead.admin.wire import WIRE, StrictRoute
from fairlead.errors import (
    BlobNotFound,
    DigestMismatch,
    FairleadError,
    MalformedRequest,
    PayloadTooLarge,
    StorageFull,
    StoreUnavailable,
)
from fairlead.stores.blobs import Blobs

__all__ = ["UPLOADS", "blob_routes"]

UPLOADS = "upload-"
"""How names of files that are being received begin."""

_Digest = Annotated[
    str, InPath(pattern="^[0-9a-f]{64}$", description="SHA-256 of the file, in hexadecimal digits.")
]
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PIECE = 1 << 20


def blob_routes(blobs: Blobs, folder: Path) -> APIRouter:
    """The routes of `/blobs`; files are received in `folder`."""
    routes = APIRouter(prefix="/blobs", tags=["versions"], route_class=StrictRoute)

    @routes.put(
        "/{sha256}",
        summary="Upload a file",
        responses=refusals(DigestMismatch, PayloadTooLarge, StorageFull, StoreUnavailable),
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
            }
        },
    )
    async def put_blob(sha256: _Digest, request: Request) -> Annotated[Blob, WIRE]:
        """Stores the body under its digest. Sending it again does nothing."""
        with _translating(), tempfile.NamedTemporaryFile(dir=folder, prefix=UPLOADS) as received:
            hashed = hashlib.sha256()
            waiting = bytearray()
            async for chunk in request.stream():
                hashed.update(chunk)
                waiting += chunk
                if len(waiting) >= _PIECE:
                    await to_thread.run_sync(received.write, bytes(waiting))
                    waiting.clear()
            await to_thread.run_sync(received.write, bytes(waiting))
            received.flush()
            if hashed.hexdigest() != sha256:
                raise DigestMismatch(
                    f"The SHA-256 of the body is {hashed.hexdigest()}, not {sha256}.",
                    remedy="The file changed on its way: send it again.",
                    expected=sha256,
                    found=hashed.hexdigest(),
                )
            await to_thread.run_sync(blobs.put, Path(received.name), sha256)
            return Blob(sha256=sha256, size=received.tell())

    @routes.head("/{sha256}", summary="Whether a file is there", responses=refusals(BlobNotFound))
    def head_blob(sha256: _Digest) -> Response:
        """200 when the artifact store has the file, else 404."""
        _size(blobs, sha256)
        return Response()

    @routes.get("/{sha256}", summary="The size of a file", responses=refusals(BlobNotFound, StoreUnavailable))
    def get_blob(sha256: _Digest) -> Annotated[Blob, WIRE]:
        """What the artifact store has under the digest. The bytes themselves are not served here."""
        return Blob(sha256=sha256, size=_size(blobs, sha256))

    return routes


def _size(blobs: Blobs, sha256: str) -> int:
    size = blobs.size(sha256)
    if size is None:
        raise BlobNotFound(f"There is no blob {sha256}.", remedy="Upload it.", sha256=sha256)
    return size


@contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except FairleadError:
        raise
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull(
                f"There is no room to receive the file: {error.strerror}.", remedy="Free some disk space."
            ) from error
        raise MalformedRequest(f"The file was not received: {error}.", remedy="Send it again.") from error
