"""What comes before a split, for the Python client of the admin API: rules, holdouts and layers."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from fairlead.client.paths import json_body, path_of
from fairlead.client.registered import Confirmation
from fairlead.client.session import Call, Session, reading
from fairlead.errors import MalformedRequest

__all__ = ["HeldOut", "LayerPart", "LayerUse", "Targeting", "TargetingCalls"]


class HeldOut(msgspec.Struct, frozen=True, kw_only=True):
    """A holdout: percent of the units, since when, and until when; None is open."""

    percent: float
    since: datetime
    until: datetime | None = None


class Targeting(msgspec.Struct, frozen=True, kw_only=True):
    """What comes before a model's split: its rules in their order, its holdout, and its rollout's layer."""

    model: str
    generation: int
    rules: tuple[dict[str, Any], ...] = ()
    holdout: HeldOut | None = None
    layer: str | None = None


class LayerPart(msgspec.Struct, frozen=True, kw_only=True):
    """The percent of the units that a rollout has in a layer. One that has `ended` keeps it as long as its
    plan is the model's or a live gateway serves it."""

    rollout: str
    model: str
    percent: float
    ended: bool = False


class LayerUse(msgspec.Struct, frozen=True, kw_only=True):
    """A layer, who has parts of it, and the percent that is free."""

    name: str
    shares: tuple[LayerPart, ...]
    free: float


class TargetingCalls(Session):
    """Sets rules and holdouts, and looks at them."""

    def targeting(self, model: str) -> Targeting:
        """What comes before the model's split."""
        path = path_of("models", model, "targeting")
        return self.send(Call(method="GET", path=path, read=reading(Targeting)))

    def target(
        self,
        model: str,
        rules: Sequence[Mapping[str, Any]],
        *,
        override: str = "",
        why: str = "",
        expected: int | None = None,
    ) -> Confirmation:
        """These rules in their order, instead of those that are there; none takes them away. `override` is
        the reason for going past a gate that failed.

        A rule is a mapping such as `{"name": "beta", "header": "x-group", "one_of": ["beta"], "version":
        "v2"}`; without a version it sends to the stable one.
        """
        body = {"rules": [dict(rule) for rule in rules], "override": override, "why": why}
        return self._set(model, "targeting", body, expected)

    def hold_out(
        self,
        model: str,
        percent: float,
        *,
        until: datetime | None = None,
        why: str = "",
        expected: int | None = None,
    ) -> Confirmation:
        """Keeps that percent of the units from every candidate until then; 0 ends it."""
        if until is not None and until.tzinfo is None:
            raise MalformedRequest(
                f"{until} has no time zone.", remedy="Give one, as in datetime(…, tzinfo=timezone.utc)."
            )
        body = {"percent": float(percent), "until": until, "why": why}
        return self._set(model, "holdout", body, expected)

    def layers(self) -> tuple[LayerUse, ...]:
        """The layers that rollouts have named, and who has parts of them."""
        return self.send(Call(method="GET", path=path_of("layers"), read=reading(tuple[LayerUse, ...])))

    def _set(self, model: str, verb: str, body: Mapping[str, Any], expected: int | None) -> Confirmation:
        # Under one key the server carries a command out once, however often it is sent.
        headers = {"idempotency-key": uuid.uuid4().hex}
        if expected is not None:
            headers["if-match"] = f'"{expected}"'
        path = path_of("models", model, verb)
        return self.send(
            Call(method="PUT", path=path, body=json_body(body), headers=headers, read=reading(Confirmation))
        )
