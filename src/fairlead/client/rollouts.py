"""The rollouts of the admin API, for its Python client."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from fairlead.client.paths import json_body, path_of
from fairlead.client.registered import Rollout
from fairlead.client.session import Call, Session, reading

__all__ = ["RolloutCalls"]

RolloutStrategy = Literal["canary", "shadow", "blue-green", "ab", "direct"]
RolloutCommand = Literal["pause", "resume", "approve", "promote", "widen", "abort"]


class RolloutCalls(Session):
    """Starts rollouts, commands them and looks at them."""

    def start_rollout(
        self,
        model: str,
        version: str,
        *,
        strategy: RolloutStrategy = "canary",
        weight: float | None = None,
        steps: Sequence[float] | None = None,
        bake: float | str | None = None,
        plan: Mapping[str, Any] | None = None,
        shadow: bool = True,
        supersede: bool = False,
        override: str = "",
        why: str = "",
        expected: int | None = None,
    ) -> Rollout:
        """Rolls a version out by steps, watched: by a strategy and what differs from its preset, or by a
        whole plan. A canary that is told nothing else gets copies first, unless `shadow` is False. Answers
        when the first step has its traffic, or the rollout has ended. `override` is the reason for going past
        a gate that failed or a freeze window.
        """
        body = {
            "version": version,
            "strategy": strategy,
            "weight": weight,
            "steps": None if steps is None else [float(step) for step in steps],
            "bake": bake,
            "plan": plan,
            "shadow": shadow,
            "supersede": supersede,
            "override": override,
            "why": why,
        }
        path = path_of("models", model, "rollouts")
        return self.send(
            Call(
                method="POST",
                path=path,
                body=json_body(body),
                headers=_once(expected),
                read=reading(Rollout),
            )
        )

    def command_rollout(
        self,
        model: str,
        command: RolloutCommand,
        *,
        rollout: str = "present",
        override: str = "",
        why: str = "",
        expected: int | None = None,
    ) -> Rollout:
        """Pauses, resumes, approves, promotes, widens or aborts a rollout: the one under way, or the one
        named. `expected` and `override` as in `start_rollout`."""
        body = {"override": override, "why": why}
        path = path_of("models", model, "rollouts", rollout, command)
        return self.send(
            Call(
                method="POST",
                path=path,
                body=json_body(body),
                headers=_once(expected),
                read=reading(Rollout),
            )
        )

    def rollouts(self, model: str, *, limit: int = 20) -> tuple[Rollout, ...]:
        """The model's rollouts, newest first, without their journals."""
        path = path_of("models", model, "rollouts")
        query = {"limit": str(limit)}
        return self.send(Call(method="GET", path=path, query=query, read=reading(tuple[Rollout, ...])))

    def rollout(self, model: str, rollout: str = "present") -> Rollout:
        """One rollout with its journal: the one under way, unless named."""
        path = path_of("models", model, "rollouts", rollout)
        return self.send(Call(method="GET", path=path, read=reading(Rollout)))


def _once(expected: int | None) -> dict[str, str]:
    """Headers of a command that is carried out once, however often it is sent, and only on that generation
    of the model's plan."""
    headers = {"idempotency-key": uuid.uuid4().hex}
    if expected is not None:
        headers["if-match"] = f'"{expected}"'
    return headers
