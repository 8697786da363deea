"""What a trainer says, bounded: how it began and how it ended stay, in between something may be left out."""

from __future__ import annotations

import threading
from collections import deque

__all__ = ["Log", "clipped"]

_HEAD, _TAIL = 64 * 2**10, 192 * 2**10


class Log:
    """The words of a trainer that works here. One thread adds, any may read."""

    def __init__(self, head: int = _HEAD, tail: int = _TAIL) -> None:
        self._most_head, self._most_tail = head, tail
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._tail_bytes = self._left_out = 0
        self._lock = threading.Lock()

    def add(self, data: bytes) -> None:
        """Takes more in."""
        with self._lock:
            room = self._most_head - len(self._head)
            self._head += data[:room]
            if data[room:]:
                self._tail.append(data[room:])
                self._tail_bytes += len(data[room:])
            while self._tail_bytes > self._most_tail:
                gone = self._tail.popleft()
                self._tail_bytes -= len(gone)
                self._left_out += len(gone)

    def text(self) -> str:
        """All that is kept; bytes that are no UTF-8 are replaced, and NUL, which databases refuse, too."""
        with self._lock:
            head, tail, left_out = bytes(self._head), b"".join(self._tail), self._left_out
        gap = f"\n… {left_out:,} bytes are left out …\n".encode() if left_out else b""
        return _readable(head + gap + tail)


def clipped(before: str, more: bytes, head: int = _HEAD, tail: int = _TAIL) -> str:
    """The words so far and those that came: the first `head` and the last `tail` characters of them."""
    text = before + _readable(more)
    if len(text) <= head + tail:
        return text
    return f"{text[:head]}\n… something is left out …\n{text[-tail:]}"


def _readable(data: bytes) -> str:
    return data.decode("utf-8", "replace").replace("\0", "\ufffd")
