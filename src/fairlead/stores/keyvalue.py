"""Bytes under a key for some time: the same three operations in memory and in Valkey or Redis.

What lies here may vanish at any moment: it is a place for answers that can be worked out again. Who needs
more than that needs the database.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol
from urllib.parse import urlsplit

from fairlead.errors import InvalidSetting, MissingExtra, StoreUnavailable

__all__ = ["SCHEMES", "KeyValue", "MemoryKeyValue", "RedisKeyValue", "open_keyvalue"]

SCHEMES = ("memory", "redis", "rediss")
"""What a key-value URL may begin with; `rediss` is Redis over TLS."""

_PREFIX = b"fairlead:"
_CONNECTIONS = 16
_SOCKET_SECONDS = 1.0
_ENTRY_BYTES = 200
"""About what an entry in memory costs beyond its key and its value."""


class KeyValue(Protocol):
    """Bytes by key, each for its own time. Used from one event loop."""

    async def get(self, key: bytes) -> bytes | None:
        """The value, unless it is unknown, past its time or dropped for room. Raises `StoreUnavailable`."""
        ...

    async def put(self, key: bytes, value: bytes, seconds: float) -> None:
        """Keeps the value for so long (more than 0) in place of an earlier one. Raises `StoreUnavailable`."""
        ...

    async def close(self) -> None:
        """Gives back connections or memory; nothing else may be called afterwards."""
        ...


def open_keyvalue(url: str) -> KeyValue:
    """The store at a URL: `memory://`, `redis://[user:password@]host[:port][/db]`, or `rediss://…` for TLS.

    Connects on first use. Raises `InvalidSetting` for any other URL, `MissingExtra` without redis-py.
    """
    scheme = urlsplit(url).scheme
    if scheme == "memory":
        return MemoryKeyValue()
    if scheme in SCHEMES:
        return RedisKeyValue(url)
    raise InvalidSetting(
        f"A key-value URL cannot begin with {scheme!r}.",
        remedy=f"It begins with {', '.join(f'{known}://' for known in SCHEMES)}.",
    )


class MemoryKeyValue:
    """A store in this process of at most `max_bytes`: the longest unused values make room. `clock` in s."""

    def __init__(self, max_bytes: int = 64 * 2**20, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._entries: OrderedDict[bytes, tuple[bytes, float]] = OrderedDict()
        self._bytes = 0

    @property
    def size_bytes(self) -> int:
        """The estimated bytes held."""
        return self._bytes

    async def get(self, key: bytes) -> bytes | None:
        """The value, unless it is unknown, past its time or dropped for room."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[1] <= self._clock():
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return entry[0]

    async def put(self, key: bytes, value: bytes, seconds: float) -> None:
        """Keeps the value for so long; one that is larger than the whole store is not kept."""
        if key in self._entries:
            self._drop(key)
        size = _ENTRY_BYTES + len(key) + len(value)
        if size > self._max_bytes:
            return
        while self._bytes + size > self._max_bytes:
            self._drop(next(iter(self._entries)))
        self._entries[key] = value, self._clock() + seconds
        self._bytes += size

    async def close(self) -> None:
        """Forgets everything."""
        self._entries.clear()
        self._bytes = 0

    def _drop(self, key: bytes) -> None:
        value, _ = self._entries.pop(key)
        self._bytes -= _ENTRY_BYTES + len(key) + len(value)


class RedisKeyValue:
    """A Valkey or Redis server. Its keys begin with `fairlead:`; what does not answer within 1 s has failed.

    Nothing is retried here: who asks knows better whether a second attempt is worth its time. Options of
    redis-py may stand in the URL, `?ssl_ca_certs=/etc/ca.pem` for one.
    """

    def __init__(self, url: str) -> None:
        try:
            from redis.asyncio import BlockingConnectionPool, Redis
            from redis.asyncio.retry import Retry
            from redis.backoff import NoBackoff
            from redis.exceptions import RedisError
        except ModuleNotFoundError as error:
            raise MissingExtra(
                "A cache in Valkey or Redis needs redis-py.", remedy="Run `pip install 'fairlead[redis]'`."
            ) from error
        self._failures = (RedisError, OSError)
        try:
            pool = BlockingConnectionPool.from_url(
                url,
                max_connections=_CONNECTIONS,
                timeout=_SOCKET_SECONDS,
                socket_timeout=_SOCKET_SECONDS,
                socket_connect_timeout=_SOCKET_SECONDS,
                retry=Retry(NoBackoff(), 0),
                protocol=2,  # get and set need no more, and every server and proxy speaks it at once
            )
            pool.connection_class(**pool.connection_kwargs)  # refuses options that do not exist
        except (ValueError, TypeError, RedisError) as error:
            # The URL may hold a password: neither it nor what was raised about it is repeated.
            raise InvalidSetting(
                "The Redis URL cannot be read.",
                remedy="Write it as redis://user:password@host:6379/0, with options that redis-py knows.",
            ) from error
        self._client = Redis.from_pool(pool)

    async def get(self, key: bytes) -> bytes | None:
        """The value, unless the server has none (any more). Raises `StoreUnavailable`."""
        with self._translating():
            found = await self._client.get(_PREFIX + key)
        return found if isinstance(found, bytes) else None

    async def put(self, key: bytes, value: bytes, seconds: float) -> None:
        """Keeps the value for so long, to the millisecond. Raises `StoreUnavailable`."""
        with self._translating():
            await self._client.set(_PREFIX + key, value, px=max(1, round(seconds * 1000)))

    async def close(self) -> None:
        """Closes the connections."""
        with self._translating():
            await self._client.aclose()

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except self._failures as error:
            raise StoreUnavailable(
                f"Valkey or Redis does not answer: {error}.", remedy="See that it runs and can be reached."
            ) from error
