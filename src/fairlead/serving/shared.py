"""The prediction cache that gateways share: a second tier behind the one in each process.

It may be slow, dead or wrong, and no request may suffer from that: a look-up waits a few milliseconds at
most, a write is never waited for, and a store that does not answer is left alone for a while.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import urlsplit

import msgspec

from fairlead.runtimes.binding import Prediction
from fairlead.serving.breaker import Breaker
from fairlead.stores.keyvalue import KeyValue, open_keyvalue

__all__ = ["SharedCache", "open_shared"]

logger = logging.getLogger(__name__)

_FORMAT = b"\x01"
_ON_TIME = 1.2
"""A timer that fires after more than so many times its delay was held up by this loop."""

_Plain = str | int | float | bool | None


class _Held(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What lies in the store behind the format byte, as MessagePack: a prediction and its end (Unix time)."""

    until: float
    value: _Plain | list[_Plain | dict[str, _Plain]]
    probabilities: list[float] | None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Held).decode


class SharedCache:
    """Predictions in a key-value store, under the keys of `PredictionCache`. Used from one event loop.

    A look-up waits at most `timeout` seconds, and once more so long if this loop was busy meanwhile. At most
    `under_way` look-ups and as many writes go on at once; beyond that a look-up is a miss and a write is
    dropped. `clock` is monotonic; `wall` is Unix time.
    """

    def __init__(
        self,
        store: KeyValue,
        *,
        timeout: float = 0.005,
        under_way: int = 32,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._timeout = timeout
        self._under_way = under_way
        self._clock = clock
        self._wall = wall
        self._breaker = Breaker()
        self._reads: set[asyncio.Task[Any]] = set()
        self._writes: set[asyncio.Task[Any]] = set()
        self.dropped = 0
        """Predictions that the store did not get: it failed, was left alone, or had too many to write."""

    @property
    def available(self) -> bool:
        """Whether the store is being asked; False while it is left alone."""
        return not self._breaker.open

    async def get(self, key: bytes) -> tuple[Prediction, float] | None:
        """A prediction and the seconds that it has left to live, by this machine's clock; None is a miss.

        Whatever goes wrong is a miss, too, and so is a value that nobody here can read.
        """
        if len(self._reads) >= self._under_way or not self._breaker.allows(self._clock()):
            return None
        task = _start(self._store.get(key), self._reads)
        fair = await self._wait(task)
        # One that is late goes on behind the request's back: a connection that takes longer to open than a
        # request may wait would otherwise never be opened.
        if task.done() and not task.cancelled() and task.exception() is None:
            self._succeeded()
            return self._read(task.result())
        if task.done() or fair:
            self._failed(task)
        return None

    def put(self, key: bytes, prediction: Prediction, seconds: float) -> None:
        """Sends a prediction to the store and does not wait for it."""
        if len(self._writes) >= self._under_way or self._breaker.open:
            self.dropped += 1
            return
        held = _Held(self._wall() + seconds, prediction.value, prediction.probabilities)
        try:
            value = _FORMAT + _encode(held)
        except (TypeError, ValueError, OverflowError):
            self.dropped += 1
            return
        # Only look-ups decide whether the store is left alone: a write that is slow delays nobody.
        _start(self._store.put(key, value, seconds), self._writes).add_done_callback(self._written)

    async def close(self) -> None:
        """Ends what is under way and closes the store."""
        tasks = [*self._reads, *self._writes]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            await self._store.close()
        except Exception as error:
            logger.debug("the shared cache could not be closed: %s", error)

    async def _wait(self, task: asyncio.Task[Any]) -> bool:
        """Waits for the task within the timeout; tells whether it had all of it.

        While the loop runs a model inline, an answer lies unread and the timer runs on. That is not the
        store's fault: it gets a second chance, and is blamed only for time in which it could be heard.
        """
        for _ in range(2):
            started = self._clock()
            await asyncio.wait([task], timeout=self._timeout)
            if task.done() or self._clock() - started <= _ON_TIME * self._timeout:
                return True
        return False

    def _read(self, value: bytes | None) -> tuple[Prediction, float] | None:
        if value is None or value[:1] != _FORMAT:
            return None
        try:
            held = _decode(memoryview(value)[1:])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        return Prediction(held.value, held.probabilities), max(0.0, held.until - self._wall())

    def _failed(self, task: asyncio.Task[Any]) -> None:
        was_open = self._breaker.open
        self._breaker.failed(self._clock())
        if self._breaker.open and not was_open:
            late = not task.done() or task.cancelled()
            reason = f"no answer within {self._timeout:g} s" if late else task.exception()
            logger.warning("the shared cache is left alone for a while: %s", reason)

    def _succeeded(self) -> None:
        if self._breaker.open:
            logger.info("the shared cache answers again")
        self._breaker.succeeded()

    def _written(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled() or task.exception() is not None:
            self.dropped += 1


def open_shared(url: str) -> SharedCache | None:
    """The shared cache at a URL; None for `memory://`, where each process keeps to itself.

    Raises `InvalidSetting` and `MissingExtra`; it connects on first use, so an absent server is no error.
    """
    return None if urlsplit(url).scheme == "memory" else SharedCache(open_keyvalue(url))


def _start(work: Coroutine[Any, Any, Any], among: set[asyncio.Task[Any]]) -> asyncio.Task[Any]:
    """Runs `work` as a task that is in the set as long as it goes on."""
    task = asyncio.get_running_loop().create_task(work)
    among.add(task)

    def ended(task: asyncio.Task[Any]) -> None:
        among.discard(task)
        if not task.cancelled():
            task.exception()  # seen: one that nobody waited for must not make a warning

    task.add_done_callback(ended)
    return task
