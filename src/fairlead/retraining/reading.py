"""From the tables `[trainers.NAME]` and `[retraining.MODEL]` of the settings to verified policies. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from fairlead.contracts.durations import seconds_of
from fairlead.contracts.keys import known_keys, misfit
from fairlead.errors import InvalidRetraining
from fairlead.gate.reading import read_gate
from fairlead.gate.spec import GateSpec, Metric
from fairlead.retraining.policy import Policy, Trainer
from fairlead.rollouts.reading import preset, read_spec
from fairlead.rollouts.spec import RolloutSpec

__all__ = ["HELD_OUT", "gate_of", "plan_of", "read_policies", "read_trainers"]

HELD_OUT = "held-out.parquet"
"""What a gate calls the rows that no trainer gets."""

_DURATIONS = {Trainer: ("seconds",), Policy: ("every", "cooldown", "window", "mature")}
_S = TypeVar("_S", Trainer, Policy)


def read_trainers(tables: Mapping[str, Any]) -> dict[str, Trainer]:
    """Trainers by name; `InvalidRetraining` names the key or value that is wrong."""
    return {
        name: _read(Trainer, f"trainers.{name}", table, name=name).verify() for name, table in tables.items()
    }


def read_policies(tables: Mapping[str, Any], trainers: dict[str, Trainer]) -> dict[str, Policy]:
    """Policies by model; `InvalidRetraining`, `InvalidGate` or `InvalidRollout` name what is wrong."""
    found = {}
    for model, table in tables.items():
        policy = _read(Policy, f"retraining.{model}", table, model=model).verify(trainers)
        plan_of(policy)
        if policy.gate:
            gate_of(policy, "class", "label")
        found[model] = policy
    return found


def gate_of(policy: Policy, output: str, target: str) -> GateSpec:
    """What the gate asks of a candidate: the policy's own gate on the held-out rows, or that it is no worse
    than the champion beyond the margin, in accuracy or mean absolute error.

    Raises `InvalidGate`, and `InvalidRetraining` for an output that no metric of one label measures.
    """
    if policy.gate:
        return read_gate({**policy.gate, "data": HELD_OUT, "target": target})
    if output not in ("class", "number"):
        raise InvalidRetraining(
            f"{policy.model!r} answers a {output}, which is not compared with one label.",
            remedy=f"Say by retraining.{policy.model}.gate what a candidate has to show.",
        )
    metric = Metric(name="accuracy" if output == "class" else "mae", margin=policy.margin)
    return GateSpec(data=HELD_OUT, target=target, metrics=(metric,)).verify()


def plan_of(policy: Policy) -> RolloutSpec:
    """How a candidate that passed is rolled out: never at once, unless the plan says so. Raises
    `InvalidRollout`."""
    if not policy.plan:
        return preset("canary", shadow=True)
    spec = read_spec(policy.plan)
    if spec.strategy == "direct":
        raise InvalidRetraining(
            f"retraining.{policy.model}.plan gives a candidate everything at once.",
            remedy="Choose the strategy 'canary', 'shadow', 'ab' or 'blue-green': a candidate is watched.",
        )
    return spec


def _read(kind: type[_S], where: str, table: object, **own: str) -> _S:
    fields = [name for name in kind.__struct_fields__ if name not in own]
    found = {**known_keys(table, fields, where, InvalidRetraining)}
    for name in _DURATIONS[kind]:
        if name in found:
            found[name] = seconds_of(f"{where}.{name}", found[name], InvalidRetraining)
    try:
        return msgspec.convert({**found, **own}, kind)
    except msgspec.ValidationError as error:
        told, instead = misfit(error, kind, where)
        raise InvalidRetraining(told, remedy=instead or "Correct that value.") from error
