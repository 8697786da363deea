"""The root of the error tree: a class for each situation, with a stable code and a remedy. It knows no HTTP.

`gateway/statuses.py` maps the classes to HTTP in one table. A test fails when a code is missing from the
reference.
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = ["FairleadError", "every_error"]


class FairleadError(Exception):
    """Something Fairlead refuses or cannot do; says what, which rule, and what to do about it.

    `code` is stable and may be relied upon by programs; `retryable` tells whether the same call can succeed
    later without a change. `details` are small JSON values that name the thing.
    """

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, remedy: str = "", **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.details = details

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


def every_error() -> list[type[FairleadError]]:
    """All error classes."""
    found: list[type[FairleadError]] = []
    for cls in FairleadError.__subclasses__():
        found.extend([cls, *cls.__subclasses__()])
    return found
