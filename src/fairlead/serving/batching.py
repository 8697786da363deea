"""Joining rows for engines that live elsewhere: while one batch runs, the rows that arrive form the next.

Nothing ever waits for company: an idle engine gets a lone row at once. Identical rows in flight share a run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from fairlead.engine.base import Engine
from fairlead.errors import DeadlineExceeded, Overloaded, RuntimeFailed
from fairlead.runtimes.binding import Binding, Prediction, Row

__all__ = ["Batcher"]


class Batcher:
    """The queue before one version's engine. Bounded: more than `max_waiting` rows are refused."""

    def __init__(
        self,
        engine: Engine,
        binding: Binding,
        *,
        max_batch_rows: int,
        timeout: float,
        max_waiting: int = 10_000,
    ) -> None:
        self._engine = engine
        self._binding = binding
        self._max_batch_rows = max_batch_rows
        self._timeout = timeout
        self._max_waiting = max_waiting
        self.ran: Callable[[int, float], None] = lambda rows, seconds: None
        """Called after each run with its rows and seconds; the live model counts there."""
        self._waiting: list[tuple[Row, asyncio.Future[Prediction]]] = []
        self._in_flight: dict[bytes, asyncio.Future[Prediction]] = {}
        self._runner: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Rows that no batch has taken yet."""
        return len(self._waiting)

    async def predict(self, row: Row, key: bytes | None) -> Prediction:
        """The prediction for a row. Rows with the same key that are under way share one run.

        Raises `Overloaded` when the queue is full, `DeadlineExceeded` past the version's timeout, and
        whatever the engine raises.
        """
        shared = None if key is None else self._in_flight.get(key)
        if shared is None:
            if len(self._waiting) >= self._max_waiting:
                raise Overloaded(
                    f"{len(self._waiting)} rows wait for the model already.", remedy="Try again later."
                )
            shared = asyncio.get_running_loop().create_future()
            self._waiting.append((row, shared))
            if key is not None:
                self._in_flight[key] = shared
                shared.add_done_callback(lambda _: self._in_flight.pop(key, None))
            if self._runner is None:
                self._runner = asyncio.get_running_loop().create_task(self._run())
        # Shielded: one caller who gives up must not take the answer from those who share it.
        done, _ = await asyncio.wait([shared], timeout=self._timeout)
        if not done:
            raise DeadlineExceeded(
                f"The model did not answer within {self._timeout:g} s.",
                remedy="Raise timeout_ms of the version, or make the model faster.",
            )
        return shared.result()

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch = self._waiting[: self._max_batch_rows]
                del self._waiting[: self._max_batch_rows]
                await self._run_batch(batch)
        finally:
            self._runner = None

    async def _run_batch(self, batch: Sequence[tuple[Row, asyncio.Future[Prediction]]]) -> None:
        started = time.perf_counter()
        try:
            feed = self._binding.encode([row for row, _ in batch])
            outputs = await self._engine.submit(feed, len(batch), self._timeout)
            predictions = self._binding.decode(outputs, len(batch))
        except RuntimeFailed as error:
            if len(batch) == 1:
                _fail(batch[0][1], error)
            else:
                # Perhaps one row is to blame. Alone, each fails or succeeds for itself.
                for single in batch:
                    await self._run_batch([single])
        except BaseException as error:
            for _, future in batch:
                _fail(future, error)
            if not isinstance(error, Exception):
                raise
        else:
            self.ran(len(batch), time.perf_counter() - started)
            for (_, future), prediction in zip(batch, predictions, strict=True):
                if not future.done():
                    future.set_result(prediction)


def _fail(future: asyncio.Future[Prediction], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # seen: a caller who gave up must not make a warning
