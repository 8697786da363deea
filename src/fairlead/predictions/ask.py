"""The client of the ingest process: asks over its Unix socket and waits for the answer.

A message is its length in four bytes, little endian, and that many bytes of JSON. A request is
`{"op": …, "args": {…}}`, an answer `{"ok": …}` or `{"error": {code, message, remedy, details}}`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from fairlead.errors import FairleadError, StoreUnavailable, every_error

__all__ = ["HEADER_BYTES", "IngestClient", "reachable"]

HEADER_BYTES = 4

_CLASSES = {error.code: error for error in every_error()}
_WHO = "The prediction log"
_REMEDY = "Is `fairlead up` running? The log of its ingest process says why it stopped. No record is lost."


class IngestClient:
    """Asks the ingest process whose socket lies at that path, or another one that answers in the same way:
    `who` it is, and the `remedy` when it is away, in words. Any thread may use it."""

    def __init__(
        self, socket_path: Path | str, *, timeout: float = 60.0, who: str = _WHO, remedy: str = _REMEDY
    ) -> None:
        self._path = Path(socket_path)
        self._timeout = timeout
        self._who = who
        self._remedy = remedy

    def call(self, op: str, **args: Any) -> Any:
        """The answer to one operation of `operations.py`, as plain JSON values.

        Raises what the operation raised, and `StoreUnavailable` when ingest is away or does not answer.
        """
        request = msgspec.json.encode({"op": op, "args": args})
        try:
            with self._connect() as connection:
                connection.sendall(len(request).to_bytes(HEADER_BYTES, "little") + request)
                size = int.from_bytes(_receive(connection, HEADER_BYTES), "little")
                answer = msgspec.json.decode(_receive(connection, size))
        except TimeoutError as error:
            raise StoreUnavailable(
                f"{self._who} did not answer within {self._timeout:g} s.",
                remedy="Ask for less, or later.",
            ) from error
        except (OSError, EOFError, msgspec.DecodeError) as error:
            raise StoreUnavailable(
                f"{self._who} cannot be asked at {self._path}: {error}.", remedy=self._remedy
            ) from error
        if "error" in answer:
            raise _raised(answer["error"])
        return answer["ok"]

    def rows(self, sql: str, limit: int = 1_000) -> list[dict[str, Any]]:
        """The rows that answer a query, by column."""
        answer = self.call("sql", sql=sql, limit=limit)
        rows: list[dict[str, Any]] = answer["rows"]
        return rows

    @contextmanager
    def _connect(self) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(self._timeout)
            with reachable(self._path) as address:
                connection.connect(address)
            yield connection


@contextmanager
def reachable(path: Path) -> Iterator[str]:
    """An address for the socket at that path, however long the path is (the kernel takes 107 bytes)."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _receive(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = connection.recv(min(size - len(data), 1 << 20))
        if not part:
            raise EOFError("it hung up")
        data += part
    return bytes(data)


def _raised(error: dict[str, Any]) -> FairleadError:
    kind = _CLASSES.get(error["code"], FairleadError)
    return kind(error["message"], remedy=error["remedy"], **error["details"])
