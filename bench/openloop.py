"""An open-loop load: requests leave when they are due, whether or not the earlier ones have been answered.

Each connection carries several requests at a time (HTTP pipelining), so that one process can offer far more
than a server can take. Latency counts from the moment at which a request was due.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections import Counter, deque
from dataclasses import dataclass, field

__all__ = ["Offered", "closed_loop", "offer", "request_bytes"]

_ANSWER = b"HTTP/1.1 "
_TICK = 0.001


@dataclass
class Offered:
    """What came of a load: answers by status, and the latencies in seconds of those that were 200."""

    seconds: float
    sent: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    without_retry_after: int = 0
    broken: int = 0
    latest: float = 0.0
    """By how many seconds the load itself was late, at worst."""

    def goodput(self, deadline: float) -> float:
        """Answers per second that were 200 and in time."""
        return sum(latency <= deadline for latency in self.latencies) / self.seconds

    def quantile(self, q: float) -> float:
        """The q-quantile in seconds of the latency of what was admitted; 0 without any."""
        found = sorted(self.latencies)
        return found[min(len(found) - 1, int(q * len(found)))] if found else 0.0


def request_bytes(path: str, body: str, headers: dict[str, str]) -> bytes:
    """A POST of that JSON as it goes over the wire."""
    lines = [f"POST {path} HTTP/1.1", "Host: bench", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join([*lines, f"Content-Length: {len(body)}"]) + "\r\n\r\n" + body).encode()


class _Connection:
    """One connection: what waits to be sent, and when what is under way was due."""

    __slots__ = ("due", "held", "rest", "socket")

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due: deque[float] = deque()
        self.rest = b""
        self.held = b""

    def send(self, data: bytes) -> None:
        data = self.rest + data
        try:
            sent = self.socket.send(data)
        except BlockingIOError:
            sent = 0
        self.rest = data[sent:]

    def receive(self, found: Offered, now: float) -> bool:
        """Takes what has come; False when the server has closed."""
        try:
            data = self.socket.recv(1 << 20)
        except BlockingIOError:
            return True
        if not data:
            return False
        # An answer counts once the next begins or nothing is left of it: split where answers begin.
        parts = (self.held + data).split(_ANSWER)
        self.held = b""
        for index, part in enumerate(parts[1:], 1):
            if index == len(parts) - 1 and not _whole(part):
                self.held = _ANSWER + part
                break
            due = self.due.popleft()
            status = part[:3].decode()
            found.statuses[status] += 1
            if status == "200":
                found.latencies.append(now - due)
            elif status in ("429", "503") and b"retry-after" not in part:
                found.without_retry_after += 1
        return True


def _whole(part: bytes) -> bool:
    head, mark, body = part.partition(b"\r\n\r\n")
    if not mark:
        return False
    start = head.index(b"content-length: ") + 16
    return len(body) >= int(head[start : head.index(b"\r", start) if b"\r" in head[start:] else None])


def offer(
    port: int, requests: list[bytes], rate: float, seconds: float, connections: int, tick: float = _TICK
) -> Offered:
    """Sends `rate` requests a second, evenly, in turn over the connections, and waits for what is open.

    It looks at the clock every `tick` seconds at least; 0 keeps its core busy, and is never late by as much.
    """
    found = Offered(seconds)
    pool = [_Connection(port) for _ in range(connections)]
    with selectors.DefaultSelector() as selector:
        for connection in pool:
            selector.register(connection.socket, selectors.EVENT_READ, connection)
        began = time.perf_counter()
        next_connection = 0
        total = int(rate * seconds)
        while found.sent < total:
            now = time.perf_counter()
            wanted = min(total, 1 + int((now - began) * rate))
            count = wanted - found.sent
            if count > 0:
                each = max(1, -(-count // len(pool)))
                while found.sent < wanted:
                    connection = pool[next_connection % len(pool)]
                    next_connection += 1
                    batch = range(found.sent, min(wanted, found.sent + each))
                    connection.due.extend(began + number / rate for number in batch)
                    found.latest = max(found.latest, now - connection.due[-len(batch)])
                    connection.send(b"".join(requests[number % len(requests)] for number in batch))
                    found.sent += len(batch)
            _receive(selector, found, tick)
        _drain(selector, pool, found)
    for connection in pool:
        found.broken += len(connection.due)
        connection.socket.close()
    return found


def closed_loop(
    port: int, requests: list[bytes], seconds: float, connections: int, depth: int = 1
) -> Offered:
    """Each connection asks again, `depth` requests at a time, as soon as it has its answers."""
    found = Offered(seconds)
    pool = [_Connection(port) for _ in range(connections)]
    with selectors.DefaultSelector() as selector:
        for connection in pool:
            selector.register(connection.socket, selectors.EVENT_READ, connection)
        until = time.perf_counter() + seconds
        while (now := time.perf_counter()) < until:
            for connection in pool:
                if not connection.due:
                    connection.due.extend([now] * depth)
                    batch = range(found.sent, found.sent + depth)
                    connection.send(b"".join(requests[number % len(requests)] for number in batch))
                    found.sent += depth
            _receive(selector, found, _TICK)
        _drain(selector, pool, found)
    for connection in pool:
        found.broken += len(connection.due)
        connection.socket.close()
    return found


def _receive(selector: selectors.BaseSelector, found: Offered, patience: float) -> None:
    for key, _ in selector.select(patience):
        connection: _Connection = key.data
        if not connection.receive(found, time.perf_counter()):
            selector.unregister(connection.socket)
        elif connection.rest:
            connection.send(b"")


def _drain(selector: selectors.BaseSelector, pool: list[_Connection], found: Offered) -> None:
    until = time.perf_counter() + 10.0
    while any(connection.due for connection in pool) and time.perf_counter() < until and selector.get_map():
        for connection in pool:
            if connection.rest:
                connection.send(b"")
        _receive(selector, found, 0.01)
