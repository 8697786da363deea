"""The places of answers among those of their connection."""

from __future__ import annotations

from typing import Protocol

from fairlead.gateway.messages import Request
from fairlead.serving.turns import Canceller

__all__ = ["CarefulSlot", "Flushes", "Slot", "with_line"]


class Flushes(Protocol):
    """A connection, as its answers see it."""

    def flush(self) -> None:
        """Writes the answers that are there."""


class Slot:
    """An answer's place (a `serving.turns.Sink`). `ending` is a header line that says what becomes of the
    connection; empty when it stays."""

    __slots__ = ("answer", "connection", "ending", "task")

    def __init__(self, connection: Flushes, ending: bytes) -> None:
        self.connection = connection
        self.ending = ending
        self.answer: bytes | None = None
        self.task: Canceller | None = None

    def fill(self, answer: bytes) -> None:
        """Takes the answer, which leaves once those before it have."""
        self.answer = answer
        self.connection.flush()


class CarefulSlot(Slot):
    """A slot of a request that holds `held` counted bytes, and may have to wait before it begins."""

    __slots__ = ("held", "request")

    def __init__(self, connection: Flushes, ending: bytes, request: Request, held: int) -> None:
        super().__init__(connection, ending)
        self.request = request
        self.held = held


def with_line(line: bytes, answer: bytes) -> bytes:
    """The answer with one more header line."""
    head, _, rest = answer.partition(b"\r\n")
    return b"%b\r\n%b\r\n%b" % (head, line, rest)
