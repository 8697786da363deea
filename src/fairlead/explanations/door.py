"""Where gateways ask for explanations: control's socket on their machine.

A gateway has neither log nor registry, and control has both. Whoever asks hears at once: the explanation, why
there is none, or that it is being made. Nothing is remembered that could be lost: who asks again sets it off
again.
"""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import msgspec

from fairlead.errors import FairleadError, MalformedRequest, Overloaded, RecordNotFound
from fairlead.explanations.explaining import Explaining, Explanation
from fairlead.predictions.answering import encode_error, listen
from fairlead.predictions.ask import HEADER_BYTES

__all__ = ["MOST_WAITING", "Door"]

logger = logging.getLogger(__name__)

MOST_WAITING = 64
"""So many explanations wait their turn; more are refused."""
_MOST_KEPT = 256
_KEPT_SECONDS = 60.0
_REFUSED_SECONDS = 30.0
"""As long as the slowest asks again; what could not be explained may be known to the log by then."""
_TURN_SECONDS = 0.2
_TALK_SECONDS = 2.0
_MOST_BYTES = 4_096
_ROW = re.compile(r"(.+)#(\d{1,7})", re.DOTALL)


class _Asked(msgspec.Struct):
    op: str
    args: dict[str, str] = {}


class Door:
    """Answers at one socket, with two threads: one listens, one explains."""

    def __init__(self, explaining: Explaining, path: Path) -> None:
        self._explaining = explaining
        self._path = path
        self._lock = threading.Lock()
        self._waiting: OrderedDict[str, None] = OrderedDict()
        self._answers: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._due = threading.Event()
        self._stopping = threading.Event()
        self._listener: socket.socket | None = None
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Listens and works from now on."""
        self._listener = listen(self._path)
        self._listener.listen(128)
        for work, name in ((self._serve, "explain-door"), (self._work, "explain-work")):
            thread = threading.Thread(target=work, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Stops listening; what is being made is made to its end, and kept, by nobody's waiting for it."""
        self._stopping.set()
        self._due.set()
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes who listens
            self._threads[0].join()
        self._path.unlink(missing_ok=True)

    def answer(self, request_id: str) -> bytes:
        """The message for who asks for that request, or for a row of it as `request_id#row`."""
        with self._lock:
            held = self._answers.get(request_id)
            if held is not None and held[0] > time.monotonic():
                return held[1]
            if request_id not in self._waiting:
                if len(self._waiting) >= MOST_WAITING:
                    return encode_error(
                        Overloaded(
                            f"{len(self._waiting)} explanations wait to be made.", remedy="Ask again later."
                        )
                    )
                self._waiting[request_id] = None
                self._due.set()
        return b'{"ok":null}'

    # --- the socket -----------------------------------------------------------------------------------------

    def _serve(self) -> None:
        assert self._listener is not None
        with self._listener:
            while not self._stopping.is_set():
                try:
                    connection, _ = self._listener.accept()
                except OSError as error:
                    if self._stopping.is_set():
                        return
                    logger.warning("the door of explanations: %s", error)
                    self._stopping.wait(0.1)
                    continue
                with connection, contextlib.suppress(OSError, EOFError):
                    connection.settimeout(_TALK_SECONDS)
                    self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        size = int.from_bytes(_exactly(connection, HEADER_BYTES), "little")
        if size > _MOST_BYTES:
            return
        try:
            asked = msgspec.json.decode(_exactly(connection, size), type=_Asked)
            answer = self.answer(asked.args["request_id"])
        except (msgspec.MsgspecError, KeyError) as error:
            answer = encode_error(MalformedRequest(f"The request cannot be read: {error}."))
        connection.sendall(len(answer).to_bytes(HEADER_BYTES, "little") + answer)

    # --- the work -------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while not self._stopping.is_set():
            with self._lock:
                request_id = next(iter(self._waiting), None)
                if request_id is None:
                    self._due.clear()
            if request_id is None:
                self._due.wait()
                continue
            try:
                found, seconds = _ok(self._explained(request_id)), _KEPT_SECONDS
            except Overloaded:  # somebody asked the admin API for one
                self._stopping.wait(_TURN_SECONDS)
                continue
            except FairleadError as error:
                found, seconds = encode_error(error), _REFUSED_SECONDS
            except Exception:
                logger.exception("explaining %r failed", request_id)
                failure = FairleadError("Explaining failed; the server's log says why.")
                found, seconds = encode_error(failure), _REFUSED_SECONDS
            with self._lock:
                del self._waiting[request_id]
                self._answers.pop(request_id, None)
                self._answers[request_id] = (time.monotonic() + seconds, found)
                while len(self._answers) > _MOST_KEPT:
                    self._answers.popitem(last=False)

    def _explained(self, request_id: str) -> Explanation:
        """An id may hold what looks like a row: it is one where no request has that id."""
        row = _ROW.fullmatch(request_id)
        try:
            return self._explaining.explain(request_id)
        except RecordNotFound:
            if row is None:
                raise
        return self._explaining.explain(row[1], int(row[2]))


def _ok(found: Explanation) -> bytes:
    """The explanation without the values of the features: they stay in the log, and with those who may read
    it."""
    document: dict[str, Any] = msgspec.to_builtins(found)
    for part in document["features"]:
        del part["value"]
    return msgspec.json.encode({"ok": document})


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise EOFError("it hung up")
        data += part
    return data
