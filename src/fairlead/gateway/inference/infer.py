"""The Open Inference Protocol without its transports: what REST and gRPC both answer."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from fairlead.errors import MalformedRequest, NotReady
from fairlead.gateway.asking import Asked, is_sendable, picked
from fairlead.gateway.inference.codec import InferRequest, Parameters, raw_input
from fairlead.gateway.inference.datatypes import Array
from fairlead.serving.dataplane import DataPlane
from fairlead.serving.live import LiveArm, LiveModel
from fairlead.serving.sureness import with_sureness
from fairlead.serving.table_records import TableAsk
from fairlead.serving.tables import infer_table

__all__ = ["Inferred", "infer", "require_version_ready", "version_arm"]

_LONGEST_TIMEOUT_US = 86_400_000_000
_SEQUENCES = ("sequence_id", "sequence_start", "sequence_end")
_HEADERS = {
    "x-variant": "variant",
    "x-plan-generation": "plan_generation",
    "x-training-data": "training_data",
    "x-provenance": "provenance",
}


class Inferred(NamedTuple):
    """An answer: the outputs by name, what served them, and the parameters that say so: those of this answer,
    and those of every answer of the arm (`provenance`)."""

    arm: LiveArm
    request_id: str
    outputs: Mapping[str, Array]
    parameters: Parameters
    provenance: tuple[tuple[str, str | int], ...]


async def infer(
    plane: DataPlane, model: LiveModel, version: str, request: InferRequest, asked: Asked
) -> Inferred:
    """The answer to an inference request; raises what `infer_table` raises.

    The version in the request wins over a pin in the headers, the parameter `unit` over the header, and an
    `id` that may be a request id over the header's. A `timeout` can only make the time to wait shorter.
    """
    ask = _ask(model, version, request, asked)
    plane.admit(model, asked.received, ask.deadline)
    answer = await infer_table(plane, model, ask)
    own: dict[str, str | int] = {"request_id": ask.request_id}
    if ask.degraded is not None:
        own["degraded"] = ask.degraded
    if answer.flagged:
        own["flagged_rows"] = answer.flagged
    outputs = answer.outputs
    if any(name not in outputs for name in ask.outputs):
        told = ask.degraded != "contract_default"
        outputs = with_sureness(answer.arm, outputs, answer.answers, ask.outputs, told=told)
        if told and answer.arm.uncertainty is not None:
            own["uncertainty_coverage"] = str(answer.arm.uncertainty.coverage)
    return Inferred(answer.arm, ask.request_id, outputs, own, _provenance(answer.arm.headers))


def version_arm(model: LiveModel, version: str) -> LiveArm:
    """The arm of that version, or of the one in production when none is named; raises `VersionNotFound`."""
    return model.pinned(version or model.stable_version())


def require_version_ready(arm: LiveArm) -> None:
    """Raises `NotReady` while that version cannot answer."""
    if not arm.version.engine.healthy:
        raise NotReady(f"Version {arm.version_name!r} is being restarted.")


def _ask(model: LiveModel, version: str, request: InferRequest, asked: Asked) -> TableAsk:
    parameters = request.parameters
    for name in _SEQUENCES:
        if parameters.get(name):
            raise MalformedRequest(
                f"Parameter {name!r}: sequences are not supported.", remedy="Send each request by itself."
            )
    unit = parameters.get("unit")
    if unit is not None and (isinstance(unit, bool) or not isinstance(unit, str | int)):
        raise MalformedRequest("Parameter 'unit' is neither text nor a whole number.")
    pin = version or asked.pin
    tensors = request.tensors
    if tensors is None:
        arm = model.pinned(pin or model.stable_version())
        tensors = raw_input(arm.version.spec.runtime.inputs, request.body)
    ask = TableAsk(
        tensors,
        outputs=tuple(request.outputs),
        received=asked.received,
        request_id=request.id if is_sendable(request.id) else asked.request_id,
        unit=asked.unit if unit in (None, "") else str(unit),
        pin=pin,
        use_case=asked.use_case,
        trace_id=asked.trace_id,
        deadline=_deadline(asked, _whole(parameters, "timeout", _LONGEST_TIMEOUT_US)),
        priority=_whole(parameters, "priority", 2**32 - 1),
    )
    ask.headers = picked(asked.header, model.headers)
    return ask


def _deadline(asked: Asked, microseconds: int) -> float | None:
    if not microseconds:
        return asked.deadline
    own = asked.received + microseconds / 1e6
    return own if asked.deadline is None else min(own, asked.deadline)


def _whole(parameters: Parameters, name: str, most: int) -> int:
    value = parameters.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise MalformedRequest(
            f"Parameter {name!r} is no whole number from 0 to {most}.", remedy="Leave it out, or correct it."
        )
    return value


@lru_cache(maxsize=1_024)
def _provenance(headers: bytes) -> tuple[tuple[str, str | int], ...]:
    """What an arm's headers say, under the names of parameters."""
    found: dict[str, str | int] = {}
    for line in headers.decode("ascii").splitlines():
        name, _, value = line.partition(": ")
        if name in _HEADERS:
            found[_HEADERS[name]] = int(value) if value.isdecimal() and name == "x-plan-generation" else value
    return tuple(found.items())
