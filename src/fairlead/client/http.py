"""The Python client of the data plane, blocking and asynchronous: the same operations, the same arguments."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

from fairlead.client import calls
from fairlead.client.calls import RecentRequests
from fairlead.client.session import AsyncSession, Call, Session

__all__ = ["AsyncClient", "Client"]

P = ParamSpec("P")
T = TypeVar("T")

_Build = Callable[Concatenate[RecentRequests, P], Call[T]]
_VARIABLE, _DEFAULT = "FAIRLEAD_URL", "http://localhost:8000"


def _blocking(build: _Build[P, T]) -> Callable[Concatenate[Client, P], T]:
    @functools.wraps(build)
    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.send(build(self.recent, *args, **kwargs))

    return method


def _awaited(build: _Build[P, T]) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    @functools.wraps(build)
    async def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.send(build(self.recent, *args, **kwargs))

    return method


class Client(Session):
    """Asks a gateway for predictions and reports outcomes. Safe to share between threads; close it, or use
    it in a `with` block.

        client = Client("http://localhost:8000")
        p = client.predict("product-recommendations", {"user_age": 31}, unit="user-42")
        client.outcome(p.request_id, "conversion", 1)

    The address is `url`, else `FAIRLEAD_URL`, else http://localhost:8000; the key `api_key`, else
    `FAIRLEAD_API_KEY`. `timeout` bounds one request, in seconds. What the server refuses is raised as the
    class of `fairlead.errors` that says why.
    """

    def __init__(self, url: str | None = None, *, api_key: str | None = None, timeout: float = 10.0) -> None:
        super().__init__(url, api_key=api_key, timeout=timeout, variable=_VARIABLE, default=_DEFAULT)
        self.recent = RecentRequests()

    def __enter__(self) -> Client:
        return self

    predict = _blocking(calls.predict)
    predict_batch = _blocking(calls.predict_batch)
    outcome = _blocking(calls.outcome)
    outcomes = _blocking(calls.outcomes)
    models = _blocking(calls.models)
    contract = _blocking(calls.contract)
    health = _blocking(calls.health)


class AsyncClient(AsyncSession):
    """The twin of `Client` for an event loop: the same methods, awaited. `async with` or `aclose` ends it."""

    def __init__(self, url: str | None = None, *, api_key: str | None = None, timeout: float = 10.0) -> None:
        super().__init__(url, api_key=api_key, timeout=timeout, variable=_VARIABLE, default=_DEFAULT)
        self.recent = RecentRequests()

    async def __aenter__(self) -> AsyncClient:
        return self

    predict = _awaited(calls.predict)
    predict_batch = _awaited(calls.predict_batch)
    outcome = _awaited(calls.outcome)
    outcomes = _awaited(calls.outcomes)
    models = _awaited(calls.models)
    contract = _awaited(calls.contract)
    health = _awaited(calls.health)
