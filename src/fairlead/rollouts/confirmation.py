"""Waiting for the gateways: until all have loaded a generation, and until all serve it.

Nothing here changes anything. The waiting hears of commits instead of sleeping, and looks again now and then
because a gateway also falls silent without one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime

import msgspec

from fairlead.errors import GenerationConflict, NotReady, PrepareFailed
from fairlead.rollouts.fleet import Gateway, fleet
from fairlead.routing import plans
from fairlead.stores.database import Database
from fairlead.stores.watch import Watcher

__all__ = ["Confirmation", "Unconfirmed", "Waiting"]

_LOOK_AGAIN_SECONDS = 0.25


class Unconfirmed(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway that does not serve the new generation, as far as is known, and why."""

    gateway: str
    generation: int
    reason: str


class Confirmation(msgspec.Struct, frozen=True, kw_only=True):
    """What a command of traffic did: the generation that holds now, percent per version, and which gateways
    serve it. `took_ms` is from the command's arrival to the last confirmation."""

    model: str
    generation: int
    weights: dict[str, float]
    confirmed: list[str]
    unconfirmed: list[Unconfirmed]
    took_ms: float
    note: str | None = None


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """One command's view of the gateways while it waits. `stopping` ends the waiting early."""

    database: Database
    watcher: Watcher
    stopping: threading.Event
    clock: Callable[[], datetime]

    def until_anyone_lives(self, deadline: float) -> None:
        """Returns once a gateway is live, or at that time by the monotonic clock."""
        while time.monotonic() < deadline:
            with self.database.read() as connection:
                if any(gateway.live(self.clock()) for gateway in fleet(connection)):
                    return
            self._wait(deadline)

    def until_prepared(self, model: str, generation: int, seconds: float) -> None:
        """Returns once every live gateway has loaded the generation.

        `PrepareFailed` names a gateway that cannot and its reason, or those that are not done in time;
        `GenerationConflict` when another command has overtaken this one.
        """
        deadline = time.monotonic() + seconds
        while True:
            with self.database.read() as connection:
                found = plans.get(connection, model, generation)
                known = fleet(connection, model)
            if found is None or found.state != "preparing":
                raise overtaken(model, generation, found)
            live = [gateway for gateway in known if gateway.live(self.clock())]
            for gateway in live:
                state = gateway.of(model)
                if state.failed == generation:
                    raise PrepareFailed(
                        f"Gateway {gateway.name} cannot load generation {generation} of {model!r}: "
                        f"{state.error} Traffic did not move.",
                        remedy="Correct the version, or choose another.",
                        gateway=gateway.name,
                        reason=state.error,
                    )
            late = [gateway.name for gateway in live if gateway.of(model).prepared < generation]
            # That all have fallen silent may be the new version's doing: then nothing is activated.
            if live and not late:
                return
            if not self._wait(deadline):
                raise _not_prepared(model, generation, late, seconds)

    def until_active(
        self, model: str, generation: int, seconds: float
    ) -> tuple[list[str], list[Unconfirmed], str | None]:
        """The gateways that serve the generation, those that do not, and a note when there are none.

        Returns as soon as every live one does, or after `seconds`. `GenerationConflict` when another command
        has overtaken this one before they did.
        """
        deadline = time.monotonic() + seconds
        while True:
            with self.database.read() as connection:
                head = plans.head(connection, model)
                known = fleet(connection, model)
            now = self.clock()
            serving = [gateway for gateway in known if gateway.of(model).active >= generation]
            others = [gateway for gateway in known if gateway not in serving]
            late = [gateway for gateway in others if gateway.live(now)]
            out_of_time = time.monotonic() >= deadline or self.stopping.is_set()
            if late and head is not None and head.active != generation:
                raise GenerationConflict(
                    f"Generation {generation} of {model!r} was overtaken by {head.active} "
                    "before every gateway served it.",
                    remedy="Look at the model's traffic and repeat the command if it still makes sense.",
                    generation=head.active,
                )
            if not late or out_of_time:
                confirmed = [gateway.name for gateway in serving if gateway.live(now)]
                note = None if confirmed or late else "No gateway is live; the next to start serves this."
                return confirmed, [_unconfirmed(gateway, model, now) for gateway in others], note
            self.watcher.wait(min(_LOOK_AGAIN_SECONDS, deadline - time.monotonic()))

    def until_decided(self, model: str, generation: int, seconds: float) -> None:
        """Returns once the proposal, which another call waits for, is active; else why it never will be."""
        deadline = time.monotonic() + seconds
        while True:
            with self.database.read() as connection:
                found = plans.get(connection, model, generation)
            if found is not None and found.activated_at is not None:
                return
            if found is None or found.state != "preparing":
                raise overtaken(model, generation, found)
            if not self._wait(deadline):
                raise _not_prepared(model, generation, [], seconds)

    def _wait(self, deadline: float) -> bool:
        """Until something may have changed; False when it is too late, `NotReady` when the server stops."""
        if self.stopping.is_set():
            raise NotReady("The server is shutting down.", remedy="Repeat the command when it is back.")
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        self.watcher.wait(min(_LOOK_AGAIN_SECONDS, left))
        return True


def overtaken(model: str, generation: int, found: plans.PlanRow | None) -> Exception:
    """Why a proposal does not wait any more."""
    reason = "it is not there" if found is None else (found.reason or f"it is {found.state}")
    if found is not None and found.state == "failed":
        return PrepareFailed(
            f"Generation {generation} of {model!r} failed: {reason}",
            remedy="Traffic did not move.",
            generation=generation,
        )
    return GenerationConflict(
        f"Generation {generation} of {model!r} will not be served: {reason}.",
        remedy="Look at the model's traffic and repeat the command if it still makes sense.",
        generation=generation,
    )


def _not_prepared(model: str, generation: int, late: list[str], seconds: float) -> PrepareFailed:
    names = ", ".join(late) or "any gateway"
    return PrepareFailed(
        f"Generation {generation} of {model!r} was not loaded by {names} within {seconds:g} s. "
        "Traffic did not move.",
        remedy="Look at the gateways' log, or raise the setting prepare_seconds.",
        gateways=late,
        generation=generation,
    )


def _unconfirmed(gateway: Gateway, model: str, now: datetime) -> Unconfirmed:
    state = gateway.of(model)
    if not gateway.live(now):
        reason = f"silent for {(now - gateway.heartbeat_at).total_seconds():.0f} s"
    elif state.error:
        reason = state.error
    else:
        reason = "not reported in time"
    return Unconfirmed(gateway=gateway.name, generation=state.active, reason=reason)
