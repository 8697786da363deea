"""A model that runs inside the gateway, in the thread that asks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from fairlead.engine.base import Ticket
from fairlead.errors import NotReady, RuntimeFailed
from fairlead.runtimes.base import Array, Runtime, Tensors

__all__ = ["InlineEngine"]


class InlineEngine:
    """Wraps a loaded runtime (an `Engine`). No time limit binds it: a run cannot be interrupted."""

    inline = True

    def __init__(self, runtime: Runtime) -> None:
        self._runtime: Runtime | None = runtime

    @property
    def healthy(self) -> bool:
        """True until it is stopped."""
        return self._runtime is not None

    async def start(self) -> None:
        """Nothing to do: the runtime came loaded."""

    async def stop(self) -> None:
        """Closes the runtime, in a thread: giving back megabytes takes milliseconds."""
        runtime, self._runtime = self._runtime, None
        if runtime is not None:
            await asyncio.to_thread(runtime.close)

    def run_now(self, feed: Tensors) -> dict[str, Array]:
        """The wanted outputs; `RuntimeFailed` when the model fails, `NotReady` once stopped."""
        if self._runtime is None:
            raise NotReady("This version was unloaded.", remedy="Try again.")
        return self._runtime.run(feed)

    async def submit(
        self,
        feed: Tensors,
        rows: int,
        timeout: float | None,
        *,
        deadline: float | None = None,
        priority: int = 0,
    ) -> dict[str, Array]:
        """As `run_now`; it never waits."""
        return self.run_now(feed)

    def post(self, feed: Tensors, tickets: Sequence[Ticket]) -> int:
        """Runs the rows at once, and when that fails each ticket alone; nothing travels, so no bytes do."""
        started = time.perf_counter()
        sink = tickets[0].sink
        try:
            outputs = self.run_now(feed)
        except RuntimeFailed as error:
            if len(tickets) == 1:
                sink.failed(tickets, error)
                return 0
            start = 0
            for ticket in tickets:
                end = start + ticket.rows
                self.post({name: array[start:end] for name, array in feed.items()}, [ticket])
                start = end
        else:
            rows = sum(ticket.rows for ticket in tickets)
            sink.observed(rows, time.perf_counter() - started, 0, True)
            sink.answered(tickets, outputs)
        return 0

    def cancel(self, tickets: Sequence[Ticket]) -> None:
        """Nothing waits here."""

    def resize(self, rows: int) -> None:
        """Nothing is joined here."""

    def memory_bytes(self) -> int:
        """What the runtime says that it takes, 0 when it does not."""
        return int(getattr(self._runtime, "memory_bytes", 0))
