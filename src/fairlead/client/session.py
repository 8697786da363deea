"""Sending calls and reading answers: what the blocking and the asynchronous client share, and what not.

A `Call` is data: all about a request, and how to read its answer. Only this file knows the HTTP library.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

import httpx2
import msgspec

from fairlead import __version__
from fairlead.client.refusals import error_from
from fairlead.contracts.structs import prepare_structs
from fairlead.errors import AdminUnreachable, DeadlineExceeded, FairleadError, InvalidSetting

__all__ = ["AsyncSession", "Call", "Session", "reading"]

T = TypeVar("T")
_Outcome = httpx2.Response | httpx2.HTTPError

_RETRIES = 2
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
_READING = ("GET", "HEAD")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Call(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One request. `read` makes the result from the answer's body. `body` is bytes, or makes an iterator of
    chunks anew for each attempt."""

    method: str
    path: str
    read: Callable[[bytes], T]
    body: bytes | Callable[[], Iterable[bytes]] | None = None
    query: Mapping[str, str | Sequence[str]] = {}
    headers: Mapping[str, str] = {}
    content_type: str = "application/json"


def reading(kind: type[T]) -> Callable[[bytes], T]:
    """What turns an answer's body into that type; fields that the type lacks are ignored."""
    return msgspec.json.Decoder(kind).decode


class _Connection:
    """The address, and what can be decided about an attempt without waiting."""

    def __init__(
        self,
        url: str | None,
        *,
        api_key: str | None,
        timeout: float,
        variable: str,
        default: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.url = (url or os.environ.get(variable) or default).rstrip("/")
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidSetting(
                f"{self.url!r} is no address.", remedy=f"Write it as {default} ({variable}, or url=…)."
            )
        self._variable = variable
        self._timeout = timeout
        key = api_key or os.environ.get("FAIRLEAD_API_KEY")
        local = parts.hostname in _LOOPBACK
        self._options: dict[str, Any] = {
            "base_url": self.url,
            "timeout": httpx2.Timeout(timeout, connect=min(timeout, 5.0)),
            "headers": {
                "user-agent": f"fairlead/{__version__}",
                **({"authorization": f"Bearer {key}"} if key else {}),
                **(headers or {}),
            },
            # A proxy of the environment cannot reach this machine's own loopback.
            "trust_env": not local,
            # Reading the system's certificates takes 60 ms, for a connection that needs none.
            "verify": not (local and parts.scheme == "http"),
        }

    def _request(self, call: Call[Any]) -> dict[str, Any]:
        request: dict[str, Any] = {"method": call.method, "url": call.path, "headers": dict(call.headers)}
        if call.query:
            request["params"] = dict(call.query)
        if call.body is not None:
            request["content"] = call.body() if callable(call.body) else call.body
            request["headers"].setdefault("content-type", call.content_type)
        return request

    def _settle(self, call: Call[T], outcome: _Outcome) -> T:
        if isinstance(outcome, httpx2.HTTPError):
            raise self._explained(call, outcome) from outcome
        if outcome.status_code >= 400:
            raise error_from(outcome.status_code, outcome.content, self.url)
        try:
            return call.read(outcome.content)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise AdminUnreachable(
                f"{self.url}{call.path} answered something else than this client expects: {error}.",
                remedy="Check the address, and that client and server are of the same release.",
            ) from error

    def _pause(self, call: Call[Any], attempt: int, outcome: _Outcome) -> float | None:
        """Seconds to wait before the same call is sent again; None when it must not be.

        A 503 that names its time has done nothing and is repeated. After a broken connection nobody knows
        what was done: only reading is repeated, and never after a timeout.
        """
        if attempt >= _RETRIES:
            return None
        if isinstance(outcome, httpx2.HTTPError):
            if call.method not in _READING or isinstance(outcome, httpx2.TimeoutException):
                return None
            return _FIRST_PAUSE * float(2**attempt)
        named = outcome.headers.get("retry-after", "")
        if outcome.status_code != 503 or not named.isascii() or not named.isdigit():
            return None
        return min(float(named), _LONGEST_PAUSE)

    def _explained(self, call: Call[Any], error: httpx2.HTTPError) -> FairleadError:
        if isinstance(error, httpx2.TimeoutException) and not isinstance(error, httpx2.ConnectTimeout):
            remedy = "Ask again with a longer timeout."
            if call.method not in _READING:
                remedy = "It may have been done all the same: look before you repeat it."
            return DeadlineExceeded(
                f"{self.url} did not answer {call.method} {call.path} within {self._timeout:g} s.",
                remedy=remedy,
            )
        if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
            return AdminUnreachable(
                f"Nothing answers at {self.url}.",
                remedy=f"Start it with `fairlead up`, or set {self._variable} to its address.",
                url=self.url,
            )
        return AdminUnreachable(
            f"The connection to {self.url} broke during {call.method} {call.path}"
            f"{f': {error}' if str(error) else ''}.",
            remedy="See whether the server is still running (`fairlead up`), and what was done.",
            url=self.url,
        )


class Session(_Connection):
    """Sends calls and waits for their answers. Safe to share between threads."""

    def __init__(self, url: str | None, **options: Any) -> None:
        super().__init__(url, **options)
        prepare_structs()
        self._http = httpx2.Client(**self._options)

    def send(self, call: Call[T]) -> T:
        """The answer, read; or the error that it describes."""
        for attempt in itertools.count():
            outcome: _Outcome
            try:
                outcome = self._http.request(**self._request(call))
            except httpx2.HTTPError as error:
                outcome = error
            pause = self._pause(call, attempt, outcome)
            if pause is None:
                return self._settle(call, outcome)
            time.sleep(pause)
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()


class AsyncSession(_Connection):
    """Sends calls from an event loop."""

    def __init__(self, url: str | None, **options: Any) -> None:
        super().__init__(url, **options)
        self._http = httpx2.AsyncClient(**self._options)

    async def send(self, call: Call[T]) -> T:
        """The answer, read; or the error that it describes."""
        for attempt in itertools.count():
            outcome: _Outcome
            try:
                outcome = await self._http.request(**self._request(call))
            except httpx2.HTTPError as error:
                outcome = error
            pause = self._pause(call, attempt, outcome)
            if pause is None:
                return self._settle(call, outcome)
            await asyncio.sleep(pause)
        raise AssertionError("unreachable")

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        await self.aclose()
