"""A model that runs inside the gateway, in the thread that asks."""

from __future__ import annotations

from fairlead.errors import NotReady
from fairlead.runtimes.base import Array, Runtime, Tensors

__all__ = ["InlineEngine"]


class InlineEngine:
    """Wraps a loaded runtime (an `Engine`). `timeout` has no power over it: a run cannot be interrupted."""

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
        """Closes the runtime."""
        runtime, self._runtime = self._runtime, None
        if runtime is not None:
            runtime.close()

    def run_now(self, feed: Tensors) -> dict[str, Array]:
        """The wanted outputs; `RuntimeFailed` when the model fails, `NotReady` once stopped."""
        if self._runtime is None:
            raise NotReady("This version was unloaded.", remedy="Try again.")
        return self._runtime.run(feed)

    async def submit(self, feed: Tensors, rows: int, timeout: float | None) -> dict[str, Array]:
        """As `run_now`; it never waits."""
        return self.run_now(feed)

    def memory_bytes(self) -> int:
        """What the runtime says that it takes, 0 when it does not."""
        return int(getattr(self._runtime, "memory_bytes", 0))
