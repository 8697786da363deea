"""Who asks, and under which conditions: what commands read from headers."""

from __future__ import annotations

import contextlib
from typing import Annotated

from fastapi import Depends, Header

from fairlead.errors import MalformedRequest
from fairlead.rollouts.traffic import Order

__all__ = ["Expected", "Key", "Who", "order"]

_LONGEST_KEY = 200


def _who(
    x_fairlead_user: Annotated[
        str, Header(max_length=100, description="Who asks; it stands in histories and in the audit log.")
    ] = "anonymous",
) -> str:
    # Header values come as Latin-1, and people's names as UTF-8.
    with contextlib.suppress(UnicodeDecodeError):
        x_fairlead_user = x_fairlead_user.encode("latin-1").decode("utf-8")
    return x_fairlead_user.strip() or "anonymous"


def _expected(
    if_match: Annotated[
        str | None,
        Header(description="The generation the command was decided on; 0 is no traffic yet, `*` is any."),
    ] = None,
) -> int | None:
    if if_match is None or if_match.strip() == "*":
        return None
    text = if_match.strip().removeprefix("W/").strip('"')
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise MalformedRequest(
            f"If-Match {if_match!r} is no generation.", remedy='Send the number, as in If-Match: "3".'
        )
    return int(text)


def _key(
    idempotency_key: Annotated[
        str | None,
        Header(
            max_length=_LONGEST_KEY,
            description="A name that the caller makes for this one command: sent again under the same key, "
            "it is not carried out again and gets the first answer.",
        ),
    ] = None,
) -> str | None:
    return idempotency_key or None


Who = Annotated[str, Depends(_who)]
Expected = Annotated[int | None, Depends(_expected)]
Key = Annotated[str | None, Depends(_key)]


def order(who: str, why: str, expected: int | None, key: str | None, override: str = "") -> Order:
    """The order that a command of traffic is given with."""
    return Order(who=who, why=why, expected=expected, key=key, override=override.strip())
