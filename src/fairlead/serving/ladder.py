"""What stands in when a version cannot answer: first an old answer, then another version, then a default.

Each rung is there only where somebody asked for it: `stale_seconds` and `fallback_version` in the model's
settings, `default` in the contract's output. Every answer from here says so in `degraded`, and the version
that failed is charged with the fault whoever answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fairlead.contracts.fingerprint import encode_row, feature_hash
from fairlead.errors import (
    CircuitOpen,
    DeadlineExceeded,
    FairleadError,
    NotReady,
    Overloaded,
    RuntimeFailed,
)
from fairlead.predictions.record import Degraded
from fairlead.serving.asks import Ask
from fairlead.serving.caches import Caches
from fairlead.serving.live import LiveArm, LiveModel

__all__ = ["FAULTS", "Ladder", "is_fault"]

FAULTS = (RuntimeFailed, DeadlineExceeded, NotReady, Overloaded, CircuitOpen)
"""Errors that are the version's, not the caller's."""

_BROKEN = (RuntimeFailed, DeadlineExceeded, NotReady)


def is_fault(error: FairleadError) -> bool:
    """Whether the error says that the version is broken, so that its breaker counts it."""
    return isinstance(error, _BROKEN)


class Ladder:
    """Finds an answer for a row whose version failed. `run` asks a version for a row's prediction."""

    def __init__(self, caches: Caches, run: Callable[[Ask, LiveArm], Awaitable[None]]) -> None:
        self._caches = caches
        self._run = run

    async def stand_in(self, model: LiveModel, ask: Ask) -> None:
        """Sets prediction and `degraded`, and makes the error the `cause`; or leaves the error."""
        arm, error = ask.arm, ask.error
        if arm is None or not isinstance(error, FAULTS):
            return
        arm.counters.add("faults")
        prediction, how, by = self._caches.stale(ask, arm), "stale_cache", arm
        if prediction is None:
            fallback = await self._another(model, ask, arm)
            if fallback is not None:
                prediction, how, by = ask.prediction, "fallback_version", fallback
            elif arm.default is not None:
                prediction, how = arm.default, "contract_default"
        if prediction is not None:
            stood: Degraded = how  # type: ignore[assignment]  # one of the three above
            ask.prediction, ask.degraded, ask.arm = prediction, stood, by
            ask.cause, ask.error = error, None
            arm.counters.add(stood)

    async def _another(self, model: LiveModel, ask: Ask, arm: LiveArm) -> LiveArm | None:
        """The fallback that has answered; None when there is none, it fails too, or a version was pinned."""
        other = model.fallback_of(arm)
        if other is None or ask.pin is not None:
            return None
        kept = ask.row, ask.findings, ask.encoded, ask.hash, ask.key
        try:
            ask.read(other.compiled)
            ask.encoded = encode_row(ask.row)
            ask.hash = feature_hash(other.compiled.id, ask.encoded)
            ask.key, ask.arm, ask.error = None, other, None
            await self._run(ask, other)
            failed: FairleadError | None = ask.error
        except FairleadError as error:
            failed = error
        except asyncio.CancelledError:
            ask.arm = arm
            raise
        if failed is None:
            return other
        ask.row, ask.findings, ask.encoded, ask.hash, ask.key = kept
        ask.arm = arm
        return None
