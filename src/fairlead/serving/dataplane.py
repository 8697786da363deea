"""The data plane: `infer()` is the whole walk of a prediction, and every protocol enters there.

When nothing has to wait (a light model inline) the coroutine runs to its end without ever being suspended, so
that a protocol can drive it inside the callback that received the bytes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from fairlead.contracts.fingerprint import encode_row, feature_hash
from fairlead.errors import (
    FairleadError,
    MalformedRequest,
    ModelNotFound,
    Overloaded,
    RuntimeFailed,
)
from fairlead.runtimes.binding import Prediction
from fairlead.serving.answers import batch_envelope, envelope, records
from fairlead.serving.asks import Ask, BatchAsk, RowState, new_prediction_id, unit_of
from fairlead.serving.cache import PredictionCache
from fairlead.serving.envelope import BatchEnvelope, Envelope
from fairlead.serving.journal import Journal
from fairlead.serving.live import LiveArm, LiveModel
from fairlead.serving.shared import SharedCache

__all__ = ["DataPlane"]


class DataPlane:
    """Answers predictions from the models it holds. One per gateway worker, used from its loop alone.

    `shared`, where there is one, is asked after `cache`.
    """

    def __init__(
        self, journal: Journal, cache: PredictionCache, gateway: str, shared: SharedCache | None = None
    ) -> None:
        self.models: Mapping[str, LiveModel] = {}
        self.journal = journal
        self.cache = cache
        self.gateway = gateway
        self.shared = shared
        self.draining = False

    def model(self, name: str) -> LiveModel:
        """The live model; raises `ModelNotFound`, or `NotReady` while nothing has been loaded yet."""
        found = self.models.get(name)
        if found is None:
            raise ModelNotFound(
                f"No model {name!r} takes traffic here.",
                remedy="See GET /v1/models; register a version and deploy it.",
            )
        return found

    async def infer(self, model: LiveModel, ask: Ask) -> tuple[Envelope, LiveArm]:
        """One prediction and the arm that gave it; it is in the log before this returns.

        Raises `DataContractViolation`, `VersionNotFound` and what the model raises; those are logged, too.
        """
        state = RowState(ask.unit, ask.unit_kind, ask.prediction_id)
        try:
            arm = state.assigned = model.route(ask.unit)
            if ask.pin is not None:
                arm = model.pinned(ask.pin)
            state.arm = arm
            state.row, state.findings = ask.reading.row(arm.compiled)
            self._look_up(state, arm)
            if self.shared is not None and state.key is not None and not state.cached:
                await self._look_further(self.shared, state.key, state, arm)
            if state.key is not None:
                arm.counters.looked_up(state.cached)
            if state.prediction is None:
                state.prediction = await self._run(state, arm)
        except FairleadError as error:
            state.error = error
        seconds = time.perf_counter() - ask.received
        self._log(model, ask, [state], seconds)
        self._count(state, seconds)
        if state.error is not None:
            raise state.error
        return envelope(model, arm, ask, state, seconds), arm

    async def infer_batch(self, model: LiveModel, ask: BatchAsk) -> BatchEnvelope:
        """A batch, row by row in its order. Rows of one arm run together; a bad row fails alone.

        A batch uses the cache in process and not the shared one: a run of many rows costs less than as many
        look-ups elsewhere.

        Raises `DataContractViolation` when every row breaks the contract, `MalformedRequest` for an empty or
        over-long batch.
        """
        _require_size(model, len(ask.reading))
        states = [self._route_row(model, ask, index) for index in range(len(ask.reading))]
        groups: dict[str, list[RowState]] = {}
        for index, state in enumerate(states):
            arm = state.arm
            if arm is None:
                continue
            try:
                state.row, state.findings = ask.reading.row(index, arm.compiled)
                self._look_up(state, arm)
            except FairleadError as error:
                state.error = error
                continue
            if state.key is not None:
                arm.counters.looked_up(state.cached)
            if state.prediction is None:
                groups.setdefault(arm.name, []).append(state)
        for group in groups.values():
            await self._run_group(group)
        seconds = time.perf_counter() - ask.received
        self._log(model, ask, states, seconds)
        for state in states:
            self._count(state, seconds)
        return batch_envelope(model, ask, states, seconds)

    # --- the steps ------------------------------------------------------------------------------------------

    def _route_row(self, model: LiveModel, ask: BatchAsk, index: int) -> RowState:
        unit, kind = unit_of(ask.reading.units[index] or ask.unit, None, ask.request_id)
        state = RowState(unit, kind, new_prediction_id())
        try:
            state.assigned = model.route(unit)
            state.arm = state.assigned if ask.pin is None else model.pinned(ask.pin)
        except FairleadError as error:
            state.error = error
        return state

    def _look_up(self, state: RowState, arm: LiveArm) -> None:
        """Hashes the row, and takes the prediction from the cache when the arm's version allows it."""
        encoded = state.encoded = encode_row(state.row)
        state.hash = feature_hash(arm.compiled.id, encoded)
        if arm.cache_seconds > 0:
            state.key = self.cache.key(arm.cache_secret, encoded)
            state.prediction = self.cache.get(state.key, time.monotonic())
            state.cached = state.prediction is not None

    async def _look_further(self, shared: SharedCache, key: bytes, state: RowState, arm: LiveArm) -> None:
        """Takes the prediction from the shared cache, and keeps it here for the time that it has left."""
        found = await shared.get(key)
        if found is not None:
            state.prediction, left = found
            state.cached = True
            self.cache.put(key, state.prediction, time.monotonic(), min(left, arm.cache_seconds))
            arm.counters.add("cache_shared_hits")

    async def _run(self, state: RowState, arm: LiveArm) -> Prediction:
        version = arm.version
        if version.engine.inline:
            started = time.perf_counter()
            outputs = version.engine.run_now(version.binding.encode([state.row]))
            prediction = version.binding.decode(outputs, 1)[0]
            arm.counters.ran(1, time.perf_counter() - started)
        else:
            prediction = await version.batcher.predict(state.row, state.key)
        if state.key is not None:
            self.cache.put(state.key, prediction, time.monotonic(), arm.cache_seconds)
            if self.shared is not None:
                self.shared.put(state.key, prediction, arm.cache_seconds)
        return prediction

    async def _run_group(self, group: list[RowState]) -> None:
        """Runs the rows of one arm together; when that fails, each alone, so that one bad row fails alone."""
        arm = group[0].arm
        assert arm is not None
        version = arm.version
        started = time.perf_counter()
        try:
            feed = version.binding.encode([state.row for state in group])
            if version.engine.inline:
                outputs = version.engine.run_now(feed)
            else:
                timeout = version.spec.settings.timeout_ms / 1000
                outputs = await version.engine.submit(feed, len(group), timeout)
            predictions = version.binding.decode(outputs, len(group))
        except FairleadError as error:
            if len(group) == 1 or not isinstance(error, RuntimeFailed):
                for state in group:
                    state.error = error
            else:
                for state in group:
                    await self._run_group([state])
            return
        arm.counters.ran(len(group), time.perf_counter() - started)
        now = time.monotonic()
        for state, prediction in zip(group, predictions, strict=True):
            state.prediction = prediction
            if state.key is not None:
                self.cache.put(state.key, prediction, now, arm.cache_seconds)

    def _count(self, state: RowState, seconds: float) -> None:
        if state.arm is not None:
            state.arm.counters.answered(state.status, seconds)

    def _log(self, model: LiveModel, ask: Ask | BatchAsk, states: list[RowState], seconds: float) -> None:
        """Writes the rows' records. A log that takes none refuses the request, or lets it pass unlogged."""
        arm = states[0].arm
        made = records(model, ask, states, seconds, self.gateway)
        try:
            unlogged = self.journal.predictions(made)
        except Overloaded:
            if arm is not None:
                arm.counters.add("shed", len(made))
            raise
        if unlogged and arm is not None:
            arm.counters.add("unlogged", unlogged)


def _require_size(model: LiveModel, rows: int) -> None:
    limit = min(arm.version.spec.settings.max_batch_rows for arm in model.arms)
    if rows == 0:
        raise MalformedRequest("The batch has no instances.", remedy="Send at least one.")
    if rows > limit:
        raise MalformedRequest(
            f"The batch has {rows} instances; {limit} are allowed.",
            remedy="Send smaller batches, or raise max_batch_rows of the model.",
        )
