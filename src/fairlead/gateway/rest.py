"""The REST face of the data plane: requests to asks, answers to bytes. It decides nothing."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from fairlead import __version__
from fairlead.contracts.document import json_schema
from fairlead.errors import (
    FairleadError,
    MalformedRequest,
    ModelNotFound,
    NotReady,
    Overloaded,
    RuntimeFailed,
    VersionNotFound,
)
from fairlead.gateway.asking import is_sendable, picked, require_sendable, seconds_to_wait
from fairlead.gateway.explanations import Explanations
from fairlead.gateway.faces import Faces
from fairlead.gateway.openapi import data_plane_document, model_document
from fairlead.gateway.protocol import Request, response
from fairlead.gateway.routes import Match, Router
from fairlead.gateway.statuses import problem, status_of
from fairlead.predictions.outcomes import parse_outcomes
from fairlead.serving.asks import Ask, BatchAsk
from fairlead.serving.dataplane import FULL, DataPlane
from fairlead.serving.envelope import encode
from fairlead.serving.firing import read_firing
from fairlead.serving.folder import DataFolder
from fairlead.serving.live import LiveArm, LiveModel
from fairlead.serving.refresh import require_ready
from fairlead.telemetry.counters import CounterRow, read_counters
from fairlead.telemetry.metrics import Gauge, render

__all__ = ["RestApp"]

logger = logging.getLogger(__name__)

_LONGEST_ID = 128
_RETRY = b"retry-after: 1\r\n"
_PROBLEM = b"application/problem+json"
_LIVE_SECONDS = 5.0
_FULL = Overloaded(FULL, remedy="Try again later, or add gateway workers.")
_FULL_BODY = encode(problem(_FULL))


class RestApp:
    """Answers every route of `routes.py`. One per gateway worker."""

    def __init__(
        self,
        plane: DataPlane,
        folder: DataFolder,
        strays: CounterRow,
        faces: Faces,
        *,
        default_model: str = "",
        price: float = 0.0,
    ) -> None:
        self._plane = plane
        self._folder = folder
        self._price = price  # of a core and hour; 0 is none
        self._strays = strays  # counts requests that reached no model
        self._router = Router(default_model)
        self._faces = faces
        others = {**faces.handlers, "explanation": Explanations(folder.explaining_socket).handle}
        self._handlers: dict[str, Callable[[Request, Match], Any]] = {
            route.handler: others.get(route.handler) or getattr(self, f"_{route.handler}")
            for route in self._router.routes
        }
        self._started = time.time()

    async def handle(self, request: Request) -> bytes:
        """The bytes that answer a request. Never raises: what goes wrong becomes a problem document."""
        try:
            match = self._router.find(request.method, request.path)
            answer: bytes = await self._handlers[match[0].handler](request, match)
        except FairleadError as error:
            answer = self.refuse(error, request)
        except Exception:
            # Ours to find in the log by this id, and nobody else's to read.
            logger.exception("%s %s failed", request.method.decode(), request.path.decode("ascii", "replace"))
            answer = self.refuse(RuntimeFailed("Something failed inside the gateway."), request)
        if request.method == b"HEAD":
            return answer[: answer.index(b"\r\n\r\n") + 4]
        return answer

    def refuse(self, error: FairleadError, request: Request | None = None) -> bytes:
        """A problem document for an error."""
        if isinstance(error, ModelNotFound | MalformedRequest):
            self._strays.add("rejected")
        if request is not None and (foreign := self._faces.refusal(error, request)) is not None:
            return foreign
        request_id = None
        if request is not None:
            given = request.header(b"x-request-id")
            request_id = given if given and is_sendable(given) else None
        headers = b"" if request_id is None else b"x-request-id: %b\r\n" % request_id.encode()
        status = status_of(error)
        if status in (429, 503):
            headers += _RETRY
        if status == 405:
            headers += b"allow: %b\r\n" % ", ".join(error.details.get("allowed", ())).encode()
        return response(status, encode(problem(error, request_id)), headers, _PROBLEM)

    def turn_away(self, request: Request) -> bytes | None:
        """The refusal of a prediction that there is no room for; None for whatever else it is."""
        name = self._router.predicts(request.method, request.path)
        model = None if name is None else self._plane.models.get(name)
        if model is None:
            return None
        timeout = request.headers.get(b"x-timeout-ms")
        try:
            deadline = None if timeout is None else _deadline(request, timeout)
        except MalformedRequest:
            return None
        request.admitted = self._has_room(model, request, deadline)
        return None if request.admitted else self._full(request)

    def _has_room(self, model: LiveModel, request: Request, deadline: float | None) -> bool:
        if request.admitted:
            return True
        return self._plane.has_room(model, request.received, deadline, request.since, request.arrived)

    def _full(self, request: Request) -> bytes:
        """The refusal of a full gateway. It is given often and must cost little."""
        if b"x-request-id" in request.headers:
            return self.refuse(_FULL, request)
        return response(503, _FULL_BODY, _RETRY, _PROBLEM)

    # --- predictions ----------------------------------------------------------------------------------------

    async def _predict(self, request: Request, match: Match) -> bytes:
        model = self._plane.model(match[1])
        get = request.headers.get
        timeout = get(b"x-timeout-ms")
        deadline = None if timeout is None else _deadline(request, timeout)
        if not self._has_room(model, request, deadline):
            return self._full(request)
        trace = get(b"traceparent")
        ask = Ask.of(
            model.reader.read(request.body),
            received=request.received,
            request_id=_text(get(b"x-request-id")),
            unit=_text(get(b"x-unit")),
            pin=_text(get(b"x-model-version")),
            use_case=_short(get(b"x-use-case")),
            trace_id=None if trace is None else _trace_id(trace),
            deadline=deadline,
        )
        if not ask.generated_id:
            require_sendable(ask.request_id)
        if model.headers:
            ask.headers = picked(request.text, model.headers)
        try:
            envelope, arm = await self._plane.infer(model, ask)
        except FairleadError as error:
            # The traceback holds the ask, and the ask the error: nobody shall have to collect that circle.
            return _problem(error.with_traceback(None), ask.request_id)
        return response(
            200, encode(envelope), b"x-request-id: %b\r\n%b" % (ask.request_id.encode(), arm.headers)
        )

    async def _predict_batch(self, request: Request, match: Match) -> bytes:
        model = self._plane.model(match[1])
        get = request.headers.get
        timeout = get(b"x-timeout-ms")
        deadline = None if timeout is None else _deadline(request, timeout)
        if not self._has_room(model, request, deadline):
            return self._full(request)
        trace = get(b"traceparent")
        ask = BatchAsk(
            model.reader.read_batch(request.body),
            received=request.received,
            request_id=_text(get(b"x-request-id")),
            unit=_text(get(b"x-unit")),
            pin=_text(get(b"x-model-version")),
            use_case=_short(get(b"x-use-case")),
            trace_id=None if trace is None else _trace_id(trace),
            deadline=deadline,
        )
        require_sendable(ask.request_id)
        if model.headers:
            ask.headers = picked(request.text, model.headers)
        try:
            envelope = await self._plane.infer_batch(model, ask)
        except FairleadError as error:
            return _problem(error.with_traceback(None), ask.request_id)
        lines = f"x-request-id: {ask.request_id}\r\nx-plan-generation: {model.generation}\r\n"
        return response(200, encode(envelope), lines.encode())

    async def _outcomes(self, request: Request, match: Match) -> bytes:
        model = self._plane.model(match[1])
        outcomes = parse_outcomes(request.body, model=model.name, received_at=time.time_ns() // 1000)
        self._plane.journal.outcomes(outcomes)
        return response(200, encode({"accepted": len(outcomes)}))

    # --- what is here ---------------------------------------------------------------------------------------

    async def _models(self, request: Request, match: Match) -> bytes:
        models = [_describe(model) for _, model in sorted(self._plane.models.items())]
        return response(200, encode({"models": models}))

    async def _model(self, request: Request, match: Match) -> bytes:
        return response(200, encode(_describe(self._plane.model(match[1]))))

    async def _version(self, request: Request, match: Match) -> bytes:
        model = self._plane.model(match[1])
        arm = model.pins.get(match[2])
        if arm is None:
            raise VersionNotFound(
                f"Version {match[2]!r} of {model.name!r} takes no traffic here.",
                remedy=f"Live are {', '.join(sorted(model.pins))}.",
            )
        spec = arm.version.spec
        document = {
            "model": model.name,
            "version": arm.version_name,
            "stage": arm.stage,
            "digest": arm.version.digest,
            "contract_id": arm.compiled.id,
            "runtime": arm.version.runtime,
            "lineage": msgspec.to_builtins(spec.lineage),
            "settings": msgspec.to_builtins(spec.settings),
            "leading_features": None if self._plane.leaders is None else await self._plane.leaders.told(arm),
        }
        return response(200, encode(document))

    async def _contract(self, request: Request, match: Match) -> bytes:
        model = self._plane.model(match[1])
        return response(
            200, encode(json_schema(model.reader.contract)), content_type=b"application/schema+json"
        )

    async def _model_openapi(self, request: Request, match: Match) -> bytes:
        model = self._plane.model(match[1])
        return response(200, encode(model_document(self._router.routes, model)))

    async def _openapi(self, request: Request, match: Match) -> bytes:
        return response(200, encode(data_plane_document(self._router.routes, sorted(self._plane.models))))

    # --- health and metrics ---------------------------------------------------------------------------------

    async def _health_live(self, request: Request, match: Match) -> bytes:
        return response(200, b'{"live":true}')

    async def _health_ready(self, request: Request, match: Match) -> bytes:
        require_ready(self._plane)
        return response(200, b'{"ready":true}')

    async def _health(self, request: Request, match: Match) -> bytes:
        try:
            require_ready(self._plane)
            status = "ready"
        except NotReady as error:
            status = f"not ready: {error.message}"
        document = {
            "status": status,
            "fairlead": __version__,
            "gateway": self._plane.gateway,
            "uptime_seconds": round(time.time() - self._started, 1),
            "models": {
                name: {"generation": model.generation, "versions": sorted(model.pins)}
                for name, model in sorted(self._plane.models.items())
            },
        }
        return response(200, encode(document))

    async def _metrics(self, request: Request, match: Match) -> bytes:
        body = render([arm for arm in read_counters(self._folder.counters) if arm.key.model], self._gauges())
        return response(200, body, content_type=match[0].media_type.encode())

    def _gauges(self) -> list[Gauge]:
        firing = Counter(read_firing(self._folder.firing))
        gauges = [
            Gauge("fairlead_alerts_firing", (alert.model, alert.rule, alert.severity), count)
            for alert, count in firing.items()
        ]
        for name, live in self._plane.models.items():
            arm = next(iter(live.pins.values()), None)
            own = None if arm is None else arm.version.spec.settings.price_per_core_hour
            price = self._price if own is None else own
            if price:
                gauges.append(Gauge("model_price_per_core_hour", (name,), price))
        now = time.time()
        for report in self._folder.read_reports():
            alive = now - report.at < _LIVE_SECONDS
            gauges.append(Gauge("gateway_up", (report.name,), int(alive)))
            if not alive:
                continue
            for model, state in report.models.items():
                gauges.append(Gauge("model_plan_generation", (model, report.name), state.active))
                gauges += [Gauge("model_loaded", (model, cold, report.name), 0) for cold in state.cold]
                for version, size in state.loaded.items():
                    gauges.append(Gauge("model_loaded", (model, version, report.name), 1))
                    gauges.append(Gauge("model_memory_bytes", (model, version, report.name), size))
        return gauges


# --- small things -------------------------------------------------------------------------------------------


def _problem(error: FairleadError, request_id: str) -> bytes:
    status = status_of(error)
    headers = b"x-request-id: %b\r\n" % request_id.encode()
    if status in (429, 503):
        headers += _RETRY
    return response(status, encode(problem(error, request_id)), headers, _PROBLEM)


def _describe(model: LiveModel) -> dict[str, Any]:
    def arm_document(index: int, arm: LiveArm) -> dict[str, Any]:
        return {
            "name": arm.name,
            "version": arm.version_name,
            "role": arm.role,
            "stage": arm.stage,
            "share": model.slots.count(index) / len(model.slots),
            "contract_id": arm.compiled.id,
            "resident": arm.version.resident,
        }

    return {
        "model": model.name,
        "generation": model.generation,
        "experiment": model.experiment,
        "override": model.override,
        "arms": [arm_document(index, arm) for index, arm in enumerate(model.arms)],
        # What TensorFlow Serving answers under the same path.
        "model_version_status": [
            {"version": name, "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
            for name in sorted(model.pins)
        ],
    }


def _deadline(request: Request, timeout_ms: bytes) -> float:
    """When the answer must be there, on the clock of `received`."""
    return (request.arrived or request.received) + seconds_to_wait(timeout_ms.decode("latin-1"))


def _text(value: bytes | None) -> str | None:
    """A header's value; None when it is absent or empty."""
    return value.decode("latin-1") if value else None


def _short(value: bytes | None) -> str | None:
    return value.decode("latin-1")[:_LONGEST_ID] if value else None


def _trace_id(traceparent: bytes) -> str | None:
    """The trace id of a W3C traceparent (version-traceid-parent-flags), None when there is no valid one."""
    parts = traceparent.decode("latin-1").split("-")
    if len(parts) < 4 or len(parts[1]) != 32 or not set(parts[1]) <= set("0123456789abcdef"):
        return None
    return parts[1]
