"""The data plane: `infer()` is the whole walk of a prediction, and every protocol enters there.

When nothing has to wait (a light model inline) the coroutine runs to its end without ever being suspended, so
that a protocol can drive it inside the callback that received the bytes.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from fairlead.contracts.check import Finding
from fairlead.contracts.compile import BatchReading, Reading
from fairlead.contracts.fingerprint import encode_row, feature_hash
from fairlead.errors import (
    DataContractViolation,
    FairleadError,
    MalformedRequest,
    ModelNotFound,
    NotReady,
    Overloaded,
    RuntimeFailed,
)
from fairlead.predictions.record import PredictionRecord, Status, UnitKind
from fairlead.runtimes.binding import Prediction, Row
from fairlead.serving.cache import PredictionCache
from fairlead.serving.envelope import BatchEnvelope, Envelope, RowEnvelope, encode, flags_of
from fairlead.serving.journal import Journal
from fairlead.serving.live import LiveArm, LiveModel
from fairlead.serving.shared import SharedCache

__all__ = ["Ask", "BatchAsk", "DataPlane"]

_NIL = msgspec.Raw(msgspec.msgpack.encode(None))


class Ask:
    """One prediction that somebody wants, whatever the protocol: the reading, who asks, and for whom."""

    __slots__ = (
        "pin", "prediction_id", "reading", "received", "request_id", "trace_id", "unit", "unit_kind",
        "use_case",
    )  # fmt: skip

    def __init__(
        self,
        reading: Reading,
        *,
        received: float,
        request_id: str | None = None,
        unit: str | None = None,
        pin: str | None = None,
        use_case: str | None = None,
        trace_id: str | None = None,
    ) -> None:
        self.reading = reading
        self.received = received
        self.prediction_id = new_prediction_id()
        self.request_id = reading.request_id or request_id or id_text(self.prediction_id)
        self.unit, self.unit_kind = unit_of(reading.unit or unit, reading.entity, self.request_id)
        self.pin = pin
        self.use_case = use_case
        self.trace_id = trace_id


class BatchAsk:
    """A batch that somebody wants. Rows without a unit are routed together, by the request id."""

    __slots__ = ("pin", "reading", "received", "request_id", "trace_id", "unit", "use_case")

    def __init__(
        self,
        reading: BatchReading,
        *,
        received: float,
        request_id: str | None = None,
        unit: str | None = None,
        pin: str | None = None,
        use_case: str | None = None,
        trace_id: str | None = None,
    ) -> None:
        self.reading = reading
        self.received = received
        self.request_id = reading.request_id or request_id or id_text(new_prediction_id())
        self.unit = unit
        self.pin = pin
        self.use_case = use_case
        self.trace_id = trace_id


class _RowState:
    """One row on its way: filled in step by step, then turned into its record and its envelope."""

    __slots__ = (
        "arm", "cached", "encoded", "error", "findings", "hash", "key", "prediction", "prediction_id", "row",
        "unit", "unit_kind",
    )  # fmt: skip

    def __init__(self, arm: LiveArm | None, unit: str, unit_kind: UnitKind, prediction_id: bytes) -> None:
        self.arm = arm
        self.unit = unit
        self.unit_kind = unit_kind
        self.prediction_id = prediction_id
        self.row: Row = ()
        self.findings: list[Finding] = []
        self.encoded: bytes | None = None
        self.hash: str | None = None
        self.key: bytes | None = None
        self.prediction: Prediction | None = None
        self.cached = False
        self.error: FairleadError | None = None


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
        state = _RowState(None, ask.unit, ask.unit_kind, ask.prediction_id)
        try:
            arm = state.arm = model.route(ask.unit) if ask.pin is None else model.pinned(ask.pin)
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
        return self._envelope(model, arm, ask, state, seconds), arm

    async def infer_batch(self, model: LiveModel, ask: BatchAsk) -> BatchEnvelope:
        """A batch, row by row in its order. Rows of one arm run together; a bad row fails alone.

        A batch uses the cache in process and not the shared one: a run of many rows costs less than as many
        look-ups elsewhere.

        Raises `DataContractViolation` when every row breaks the contract, `MalformedRequest` for an empty or
        over-long batch.
        """
        _require_size(model, len(ask.reading))
        states = [self._route_row(model, ask, index) for index in range(len(ask.reading))]
        groups: dict[str, list[_RowState]] = {}
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
        return self._batch_envelope(model, ask, states, seconds)

    # --- the steps ------------------------------------------------------------------------------------------

    def _route_row(self, model: LiveModel, ask: BatchAsk, index: int) -> _RowState:
        unit, kind = unit_of(ask.reading.units[index] or ask.unit, None, ask.request_id)
        state = _RowState(None, unit, kind, new_prediction_id())
        try:
            state.arm = model.route(unit) if ask.pin is None else model.pinned(ask.pin)
        except FairleadError as error:
            state.error = error
        return state

    def _look_up(self, state: _RowState, arm: LiveArm) -> None:
        """Hashes the row, and takes the prediction from the cache when the arm's version allows it."""
        encoded = state.encoded = encode_row(state.row)
        state.hash = feature_hash(arm.compiled.id, encoded)
        if arm.cache_seconds > 0:
            state.key = self.cache.key(arm.cache_secret, encoded)
            state.prediction = self.cache.get(state.key, time.monotonic())
            state.cached = state.prediction is not None

    async def _look_further(self, shared: SharedCache, key: bytes, state: _RowState, arm: LiveArm) -> None:
        """Takes the prediction from the shared cache, and keeps it here for the time that it has left."""
        found = await shared.get(key)
        if found is not None:
            state.prediction, left = found
            state.cached = True
            self.cache.put(key, state.prediction, time.monotonic(), min(left, arm.cache_seconds))
            arm.counters.add("cache_shared_hits")

    async def _run(self, state: _RowState, arm: LiveArm) -> Prediction:
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

    async def _run_group(self, group: list[_RowState]) -> None:
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

    def _count(self, state: _RowState, seconds: float) -> None:
        if state.arm is not None:
            state.arm.counters.answered(_status(state.error), seconds)

    def _envelope(
        self, model: LiveModel, arm: LiveArm, ask: Ask, state: _RowState, seconds: float
    ) -> Envelope:
        prediction = state.prediction
        assert prediction is not None
        assert state.hash is not None
        return Envelope(
            prediction.value,
            _named(arm, prediction) if ask.reading.probabilities else None,
            None,
            None,
            model.name,
            arm.version_name,
            arm.stage,
            model.experiment,
            arm.variant,
            arm.training_data,
            arm.compiled.id,
            state.hash,
            None,
            ask.request_id,
            state.cached,
            None,
            flags_of(state.findings) if state.findings else [],
            round(seconds * 1000, 3),
        )

    def _batch_envelope(
        self, model: LiveModel, ask: BatchAsk, states: list[_RowState], seconds: float
    ) -> BatchEnvelope:
        failed = sum(state.error is not None for state in states)
        if failed == len(states):
            _raise_for_all(states)
        wants = ask.reading.probabilities
        return BatchEnvelope(
            predictions=[_row_envelope(index, state, wants) for index, state in enumerate(states)],
            model=model.name,
            batch_size=len(states),
            failed=failed,
            request_id=ask.request_id,
            latency_ms=round(seconds * 1000, 3),
        )

    # --- the log --------------------------------------------------------------------------------------------

    def _log(self, model: LiveModel, ask: Ask | BatchAsk, states: list[_RowState], seconds: float) -> None:
        at = time.time_ns() // 1000
        latency = round(seconds * 1000, 3)
        records = []
        for index, state in enumerate(states):
            arm, prediction, error = state.arm, state.prediction, state.error
            violations = error.violations if isinstance(error, DataContractViolation) else None
            version = None if arm is None else arm.version_name
            records.append(
                PredictionRecord(
                    state.prediction_id,
                    ask.request_id,
                    index,
                    "online",
                    at,
                    model.name,
                    None if arm is None else arm.name,
                    None if arm is None else arm.role,
                    version,
                    version if error is None else None,
                    model.generation,
                    None if arm is None else arm.compiled.id,
                    state.unit,
                    state.unit_kind,
                    ask.use_case,
                    _status(error),
                    None if error is None else error.code,
                    None,
                    state.cached,
                    latency,
                    state.hash,
                    None,
                    _NIL if state.encoded is None else msgspec.Raw(state.encoded),
                    None if prediction is None else encode(prediction.value).decode(),
                    _probabilities_text(arm, prediction),
                    encode(flags_of(state.findings)).decode() if state.findings else None,
                    None if violations is None else encode(violations).decode(),
                    model.experiment,
                    None if arm is None else arm.variant,
                    None if arm is None else arm.training_data,
                    ask.trace_id,
                    None if arm is None else arm.version.runtime,
                    self.gateway,
                )
            )
        arm = states[0].arm
        try:
            unlogged = self.journal.predictions(records)
        except Overloaded:
            if arm is not None:
                arm.counters.add("shed", len(records))
            raise
        if unlogged and arm is not None:
            arm.counters.add("unlogged", unlogged)


# --- small things -------------------------------------------------------------------------------------------


def unit_of(given: str | None, entity: str | None, request_id: str) -> tuple[str, UnitKind]:
    """The unit that traffic is split by, and where it comes from."""
    if given:
        return given, "given"
    if entity:
        return entity, "entity"
    return request_id, "request"


def new_prediction_id() -> bytes:
    """A UUIDv7 (RFC 9562): 48 bits of milliseconds, the version, and 74 random bits."""
    milliseconds = time.time_ns() // 1_000_000
    noise = random.getrandbits(74)
    value = milliseconds << 80 | 0x7 << 76 | (noise >> 62) << 64 | 0b10 << 62 | (noise & ((1 << 62) - 1))
    return value.to_bytes(16, "big")


def id_text(identifier: bytes) -> str:
    """The usual text form of a UUID."""
    digits = identifier.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _status(error: FairleadError | None) -> Status:
    if error is None:
        return "ok"
    return "failed" if error.retryable or isinstance(error, RuntimeFailed | NotReady) else "rejected"


def _named(arm: LiveArm, prediction: Prediction) -> dict[str, float] | None:
    if prediction.probabilities is None:
        return None
    return dict(zip(arm.version.binding.class_names, prediction.probabilities, strict=False))


def _probabilities_text(arm: LiveArm | None, prediction: Prediction | None) -> str | None:
    if arm is None or prediction is None or prediction.probabilities is None:
        return None
    return encode(_named(arm, prediction)).decode()


def _row_envelope(index: int, state: _RowState, wants: bool) -> RowEnvelope:
    arm, prediction, error = state.arm, state.prediction, state.error
    return RowEnvelope(
        row=index,
        prediction=None if prediction is None else prediction.value,
        probabilities=_named(arm, prediction) if wants and arm and prediction else None,
        model_version=None if arm is None else arm.version_name,
        stage=None if arm is None else arm.stage,
        variant=None if arm is None else arm.variant,
        contract_id=None if arm is None else arm.compiled.id,
        feature_hash=state.hash,
        cached=state.cached,
        degraded=None,
        flags=flags_of(state.findings),
        error=None if error is None else _row_error(error),
    )


def _row_error(error: FairleadError) -> dict[str, Any]:
    document: dict[str, Any] = {"code": error.code, "detail": error.message, "retryable": error.retryable}
    if isinstance(error, DataContractViolation):
        document["violations"] = error.violations
    return document


def _raise_for_all(states: list[_RowState]) -> None:
    """Every row failed: the request fails, with each row's violations where they broke the contract."""
    violations: list[dict[str, Any]] = []
    for index, state in enumerate(states):
        error = state.error
        assert error is not None
        if not isinstance(error, DataContractViolation):
            raise error
        violations += [{"row": index, **violation} for violation in error.violations]
    raise DataContractViolation(
        f"All {len(states)} rows break the contract.", violations, remedy="See `violations`."
    )


def _require_size(model: LiveModel, rows: int) -> None:
    limit = min(arm.version.spec.settings.max_batch_rows for arm in model.arms)
    if rows == 0:
        raise MalformedRequest("The batch has no instances.", remedy="Send at least one.")
    if rows > limit:
        raise MalformedRequest(
            f"The batch has {rows} instances; {limit} are allowed.",
            remedy="Send smaller batches, or raise max_batch_rows of the model.",
        )
