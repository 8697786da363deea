"""HTTP/1.1 for the data plane: a thin asyncio protocol over llhttp, and what its connections share.

`reader.py` makes requests of bytes, `connection.py` begins them and writes their answers, `serving/turns.py`
walks them. Here is who may connect, what all together may hold, and how a gateway drains.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import time

from fairlead.gateway.connection import HttpConnection
from fairlead.gateway.limits import Limits
from fairlead.gateway.messages import Gatekeeper, Handler, Refusal, Request, response
from fairlead.serving.turns import Turns

__all__ = ["HttpServer", "Limits", "Request", "response"]

logger = logging.getLogger(__name__)

_MAX_DISMISSED = 64
"""Connections without room that are told so at a time; more are closed without a word."""
_IDLEST = 64
_LOOK_SECONDS = 0.05
_REST_SECONDS = 0.02
_ARRIVING_SECONDS = 2.0


class HttpServer:
    """All connections of one gateway worker: makes their protocols, ends what takes too long, and drains."""

    def __init__(
        self,
        handle: Handler,
        refuse: Refusal,
        limits: Limits,
        turns: Turns,
        turn_away: Gatekeeper = lambda _: None,
    ) -> None:
        self.handle = handle
        self.turn_away = turn_away
        self.turns = turns
        self.start = turns.start
        self.refuse = refuse
        self.limits = limits
        self.connections: set[HttpConnection] = set()
        self.held = 0
        """Bytes that connections hold of requests that came in pieces and are not yet answered."""
        self._draining = False
        self._dismissed: set[HttpConnection] = set()
        self.full = False
        """Whether requests were refused a moment ago: the next ones are first asked whether there is room."""
        self._resting: list[HttpConnection] = []
        self._unflushed: list[HttpConnection] = []
        self._idlest: list[tuple[float, HttpConnection]] = []
        self._looked = 0.0
        self._evicted = self._refused = 0

    def __call__(self) -> HttpConnection:
        return HttpConnection(self)

    @property
    def draining(self) -> bool:
        """Whether answers end their connections."""
        return self._draining

    @draining.setter
    def draining(self, draining: bool) -> None:
        self._draining = draining
        for connection in self.connections:
            connection.heed()

    # --- who is here ----------------------------------------------------------------------------------------

    def admits(self, connection: HttpConnection) -> bool:
        """Takes a connection in; when all places are taken, in that of the one that is idle for longest."""
        if len(self.connections) >= self.limits.connections and not self._makes_room():
            self._refused += 1
            return False
        self.connections.add(connection)
        return True

    def dismisses(self, connection: HttpConnection) -> bool:
        """Whether there is time to tell a connection that there is no room for it."""
        if len(self._dismissed) >= _MAX_DISMISSED:
            return False
        self._dismissed.add(connection)
        return True

    def lost(self, connection: HttpConnection) -> None:
        """A connection has ended."""
        self.connections.discard(connection)
        self._dismissed.discard(connection)

    def _makes_room(self) -> bool:
        """Closes the connection that has been idle for longest; False when none is idle."""
        now = time.perf_counter()
        while True:
            while self._idlest:
                active, connection = self._idlest.pop()
                if connection in self.connections and connection.active == active and connection.idle:
                    self.connections.discard(connection)
                    self._evicted += 1
                    connection.abort()
                    return True
            # Looking through all of them for each newcomer would be an attack of its own.
            if now - self._looked < _LOOK_SECONDS:
                return False
            self._looked = now
            idle = ((each.active, id(each), each) for each in self.connections if each.idle)
            found = heapq.nsmallest(_IDLEST, idle)
            self._idlest = [(active, each) for active, _, each in reversed(found)]

    def rest(self, connection: HttpConnection) -> None:
        """Reads on from that connection a moment later."""
        if not self._resting:
            self.full = True
            asyncio.get_running_loop().call_later(_REST_SECONDS, self._go_on)
        self._resting.append(connection)

    def _go_on(self) -> None:
        resting, self._resting = self._resting, []
        for connection in resting:
            connection.go_on()

    def flush_later(self, connection: HttpConnection) -> None:
        """Has the connection write its answers once what happens at this moment has happened."""
        if not self._unflushed:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unflushed.append(connection)

    def _flush(self) -> None:
        unflushed, self._unflushed = self._unflushed, []
        for connection in unflushed:
            connection.flush_now()

    # --- what takes too long --------------------------------------------------------------------------------

    async def sweep(self) -> None:
        """Closes connections that are silent, or slow, for too long; runs until cancelled."""
        limits = self.limits
        shortest = min(limits.idle_seconds, limits.request_seconds, limits.write_seconds)
        while True:
            await asyncio.sleep(min(1.0, shortest / 4))
            now = time.perf_counter()
            self.full = bool(self._resting)
            for connection in list(self.connections):
                connection.tend(now)
            if self._evicted or self._refused:
                logger.warning(
                    "all %d connections are taken: %d idle ones were closed for new ones, %d were refused",
                    limits.connections, self._evicted, self._refused,
                )  # fmt: skip
                self._evicted = self._refused = 0

    async def drain(self, seconds: float) -> int:
        """Lets answers under way leave and closes every connection; returns how many had to be cut.

        A request that is arriving has two seconds to be whole.
        """
        self.draining = True
        began = time.perf_counter()
        while True:
            now = time.perf_counter()
            arriving = now - began < min(seconds, _ARRIVING_SECONDS)
            for connection in list(self.connections):
                if not connection.busy and not (arriving and connection.began):
                    connection.close()
            if not self.connections or now - began > seconds:
                break
            await asyncio.sleep(0.01)
        cut = list(self.connections)
        for connection in cut:
            connection.abort()
        return len(cut)
