"""Who asks, for whom, and how long they wait: the same headers whatever the protocol."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from fairlead.errors import MalformedRequest
from fairlead.runtimes.base import Array
from fairlead.serving.live import LiveModel
from fairlead.serving.table_records import TableAsk

__all__ = ["Asked", "asked_by", "is_sendable", "picked", "require_sendable", "seconds_to_wait", "untyped_ask"]

_LONGEST = 128
_LONGEST_TIMEOUT_MS = 86_400_000.0
_TRACE = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-")


class Asked(NamedTuple):
    """`deadline` is on the monotonic clock, in seconds, as `received` is. `header` answers what else was
    sent, None for what is absent or empty."""

    received: float
    request_id: str | None = None
    unit: str | None = None
    pin: str | None = None
    use_case: str | None = None
    trace_id: str | None = None
    deadline: float | None = None
    header: Callable[[str], str | None] = lambda name: None


def picked(header: Callable[[str], str | None], names: Sequence[str]) -> dict[str, str] | None:
    """The headers of these names, which a model's rules read; None where they read none."""
    if not names:
        return None
    found = {name: header(name) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def asked_by(header: Callable[[str], str | None], received: float) -> Asked:
    """What the headers say; `header` answers None for one that is absent or empty.

    Raises `MalformedRequest` for a request id that may not come back in a header, and for a time to wait
    that is none.
    """
    request_id = header("x-request-id")
    if request_id is not None:
        require_sendable(request_id)
    use_case, trace = header("x-use-case"), header("traceparent")
    found = None if trace is None else _TRACE.match(trace)
    timeout = header("x-timeout-ms")
    return Asked(
        received=received,
        request_id=request_id,
        unit=header("x-unit"),
        pin=header("x-model-version"),
        use_case=None if use_case is None else use_case[:_LONGEST],
        trace_id=None if found is None else found[1],
        deadline=None if timeout is None else received + seconds_to_wait(timeout),
        header=header,
    )


def untyped_ask(model: LiveModel, tensors: Mapping[str, Array], asked: Asked, version: str = "") -> TableAsk:
    """The ask for values whose caller named no types; a version in the path wins over a header's."""
    ask = TableAsk(
        tensors,
        typed=False,
        received=asked.received,
        request_id=asked.request_id,
        unit=asked.unit,
        pin=version or asked.pin,
        use_case=asked.use_case,
        trace_id=asked.trace_id,
        deadline=asked.deadline,
    )
    ask.headers = picked(asked.header, model.headers)
    return ask


def is_sendable(text: str) -> bool:
    """Whether a request id may come back in a header: it must not smuggle one in."""
    return 0 < len(text) <= _LONGEST and text.isascii() and text.isprintable() and " " not in text


def require_sendable(request_id: str) -> None:
    """Raises `MalformedRequest` for a request id that may not come back in a header."""
    if not is_sendable(request_id):
        raise MalformedRequest(
            "The request id is not allowed.",
            remedy=f"Use 1 to {_LONGEST} visible ASCII characters without blanks.",
        )


def seconds_to_wait(timeout_ms: str) -> float:
    """What `X-Timeout-Ms` says, in seconds; `MalformedRequest` for no such number."""
    try:
        milliseconds = float(timeout_ms)
    except ValueError:
        milliseconds = 0.0
    if not 0 < milliseconds < _LONGEST_TIMEOUT_MS:
        raise MalformedRequest(
            f"X-Timeout-Ms is {timeout_ms[:40]!r}.",
            remedy="Send the milliseconds that you can wait, above 0 and below a day.",
        )
    return milliseconds / 1000
