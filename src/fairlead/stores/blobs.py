"""Blobs by their SHA-256: the same few operations on a folder and on S3-compatible storage.

Only what every store does alike is used: put, put-create, get, head, delete. What needs compare-and-swap
belongs to the database. A blob appears whole or not at all, and its bytes are hashed on the way in and on the
way out.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from fairlead.errors import BlobNotFound, DigestMismatch, InvalidSetting, StorageFull, StoreUnavailable

if TYPE_CHECKING:
    from obstore.store import ObjectStore

__all__ = ["Blobs"]

_DIGEST = re.compile(r"[0-9a-f]{64}")
_CHUNK_BYTES = 5 * 1024 * 1024
_CHANGED = "The file changed while it was sent: send it again, or register it as a new version."
_DAMAGED = "The store damaged it: restore it from a backup, or delete it there and upload it again."


class Blobs:
    """The artifact store at a URL: `file:///folder` or `s3://bucket/prefix`.

    For S3 the credentials stand in `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, the server, if it is not
    Amazon's, in `AWS_ENDPOINT_URL`. A store that does not answer is `StoreUnavailable` within seconds.
    """

    def __init__(self, url: str, environment: Mapping[str, str] = os.environ) -> None:
        self.url = url
        self._store = _open(url, environment)

    def put(self, content: Path | bytes, sha256: str) -> None:
        """Stores the bytes of a file, or the bytes, under their digest. Storing them again does nothing.

        `DigestMismatch` when they have another digest, `StorageFull` when there is no room for them; either
        way the store is as before.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError

        _verify_digest(sha256)
        name, size = _described(content)
        chunks = _hashed(_chunks(content), sha256, name, _CHANGED)
        stored = self.size(sha256)
        if stored == size:
            deque(chunks, maxlen=0)
        elif size > _CHUNK_BYTES:
            with self._translating(sha256):
                obstore.put(self._store, sha256, chunks)
        else:
            whole = b"".join(chunks)
            # A blob under this name with another size is damaged; only such a one is ever replaced.
            with self._translating(sha256), suppress(AlreadyExistsError):
                obstore.put(self._store, sha256, whole, mode="create" if stored is None else "overwrite")

    def get_to(self, sha256: str, target: Path) -> None:
        """Writes the blob to `target`, which appears complete and verified or not at all.

        `BlobNotFound` when there is none, `DigestMismatch` when the stored bytes are no longer those.
        """
        import obstore

        _verify_digest(sha256)
        with self._translating(sha256):
            stream = obstore.get(self._store, sha256).stream(min_chunk_size=_CHUNK_BYTES)
        partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
        try:
            with partial.open("xb") as file, self._translating(sha256):
                for chunk in _hashed(stream, sha256, f"blob {sha256}", _DAMAGED):
                    file.write(chunk)
                file.flush()
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)

    def remove(self, sha256: str) -> None:
        """Takes the blob away, where there is one. Nothing may refer to it any more."""
        import obstore

        _verify_digest(sha256)
        with suppress(BlobNotFound), self._translating(sha256):
            obstore.delete(self._store, sha256)

    def has(self, sha256: str) -> bool:
        """Whether there is a blob of that digest."""
        return self.size(sha256) is not None

    def size(self, sha256: str) -> int | None:
        """The blob's size in bytes; None when there is none."""
        import obstore

        _verify_digest(sha256)
        try:
            with self._translating(sha256):
                return int(obstore.head(self._store, sha256)["size"])
        except BlobNotFound:
            return None

    @contextmanager
    def _translating(self, sha256: str) -> Iterator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except FileNotFoundError as error:
            raise BlobNotFound(
                f"The artifact store {self.url} has no blob {sha256}.",
                remedy="Upload it, or register the version again.",
                sha256=sha256,
            ) from error
        except (BaseError, OSError) as error:
            reason = str(error).partition("\n")[0]
            if _errno(error) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise StorageFull(
                    f"There is no room for blob {sha256}: {reason}.", remedy="Free some disk space."
                ) from error
            raise StoreUnavailable(
                f"The artifact store {self.url} does not answer: {reason}.",
                remedy="Check that it runs, that FAIRLEAD_ARTIFACTS_URL names it and that its keys fit.",
            ) from error


def _open(url: str, environment: Mapping[str, str]) -> ObjectStore:
    from obstore.store import LocalStore, S3Store

    parts = urlsplit(url)
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        return LocalStore(Path(unquote(parts.path)), mkdir=True)
    if parts.scheme == "s3" and parts.netloc:
        if not (environment.get("AWS_ACCESS_KEY_ID") and environment.get("AWS_SECRET_ACCESS_KEY")):
            # Without keys the client would ask the cloud's metadata address, and hang where there is none.
            raise InvalidSetting(
                f"The artifact store {url} needs explicit credentials.",
                remedy="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
            )
        endpoint = environment.get("AWS_ENDPOINT_URL", environment.get("AWS_ENDPOINT", ""))
        return S3Store(
            parts.netloc,
            prefix=parts.path.strip("/") or None,
            config={
                "access_key_id": environment["AWS_ACCESS_KEY_ID"],
                "secret_access_key": environment["AWS_SECRET_ACCESS_KEY"],
                **({"endpoint": endpoint} if endpoint else {}),
            },
            client_options={
                "allow_http": endpoint.startswith("http://"),
                "connect_timeout": timedelta(seconds=2),
            },
            retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=10)},
        )
    raise InvalidSetting(
        f"Artifacts URL {url!r} is not understood.", remedy="Use file:///folder or s3://bucket/prefix."
    )


def _described(content: Path | bytes) -> tuple[str, int]:
    if isinstance(content, bytes):
        return "the given bytes", len(content)
    return str(content), content.stat().st_size


def _chunks(content: Path | bytes) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _hashed(chunks: Iterable[bytes], sha256: str, name: str, remedy: str) -> Iterator[bytes]:
    """The same chunks; after the last one `DigestMismatch` unless they are what the digest says."""
    hashed = hashlib.sha256()
    for chunk in chunks:
        hashed.update(chunk)
        yield chunk
    if hashed.hexdigest() != sha256:
        raise DigestMismatch(
            f"The SHA-256 of {name} is {hashed.hexdigest()}, not {sha256}.",
            remedy=remedy,
            expected=sha256,
            found=hashed.hexdigest(),
        )


def _errno(error: Exception) -> int | None:
    """The system's error number, which obstore only tells in words."""
    told = re.search(r"\(os error (\d+)\)", str(error))
    return int(told[1]) if told else getattr(error, "errno", None)


def _verify_digest(sha256: str) -> None:
    if not _DIGEST.fullmatch(sha256):
        raise DigestMismatch(f"{sha256!r} is no SHA-256 in hexadecimal.", remedy="Give 64 digits 0-9, a-f.")
