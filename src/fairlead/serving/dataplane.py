"""The data plane: `infer()` is the whole walk of a prediction, and every protocol enters there.

The walk stops at two gates (`turns.py`): where light models run the rows of one turn of the event loop as one
batch, and where their records go to the log in one write. A lone request passes both at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping

from fairlead.contracts.fingerprint import encode_row, feature_hash
from fairlead.errors import (
    Cancelled,
    CircuitOpen,
    DeadlineExceeded,
    FairleadError,
    MalformedRequest,
    ModelNotFound,
    Overloaded,
    RuntimeFailed,
)
from fairlead.serving.answers import batch_envelope, envelope
from fairlead.serving.asks import Ask, BatchAsk
from fairlead.serving.cache import PredictionCache
from fairlead.serving.envelope import BatchEnvelope, Envelope
from fairlead.serving.journal import Journal
from fairlead.serving.ladder import Ladder, is_fault
from fairlead.serving.live import LiveArm, LiveModel, LoadedVersion
from fairlead.serving.recording import record_frame
from fairlead.serving.shared import SharedCache
from fairlead.serving.turns import Turns

__all__ = ["FULL", "DataPlane"]

logger = logging.getLogger(__name__)

FULL = "The gateway is full: the answer would come too late."


class DataPlane:
    """Answers predictions from the models it holds. One per gateway worker, used from its loop alone.

    `shared`, where there is one, is asked after `cache`. A turn of the loop takes on no more than what
    `max_turn` seconds allow.
    """

    def __init__(
        self,
        journal: Journal,
        cache: PredictionCache,
        gateway: str,
        shared: SharedCache | None = None,
        *,
        max_turn: float = 0.05,
    ) -> None:
        self.models: Mapping[str, LiveModel] = {}
        self.journal = journal
        self.cache = cache
        self.gateway = gateway
        self.shared = shared
        self.draining = False
        self.turns = Turns(self._run_gathered, journal.write)
        self.ladder = Ladder(cache, self._run)
        self._max_turn = max_turn
        self._gathered: dict[LoadedVersion, list[Ask]] = {}

    def model(self, name: str) -> LiveModel:
        """The live model; raises `ModelNotFound`, or `NotReady` while nothing has been loaded yet."""
        found = self.models.get(name)
        if found is None:
            raise ModelNotFound(
                f"No model {name!r} takes traffic here.",
                remedy="See GET /v1/models; register a version and deploy it.",
            )
        return found

    def admit(self, model: LiveModel, received: float, deadline: float | None, since: float = 0.0) -> None:
        """Raises `Overloaded` when this gateway cannot answer one more request in time.

        To be asked before anything is spent on the request.
        """
        if not self.has_room(model, received, deadline, since):
            raise Overloaded(FULL, remedy="Try again later, or add gateway workers.")

    def has_room(self, model: LiveModel, received: float, deadline: float | None, since: float = 0.0) -> bool:
        """Whether one more request, read at `received`, can be answered in time; counts it as shed if not.

        A turn reads for so long that it is over after `max_turn` seconds. A request may have lain unread for
        as long as the turn before took, but not from before `since`, and waits for the end of this turn.
        """
        turns = self.turns
        takes = turns.takes(received)
        if takes <= self._max_turn and (
            deadline is None or received + min(turns.waited(received), received - since) + takes <= deadline
        ):
            return True
        model.arms[0].counters.add("shed")
        return False

    async def infer(self, model: LiveModel, ask: Ask) -> tuple[Envelope, LiveArm]:
        """One prediction and the arm that gave it; it is in the log before this returns.

        Raises `DataContractViolation`, `VersionNotFound` and what the model raises; those are logged, too.
        """
        try:
            arm = ask.assigned = model.route(ask.unit)
            if ask.pin is not None:
                arm = model.pinned(ask.pin)
            ask.arm = arm
            ask.read(arm.compiled)
            self._look_up(ask, arm)
            if self.shared is not None and ask.key is not None and not ask.cached:
                await self._look_further(self.shared, ask.key, ask, arm)
            if ask.key is not None:
                arm.counters.looked_up(ask.cached)
            if ask.prediction is None:
                await self._try(ask, arm)
            if ask.error is not None:
                await self.ladder.stand_in(model, ask)
        except FairleadError as error:
            ask.error = error
        except asyncio.CancelledError:
            self._gone(model, ask)
            raise
        seconds = time.perf_counter() - ask.received
        ask.milliseconds = round(seconds * 1000, 3)
        commit, place = self.journal.add(record_frame(model, ask, self.gateway))
        await self.turns.written
        if commit.error is not None and place > commit.written:
            self._unlogged(ask, commit.error)
        if ask.arm is not None:
            ask.arm.counters.answered(ask.status, seconds)
        if ask.error is not None:
            raise ask.error
        assert ask.arm is not None
        return envelope(model, ask.arm, ask), ask.arm

    async def infer_batch(self, model: LiveModel, ask: BatchAsk) -> BatchEnvelope:
        """A batch, row by row in its order. Rows of one arm run together; a bad row fails alone.

        A batch uses the cache in process and not the shared one: a run of many rows costs less than as many
        look-ups elsewhere.

        Raises `DataContractViolation` when every row breaks the contract, `MalformedRequest` for an empty or
        over-long batch.
        """
        _require_size(model, len(ask.reading))
        rows = [ask.row(index) for index in range(len(ask.reading))]
        groups: dict[str, list[Ask]] = {}
        for row in rows:
            try:
                arm = row.assigned = model.route(row.unit)
                if row.pin is not None:
                    arm = model.pinned(row.pin)
                row.arm = arm
                row.read(arm.compiled)
                self._look_up(row, arm)
            except FairleadError as error:
                row.error = error
                continue
            if row.key is not None:
                arm.counters.looked_up(row.cached)
            if row.prediction is None:
                groups.setdefault(arm.name, []).append(row)
        for group in groups.values():
            await self._run_group(group)
            for row in group:
                if row.error is not None:
                    await self.ladder.stand_in(model, row)
        seconds = time.perf_counter() - ask.received
        for row in rows:
            row.milliseconds = round(seconds * 1000, 3)
        self._log_batch(model, rows)
        for row in rows:
            if row.arm is not None:
                row.arm.counters.answered(row.status, seconds)
        return batch_envelope(model, ask, rows, seconds)

    # --- the steps ------------------------------------------------------------------------------------------

    def _look_up(self, ask: Ask, arm: LiveArm) -> None:
        """Hashes the row, and takes the prediction from the cache when the arm's version allows it."""
        encoded = ask.encoded = encode_row(ask.row)
        ask.hash = feature_hash(arm.compiled.id, encoded)
        if arm.cache_seconds > 0:
            ask.key = self.cache.key(arm.cache_secret, encoded)
            ask.prediction = self.cache.get(ask.key, time.monotonic())
            ask.cached = ask.prediction is not None

    async def _look_further(self, shared: SharedCache, key: bytes, ask: Ask, arm: LiveArm) -> None:
        """Takes the prediction from the shared cache, and keeps it here for the time that it has left."""
        found = await shared.get(key)
        if found is not None:
            ask.prediction, left = found
            ask.cached = True
            self.cache.put(key, ask.prediction, time.monotonic(), min(left, arm.cache_seconds))
            arm.counters.add("cache_shared_hits")

    async def _try(self, ask: Ask, arm: LiveArm) -> None:
        """Runs the version; what it raises becomes the ask's error, for which something may stand in."""
        try:
            await self._run(ask, arm)
        except FairleadError as error:
            ask.error = error

    async def _run(self, ask: Ask, arm: LiveArm) -> None:
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
        self._observe(ask, arm, now)
        if ask.key is not None and ask.prediction is not None:
            self._keep(ask, arm, now)

    def _observe(self, ask: Ask, arm: LiveArm, now: float) -> None:
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

    def _keep(self, ask: Ask, arm: LiveArm, now: float) -> None:
        assert ask.key is not None
        assert ask.prediction is not None
        self.cache.put(ask.key, ask.prediction, now, arm.cache_seconds)
        if self.shared is not None:
            self.shared.put(ask.key, ask.prediction, arm.cache_seconds)

    def _run_gathered(self) -> None:
        """Runs the rows of this turn, those of each light version together. Never raises."""
        gathered, self._gathered = self._gathered, {}
        for version, asks in gathered.items():
            limit = version.spec.settings.max_batch_rows
            asks = _in_time(asks)
            for start in range(0, len(asks), limit):
                self._run_inline(version, asks[start : start + limit])

    def _run_inline(self, version: LoadedVersion, asks: list[Ask]) -> None:
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
                    self._run_inline(version, [ask])
                return
            for ask in asks:
                ask.error = _as_fairlead(error, version)
            return
        arm = asks[0].arm
        if arm is not None:
            arm.counters.ran(len(asks), time.perf_counter() - started)
        for ask, prediction in zip(asks, predictions, strict=True):
            ask.prediction = prediction

    async def _run_group(self, group: list[Ask]) -> None:
        """Runs the rows of one arm together; when that fails, each alone, so that one bad row fails alone."""
        arm = group[0].arm
        assert arm is not None
        breaker = arm.version.breaker
        if breaker.failures and not breaker.allows(time.monotonic()):
            for ask in group:
                ask.error = _left_alone(arm)
            return
        if arm.version.engine.inline:
            self._run_inline(arm.version, group)
        else:
            await self._submit_group(arm.version, group)
        now = time.monotonic()
        for ask in group:
            self._observe(ask, arm, now)
            if ask.key is not None and ask.prediction is not None:
                self.cache.put(ask.key, ask.prediction, now, arm.cache_seconds)

    async def _submit_group(self, version: LoadedVersion, group: list[Ask]) -> None:
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

    def _log_batch(self, model: LiveModel, rows: list[Ask]) -> None:
        """Writes the rows' records. A log that takes none refuses the request, or lets it pass unlogged."""
        arm = rows[0].arm
        try:
            unlogged = self.journal.write_now([record_frame(model, row, self.gateway) for row in rows])
        except FairleadError:
            if arm is not None:
                arm.counters.add("shed", len(rows))
            raise
        if unlogged and arm is not None:
            arm.counters.add("unlogged", unlogged)

    def _gone(self, model: LiveModel, ask: Ask) -> None:
        """The caller went away: the row is counted and logged, and nobody waits for that."""
        ask.error = Cancelled("The caller went away.")
        ask.milliseconds = round((time.perf_counter() - ask.received) * 1000, 3)
        self.journal.add(record_frame(model, ask, self.gateway))
        self.turns.schedule()
        if ask.arm is not None:
            ask.arm.counters.add("cancelled")

    def _unlogged(self, ask: Ask, error: FairleadError) -> None:
        """A log that does not take the record refuses the request, or lets it pass unlogged."""
        if ask.arm is not None:
            ask.arm.counters.add("shed" if self.journal.sheds else "unlogged")
        if self.journal.sheds:
            raise error


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
    return CircuitOpen(
        f"Version {arm.version_name!r} failed {arm.version.breaker.failures} times in a row: it is left alone.",
        remedy="Try again in a moment; the version's errors are in the prediction log.",
    )


def _as_fairlead(error: Exception, version: LoadedVersion) -> FairleadError:
    if isinstance(error, FairleadError):
        return error
    logger.error("version %s of %s failed", version.spec.version, version.spec.model, exc_info=error)
    return RuntimeFailed("Something failed inside the gateway.")


def _require_size(model: LiveModel, rows: int) -> None:
    limit = min(arm.version.spec.settings.max_batch_rows for arm in model.arms)
    if rows == 0:
        raise MalformedRequest("The batch has no instances.", remedy="Send at least one.")
    if rows > limit:
        raise MalformedRequest(
            f"The batch has {rows} instances; {limit} are allowed.",
            remedy="Send smaller batches, or raise max_batch_rows of the model.",
        )
