"""What an engine is: the place where one version's model runs, in this process or in another."""

from __future__ import annotations

from typing import Protocol

from fairlead.runtimes.base import Array, Tensors

__all__ = ["Engine"]


class Engine(Protocol):
    """One version, ready to run.

    An `inline` engine computes in the caller's thread, at once: use `run_now`. Any other lives behind a
    process boundary: use `submit`, which works for both.
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

    async def submit(self, feed: Tensors, rows: int, timeout: float | None) -> dict[str, Array]:
        """The wanted outputs within `timeout` seconds.

        Raises `RuntimeFailed`, `DeadlineExceeded`, `Overloaded` when too many wait, `NotReady` while the
        model is not loaded.
        """
        ...

    def memory_bytes(self) -> int:
        """Memory that the model takes, as far as it is known."""
        ...
