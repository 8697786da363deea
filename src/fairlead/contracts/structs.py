"""Structs are made ready before threads begin."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import msgspec

__all__ = ["prepare_structs"]

_lock = threading.Lock()


def prepare_structs() -> int:
    """Lets msgspec look at every struct that is imported by now; answers how many there are.

    It looks when a class is decoded for the first time, and evaluates annotations meanwhile. A second thread
    that decodes the class just then finds it half made, and the process dies of a segmentation fault (seen
    with msgspec 0.22). So whoever starts threads that decode calls this before.
    """
    count = 0
    with _lock:
        for kind in _below(msgspec.Struct):
            # What is not meant to be decoded may have annotations that msgspec refuses.
            with contextlib.suppress(TypeError, NameError):
                msgspec.json.Decoder(kind)
                count += 1
    return count


def _below(kind: type) -> Iterator[type]:
    below: list[type] = kind.__subclasses__()
    for each in below:
        yield each
        yield from _below(each)
