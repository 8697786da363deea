"""Waiting in tests: poll with a deadline, never sleep and hope."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psutil

__all__ = ["has_ended", "wait_until"]


def wait_until(predicate: Callable[[], Any], timeout: float = 10.0) -> Any:
    """The predicate's first truthy answer; AssertionError when there is none within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        found = predicate()
        if found:
            return found
        assert time.monotonic() < deadline, f"nothing true within {timeout} s"
        time.sleep(0.005)


def has_ended(pid: int) -> bool:
    """Whether the process does nothing any more: who has lost its parent may stay in the list for a while."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
