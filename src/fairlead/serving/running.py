"""Where rows meet their version: light ones together in this thread, others through the version's batcher.

A version's breaker hears how each row fared, and keeps rows away from a version that only fails.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from fairlead.errors import CircuitOpen, DeadlineExceeded, FairleadError, RuntimeFailed
from fairlead.serving.asks import Ask
from fairlead.serving.caches import Caches
from fairlead.serving.ladder import is_fault
from fairlead.serving.live import LiveArm, LoadedVersion
from fairlead.serving.turns import Turns

__all__ = ["Runs"]

logger = logging.getLogger(__name__)


class Runs:
    """Asks versions for predictions, and keeps them in the caches. `write` ends each turn: see `Turns`."""

    def __init__(self, caches: Caches, write: Callable[[], None], max_turn: float) -> None:
        self._caches = caches
        self.turns = Turns(self.run_gathered, write, max_turn)
        self._gathered: dict[LoadedVersion, list[Ask]] = {}
        self._resting: list[Callable[[], None]] = []

    def at_rest(self, callback: Callable[[], None]) -> None:
        """Calls back, now or at the end of this turn's runs, when no row is on its way to a light model."""
        if self._gathered:
            self._resting.append(callback)
        else:
            callback()

    async def attempt(self, ask: Ask, arm: LiveArm) -> None:
        """Runs the version; what it raises becomes the ask's error, for which something may stand in."""
        try:
            await self.run(ask, arm)
        except FairleadError as error:
            ask.error = error

    async def run(self, ask: Ask, arm: LiveArm) -> None:
        """Sets the prediction and keeps it in the caches, or sets the error, or raises it."""
        version = arm.version
        breaker = version.breaker
        if breaker.failures and not breaker.allows(time.monotonic()):
            raise _left_alone(arm)
        try:
            await self._compute(ask, arm)
        except FairleadError as failure:
            ask.error = failure
        now = time.monotonic()
        self.observe(ask, arm, now)
        self._caches.keep(ask, arm)

    def observe(self, ask: Ask, arm: LiveArm, now: float) -> None:
        """Tells the version's breaker how the row fared."""
        breaker, error = arm.version.breaker, ask.error
        if error is None:
            if breaker.failures:
                breaker.succeeded()
        elif is_fault(error) and not (ask.deadline is not None and isinstance(error, DeadlineExceeded)):
            # A deadline that the caller chose says nothing about the version.
            breaker.failed(now)

    async def _compute(self, ask: Ask, arm: LiveArm) -> None:
        version = arm.version
        if version.engine.inline:
            gathered = self._gathered.get(version)
            if gathered is None:
                self._gathered[version] = [ask]
            else:
                gathered.append(ask)
            await self.turns.ran
        else:
            ask.prediction = await version.batcher.predict(ask.row, ask.key, ask.deadline, ask.priority)

    def run_gathered(self) -> None:
        """Runs the rows of this turn, those of each light version together. Never raises."""
        gathered, self._gathered = self._gathered, {}
        for version, asks in gathered.items():
            limit = version.spec.settings.max_batch_rows
            asks = _in_time(asks)
            for start in range(0, len(asks), limit):
                self.run_inline(version, asks[start : start + limit])
        if self._resting:
            resting, self._resting = self._resting, []
            for callback in resting:
                callback()

    def run_inline(self, version: LoadedVersion, asks: list[Ask]) -> None:
        """Runs rows in this thread; when that fails, each alone, so that one bad row fails alone."""
        started = time.perf_counter()
        try:
            outputs = version.engine.run_now(version.binding.encode([ask.row for ask in asks]))
            predictions = version.binding.decode(outputs, len(asks))
        except Exception as error:
            if len(asks) > 1 and not (
                isinstance(error, FairleadError) and not isinstance(error, RuntimeFailed)
            ):
                for ask in asks:
                    self.run_inline(version, [ask])
                return
            for ask in asks:
                ask.error = _as_fairlead(error, version)
            return
        arm = asks[0].arm
        if arm is not None:
            arm.counters.ran(len(asks), time.perf_counter() - started)
        for ask, prediction in zip(asks, predictions, strict=True):
            ask.prediction = prediction

    async def run_group(self, group: list[Ask]) -> None:
        """Runs the rows of one arm together; when that fails, each alone, so that one bad row fails alone."""
        arm = group[0].arm
        assert arm is not None
        breaker = arm.version.breaker
        if breaker.failures and not breaker.allows(time.monotonic()):
            for ask in group:
                ask.error = _left_alone(arm)
            return
        if arm.version.engine.inline:
            self.run_inline(arm.version, group)
        else:
            await self.submit_group(arm.version, group)
        now = time.monotonic()
        for ask in group:
            self.observe(ask, arm, now)
            self._caches.keep(ask, arm, far=False)

    async def submit_group(self, version: LoadedVersion, group: list[Ask]) -> None:
        """Runs rows together where the version's engine is; each has a prediction or an error afterwards."""
        first = group[0]
        rows = [ask.row for ask in group]
        try:
            answers = await version.batcher.submit_rows(rows, first.deadline, first.priority)
        except FairleadError as error:
            for ask in group:
                ask.error = error
            return
        for ask, answer in zip(group, answers, strict=True):
            if isinstance(answer, FairleadError):
                ask.error = answer
            else:
                ask.prediction = answer


def _in_time(asks: list[Ask]) -> list[Ask]:
    """The rows whose answers can still be there in time; the others are told so, and not run."""
    if all(ask.deadline is None for ask in asks):
        return asks
    now = time.perf_counter()
    for ask in asks:
        if ask.deadline is not None and ask.deadline < now:
            ask.error = DeadlineExceeded("The time that the caller gave was over before the model was asked.")
    return [ask for ask in asks if ask.error is None]


def _left_alone(arm: LiveArm) -> CircuitOpen:
    failures = arm.version.breaker.failures
    return CircuitOpen(
        f"Version {arm.version_name!r} failed {failures} times in a row; it is left alone.",
        remedy="Try again in a moment; the version's errors are in the prediction log.",
    )


def _as_fairlead(error: Exception, version: LoadedVersion) -> FairleadError:
    if isinstance(error, FairleadError):
        return error
    logger.error("version %s of %s failed", version.spec.version, version.spec.model, exc_info=error)
    return RuntimeFailed("Something failed inside the gateway.")
