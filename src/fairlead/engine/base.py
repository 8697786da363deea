"""What an engine is: the place where one version's model runs, in this process or in another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fairlead.errors import FairleadError
from fairlead.runtimes.base import Array, Tensors

__all__ = ["Engine", "Sink", "Ticket"]


class Sink(Protocol):
    """Who is told what became of tickets."""

    def answered(self, tickets: Sequence[Ticket], outputs: dict[str, Array]) -> None:
        """The wanted outputs of these tickets, one after the other along the first axis."""
        ...

    def failed(self, tickets: Sequence[Ticket], error: FairleadError) -> None:
        """These tickets get no outputs."""
        ...

    def observed(self, rows: int, seconds: float, waiting: int, counted: bool) -> None:
        """A run that some of the tickets were part of: its rows and seconds, the rows of all gateways that
        wait for the next, and whether it is for this gateway to count."""
        ...


class Ticket:
    """Rows that were handed to an engine and are answered together. `deadline` is on `time.monotonic()`'s
    clock; `priority` 1 comes first, and 0 after all others."""

    __slots__ = ("deadline", "id", "priority", "rows", "sink")

    def __init__(self, sink: Sink, rows: int, deadline: float, priority: int = 0) -> None:
        self.sink = sink
        self.rows = rows
        self.deadline = deadline
        self.priority = priority
        self.id = 0


class Engine(Protocol):
    """One version, ready to run.

    An `inline` engine computes in the caller's thread, at once: use `run_now`. Any other lives behind a
    process boundary: use `submit` or `post`, which work for both.
    """

    @property
    def inline(self) -> bool:
        """Whether `run_now` may be used."""
        ...

    @property
    def healthy(self) -> bool:
        """Whether a request submitted now would reach the model."""
        ...

    async def start(self) -> None:
        """Returns once the model is loaded; `InvalidModelFile` when it cannot be."""
        ...

    async def stop(self) -> None:
        """Gives back everything the model took. Requests under way fail; a second call does nothing."""
        ...

    def run_now(self, feed: Tensors) -> dict[str, Array]:
        """The wanted outputs, computed in this thread. Raises `RuntimeFailed`; `NotReady` if not inline."""
        ...

    async def submit(
        self,
        feed: Tensors,
        rows: int,
        timeout: float | None,
        *,
        deadline: float | None = None,
        priority: int = 0,
    ) -> dict[str, Array]:
        """The wanted outputs within `timeout` seconds, and before `deadline` on `time.monotonic()`'s clock.

        Raises `RuntimeFailed`, `DeadlineExceeded`, `Overloaded` when too many wait, `NotReady` while the
        model is not loaded, `PayloadTooLarge`.
        """
        ...

    def post(self, feed: Tensors, tickets: Sequence[Ticket]) -> int:
        """Hands over rows, the tickets' one after the other, and returns the bytes that they take on the way.

        Their sinks are told what became of them, perhaps before this returns. Raises `NotReady` and
        `PayloadTooLarge`; then they are told nothing.
        """
        ...

    def cancel(self, tickets: Sequence[Ticket]) -> None:
        """Nobody wants these any more: their sinks hear nothing from now on."""
        ...

    def resize(self, rows: int) -> None:
        """From now on runs have at most so many rows, where the engine joins them."""
        ...

    def memory_bytes(self) -> int:
        """Memory that the model takes, as far as it is known."""
        ...
