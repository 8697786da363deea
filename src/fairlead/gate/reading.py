"""From what a team wrote, TOML or JSON, to the verified spec of a gate. Unknown keys are refused with the
nearest known one."""

from __future__ import annotations

import msgspec

from fairlead.contracts.durations import seconds_of
from fairlead.contracts.keys import known_keys, misfit
from fairlead.errors import InvalidGate
from fairlead.gate.spec import Budget, Compatibility, Fairness, GateSpec, Metric, Replay, Slice, Test

__all__ = ["read_gate"]

_LISTS: dict[str, type[msgspec.Struct]] = {
    "metrics": Metric,
    "slices": Slice,
    "tests": Test,
    "fairness": Fairness,
}
_TABLES: dict[str, type[msgspec.Struct]] = {
    "budget": Budget,
    "compatibility": Compatibility,
    "replay": Replay,
}


def read_gate(document: object) -> GateSpec:
    """The verified spec; `InvalidGate` names the key or value that is wrong."""
    found = {**known_keys(document, GateSpec.__struct_fields__, "the gate", InvalidGate)}
    for key, kind in _TABLES.items():
        if key in found:
            known_keys(found[key], kind.__struct_fields__, key, InvalidGate)
    for key, kind in _LISTS.items():
        items = found.get(key, ())
        if not isinstance(items, list | tuple):
            raise InvalidGate(f"{key} is no list.", remedy=f"Write one [[{key}]] table for each.")
        for index, item in enumerate(items):
            if not (kind is Slice and isinstance(item, str)):
                known_keys(item, kind.__struct_fields__, f"{key}[{index}]", InvalidGate)
    if "since" in (replay := found.get("replay", {})):
        found["replay"] = {**replay, "since": seconds_of("replay.since", replay["since"], InvalidGate)}
    try:
        spec = msgspec.convert(found, GateSpec)
    except msgspec.ValidationError as error:
        told, instead = misfit(error, GateSpec, "The gate")
        raise InvalidGate(told, remedy=instead or "Correct that value.") from error
    return spec.verify()
