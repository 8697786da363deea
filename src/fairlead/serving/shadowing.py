"""Copies of answered rows for shadow versions, run while the gateway has nothing else to do.

A row is offered once its record is written, and only kept then. It runs after a whole pass of the loop in
which no request came, in a part of the time that requests leave free: so the answers before it have left, and
under load copies are dropped first. Light versions run a few rows in such a pass, heavy ones get a few at a
time by their batcher. Whatever becomes of a copy stays here: counters, log, and the breaker of the shadow's
own version.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque

from fairlead.contracts.fingerprint import encode_row, feature_hash
from fairlead.errors import CircuitOpen, FairleadError, Overloaded
from fairlead.predictions.sameness import is_same
from fairlead.routing.assign import mirror_slot_of
from fairlead.routing.plan import SLOTS
from fairlead.serving.asks import Ask, new_prediction_id
from fairlead.serving.journal import Journal
from fairlead.serving.ladder import is_fault
from fairlead.serving.live import LiveArm, LiveModel
from fairlead.serving.recording import record_frame
from fairlead.serving.running import Runs

__all__ = ["MOST_ROWS", "Shadowing"]

logger = logging.getLogger(__name__)

MOST_ROWS = 256
"""So many rows wait for a shadow, and take so many bytes; what comes beyond that is dropped."""
_MOST_BYTES = 16 * 2**20
_SHARE = 0.1
"""Of the time that requests leave free, copies take at most this part. A request that comes while copies run
waits for them: on average a twentieth of a run, however busy the gateway is."""
_LEAST_FREE = 0.02
"""With less of its time free, a gateway runs no copies."""
_RUN_SECONDS = 0.0004
"""A run has as many rows as fit into this."""
_ROOMY_SECONDS = 0.7 * _RUN_SECONDS
_MOST_AT_ONCE = 64
_ELSEWHERE_AT_ONCE = 16
_COMPANY_SECONDS = 0.02
"""Rows are run when there are as many as fit, or the first has waited for so long."""
_PAUSE_SECONDS = 0.001
_BUSY_SECONDS = 0.05
_WINDOW_SECONDS = 0.02
_MEMORY_SECONDS = 0.1


class _Line:
    """The rows that wait for one shadow."""

    __slots__ = ("arm", "asks", "bytes", "model", "rows", "since", "task")

    def __init__(self, model: LiveModel, arm: LiveArm) -> None:
        self.model = model
        self.arm = arm
        self.asks: deque[Ask] = deque()
        self.bytes = 0
        self.rows = 4
        """How many run at once."""
        self.since = 0.0
        self.task: asyncio.Task[None] | None = None
        """The run under way in a model worker."""

    def is_ready(self, now: float) -> bool:
        """Whether rows should run."""
        asks = self.asks
        return bool(
            asks and self.task is None and (len(asks) >= self.rows or now - self.since >= _COMPANY_SECONDS)
        )

    def take(self) -> list[Ask]:
        """The rows that run next."""
        taken = [self.asks.popleft() for _ in range(min(self.rows, len(self.asks)))]
        self.bytes -= sum(len(ask.encoded or b"") for ask in taken)
        return taken

    def adapt(self, ran: int, seconds: float) -> None:
        """Has so many rows run at once as fit into the time that a request may wait for them."""
        if seconds > _RUN_SECONDS:
            self.rows = max(1, self.rows // 2)
        elif ran == self.rows and seconds < _ROOMY_SECONDS:
            self.rows = min(_MOST_AT_ONCE, 2 * self.rows)


class _Load:
    """How much of its time this thread has computed lately, copies apart."""

    __slots__ = ("_at", "_busy", "_used", "spent")

    def __init__(self) -> None:
        self._at = time.perf_counter()
        self._used = time.thread_time()
        self._busy = 0.0
        self.spent = 0.0
        """Seconds that went to copies since this was looked at."""

    def free(self, now: float) -> float:
        """The part of the time that was free."""
        elapsed = now - self._at
        if elapsed >= _WINDOW_SECONDS:
            used = time.thread_time()
            busy = (used - self._used - self.spent) / elapsed
            self._busy += min(1.0, elapsed / _MEMORY_SECONDS) * (busy - self._busy)
            self._at, self._used, self.spent = now, used, 0.0
        return max(_LEAST_FREE / 2, 1.0 - self._busy)


class Shadowing:
    """Gives shadows their copies. Use from the gateway's event loop alone."""

    def __init__(self, runs: Runs, journal: Journal, gateway: str) -> None:
        self._runs = runs
        self._turns = runs.turns
        self._journal = journal
        self._gateway = gateway
        self._lines: dict[LiveArm, _Line] = {}
        self._looking = False
        self._alarm: asyncio.TimerHandle | None = None
        self._seen = -1
        self._rest_until = 0.0
        self._load = _Load()

    @property
    def waiting(self) -> int:
        """How many rows wait, or are with a model worker."""
        return sum(len(line.asks) + (line.task is not None) for line in self._lines.values())

    def offer(self, model: LiveModel, ask: Ask) -> None:
        """A row that was answered, or that its version failed on: the shadows whose part it is get a copy.

        Never raises, and runs nothing now.
        """
        if ask.pin is not None or ask.encoded is None or (ask.error is not None and not is_fault(ask.error)):
            return
        slot = -1
        for arm in model.shadows:
            if arm.mirror_slots < SLOTS:
                if slot < 0:
                    slot = mirror_slot_of(model.salt, ask.unit)
                if slot >= arm.mirror_slots:
                    continue
            self._take(model, arm, ask, len(ask.encoded))

    def _take(self, model: LiveModel, arm: LiveArm, ask: Ask, size: int) -> None:
        line = self._lines.get(arm)
        if line is None:
            line = self._lines[arm] = _Line(model, arm)
        asks = line.asks
        if len(asks) >= MOST_ROWS or (asks and line.bytes + size > _MOST_BYTES):
            arm.counters.add("shadow_dropped")
            return
        if not asks:
            line.since = time.perf_counter()
        asks.append(ask)
        line.bytes += size
        if not self._looking:
            if len(asks) >= line.rows and line.task is None:
                self._begin()
            elif self._alarm is None:
                self._set_alarm()

    # --- when -----------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Has rows run soon. The alarm is over, or not waited for."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if not self._looking:
            self._looking = True
            self._again(0.0)

    def _set_alarm(self) -> None:
        self._alarm = asyncio.get_running_loop().call_later(_COMPANY_SECONDS, self._begin)

    def _again(self, seconds: float) -> None:
        asyncio.get_running_loop().call_later(max(_PAUSE_SECONDS, seconds), self._look)

    def _look(self) -> None:
        """Has rows run after the next pass without a request, if it is time for that."""
        now = time.perf_counter()
        line = next((line for line in self._lines.values() if line.is_ready(now)), None)
        if line is None:
            self._looking = False
            if any(held.asks and held.task is None for held in self._lines.values()):
                self._set_alarm()
        elif now < self._rest_until:
            self._again(self._rest_until - now)
        elif self._load.free(now) < _LEAST_FREE:
            self._again(_BUSY_SECONDS)
        else:
            self._seen = -1
            self._act(line)

    def _act(self, line: _Line) -> None:
        turns = self._turns
        if turns.scheduled or turns.ended != self._seen:
            self._seen = turns.ended
            asyncio.get_running_loop().call_soon(self._act, line)
            return
        began = time.perf_counter()
        try:
            self._run(line)
        except Exception:
            logger.exception("copies for %s %s failed", line.model.name, line.arm.version_name)
            self._drop(line)
        ended = time.perf_counter()
        self._rest(began, ended)
        self._put_last(line)
        self._again(self._rest_until - ended)

    def _rest(self, began: float, ended: float) -> None:
        """Copies have taken that time: none run until it is the part of the free time that they may have."""
        self._load.spent += ended - began
        rest = (ended - began) / (_SHARE * self._load.free(ended))
        self._rest_until = max(self._rest_until, ended + rest)

    def _put_last(self, line: _Line) -> None:
        """Another shadow's rows come first now; a line in which nothing waits goes."""
        self._lines.pop(line.arm, None)
        if line.asks or line.task is not None:
            line.since = time.perf_counter()
            self._lines[line.arm] = line

    # --- running --------------------------------------------------------------------------------------------

    def _run(self, line: _Line) -> None:
        arm = line.arm
        version = arm.version
        if not version.resident:
            # A copy is no reason to load a model, for which another might have to leave.
            self._drop(line)
            return
        if version.breaker.failures and not version.breaker.allows(time.monotonic()):
            self._drop(line)
            return
        began = time.perf_counter()
        asks = line.take()
        copies = [_copy(ask, arm) for ask in asks]
        good = [copy for copy in copies if copy.error is None]
        if good and not version.engine.inline:
            line.rows = _ELSEWHERE_AT_ONCE
            running = self._run_elsewhere(line, asks, copies, good)
            line.task = asyncio.get_running_loop().create_task(running)
            return
        ran = time.perf_counter()
        if good:
            self._runs.run_inline(version, good)
        ended = time.perf_counter()
        self._settle(line, asks, copies, ended - ran)
        line.adapt(len(asks), time.perf_counter() - began)

    async def _run_elsewhere(self, line: _Line, asks: list[Ask], copies: list[Ask], good: list[Ask]) -> None:
        began = time.perf_counter()
        try:
            await self._runs.submit_group(line.arm.version, good)
            ended = time.perf_counter()
            self._settle(line, asks, copies, ended - began)
            self._rest(ended, time.perf_counter())
        except Exception:
            logger.exception("copies for %s %s failed", line.model.name, line.arm.version_name)
        finally:
            line.task = None
            if line.asks:
                self._begin()
            else:
                self._lines.pop(line.arm, None)

    def _settle(self, line: _Line, asks: list[Ask], copies: list[Ask], seconds: float) -> None:
        """Counts and logs what became of copies, and how they compare with what was answered."""
        arm = line.arm
        counters = arm.counters
        same = different = dropped = 0
        frames: list[bytes] = []
        now = time.monotonic()
        for ask, copy in zip(asks, copies, strict=True):
            self._runs.observe(copy, arm, now)
            if isinstance(copy.error, Overloaded | CircuitOpen):
                dropped += 1
                continue
            copy.milliseconds = round(seconds * 1000, 3)
            counters.answered(copy.status, seconds)
            if copy.prediction is not None and ask.prediction is not None and ask.degraded is None:
                if is_same(ask.prediction.value, copy.prediction.value):
                    same += 1
                else:
                    different += 1
            frames.append(record_frame(line.model, copy, self._gateway))
        for cell, amount in (("same", same), ("different", different), ("dropped", dropped)):
            if amount:
                counters.add(f"shadow_{cell}", amount)
        if frames:
            self._log(arm, frames)

    def _log(self, arm: LiveArm, frames: list[bytes]) -> None:
        try:
            unlogged = self._journal.write_now(frames)
        except FairleadError as error:
            unlogged = len(frames) - int(error.details.get("written", 0))
        if unlogged:
            arm.counters.add("unlogged", unlogged)

    def _drop(self, line: _Line) -> None:
        line.arm.counters.add("shadow_dropped", len(line.asks))
        line.asks.clear()
        line.bytes = 0


def _copy(ask: Ask, arm: LiveArm) -> Ask:
    """The row for that shadow: as it was read if both have the same contract, else read again by its own."""
    copy = Ask(
        ask.reading, ask.received, new_prediction_id(), ask.request_id, False, ask.unit, ask.unit_kind,
        use_case=ask.use_case, trace_id=ask.trace_id, index=ask.index, assigned=arm, arm=arm,
    )  # fmt: skip
    if ask.arm is not None and ask.arm.compiled is arm.compiled:
        copy.row, copy.findings, copy.encoded, copy.hash = ask.row, ask.findings, ask.encoded, ask.hash
        return copy
    try:
        copy.read(arm.compiled)
    except FairleadError as error:
        copy.error = error.with_traceback(None)
        return copy
    copy.encoded = encode_row(copy.row)
    copy.hash = feature_hash(arm.compiled.id, copy.encoded)
    return copy
