"""What people say about rollouts: start one, and pause, resume, approve, promote, widen or abort it.

A command changes where a rollout stands, in one transaction; the controller then makes the traffic so.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import sqlalchemy as sa

from fairlead.errors import InvalidRollout, MalformedRequest, RolloutNotFound, StoreUnavailable
from fairlead.gate import ledger as gates
from fairlead.registry import aliases
from fairlead.registry.lookup import require_model
from fairlead.registry.registry import Registry
from fairlead.rollouts import freezes, layers, ledger, replays, states
from fairlead.rollouts.holds import held
from fairlead.rollouts.judge import Judgement, judge
from fairlead.rollouts.ledger import Entry
from fairlead.rollouts.logged import known_outcomes
from fairlead.rollouts.observing import Observer
from fairlead.rollouts.outcome_sums import Ask
from fairlead.rollouts.spec import RolloutSpec
from fairlead.rollouts.states import JUDGED, Command, Rollout
from fairlead.rollouts.traffic import Order
from fairlead.routing import plans
from fairlead.routing.fallbacks import fallbacks
from fairlead.stores.database import Database

__all__ = ["Rollouts", "Standing"]


_FORWARD = ("promote", "widen")
"""Commands by which the candidate gets more."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """A rollout with its journal, percent per version as its model's traffic is now, and what is to be said
    of the candidate at this moment; None while nobody asks it. `held` says which freeze window or gate keeps
    it where it is."""

    entry: Entry
    judgement: Judgement | None
    held: str | None
    journal: list[ledger.Event]
    weights: dict[str, float]


class Rollouts:
    """Rollouts by command. Safe for threads. `counters` is the folder of the gateways' counters,
    `ask` asks the prediction log; with a `registry` a rollout without a way back is refused. Versions that
    were in production within `recent` may come back without steps."""

    def __init__(
        self,
        database: Database,
        counters: Path,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        ask: Ask | None = None,
        registry: Registry | None = None,
        recent: timedelta = timedelta(),
    ) -> None:
        self.database = database
        self._registry = registry
        self._recent = recent
        self._ask = ask
        self._observer = Observer(counters, ask)
        self._clock = clock

    def start(
        self,
        model: str,
        version: str,
        spec: RolloutSpec,
        order: Order,
        *,
        supersede: bool = False,
        again: RolloutSpec | None = None,
    ) -> Entry:
        """A new rollout of that version, by its name or an alias. `again` takes the spec's place for one that
        was in production lately and was not rolled back; the rollout's note says so.

        Raises `ModelNotFound`, `VersionNotFound`; `InvalidRollout` when the version cannot be compared with
        anything, is in production already, its layer has no room, or the version in production could not be
        gone back to; `RolloutInProgress` while another is under way, unless `supersede`, which ends that one
        where it stands; `GateClosed` for a version that did not pass its gate and `Frozen` within a freeze
        window, unless the order overrides that. Said again under the order's key it answers the rollout that
        it began; `MalformedRequest` when that was of another version.
        """
        if self._ask is not None and spec.metrics:
            with contextlib.suppress(StoreUnavailable):
                spec.verify(known_outcomes(self._ask, model))
        identifier = _identifier(model, order.key)
        self._require_way_back(model, identifier)
        with self.database.write() as connection:
            require_model(connection, model)
            candidate = aliases.resolve(connection, model, version)
            begun = ledger.find(connection, identifier)
            if begun is not None:
                return _repeated(begun, candidate, order)
            if order.expected is not None:
                plans.expect(connection, model, order.expected)
            present = plans.active(connection, model)
            stable = present.stable() if present else None
            if stable is None and spec.steps:
                raise InvalidRollout(
                    f"{model!r} has no version in production that {candidate!r} could be compared with.",
                    remedy="Deploy it directly: strategy 'direct'.",
                )
            if candidate == stable:
                raise InvalidRollout(
                    f"Version {candidate!r} of {model!r} is in production already.",
                    remedy="Deploy another version.",
                )
            now = self._clock()
            gates.require(connection, model, candidate, override=order.override, who=order.who, now=now)
            unfrozen = stable is not None and freezes.require(
                connection, model, "rollout", override=order.override, who=order.who, now=now
            )
            other = ledger.active(connection, model)
            if other is not None and supersede:
                after = states.supersede(other.rollout, now)
                ledger.move(
                    connection, other, after, who=order.who, reason=f"Superseded by {candidate}.", now=now
                )
            note = None if again is None else self._returns(connection, model, candidate, now)
            if again is not None and note is not None:
                spec = again
            rollout = Rollout(
                id=identifier,
                model=model,
                stable=stable,
                candidate=candidate,
                spec=spec,
                started_at=now,
                entered_at=now,
                unfrozen=unfrozen,
                note=note,
            )
            entry = ledger.begin(connection, rollout, now=now, who=order.who, why=order.why)
            if spec.layer is not None:
                layers.take(
                    connection, spec.layer, spec.traffic, rollout=identifier, model=model, now=now
                )  # fmt: skip
            return entry

    def command(self, model: str, name: Command, order: Order, rollout: str | None = None) -> Entry:
        """The rollout after that command: the one named, or else the one under way. Said again under the
        order's key it changes nothing more, and answers how that rollout stands.

        Raises `RolloutNotFound`; `WrongRolloutState` where its state does not allow the command; for what
        gives the candidate more, `GateClosed` when its gate failed and `Frozen` within a freeze window,
        unless the order overrides that: then no window holds this rollout any more; `GenerationConflict` when
        the model's traffic is not of the order's generation; `MalformedRequest` when the key belongs to
        another command.
        """
        text = f"{name} {model} {rollout or 'present'}"
        with self.database.write() as connection:
            require_model(connection, model)
            if order.key is not None:
                done = replays.commanded(connection, order.key, text)
                if done is not None:
                    return ledger.get(connection, done)
            if order.expected is not None:
                plans.expect(connection, model, order.expected)
            entry = _found(connection, model, rollout)
            now = self._clock()
            after = states.command(entry.rollout, name, now)
            if name in _FORWARD and after != entry.rollout:
                gates.require(
                    connection, model, after.candidate, override=order.override, who=order.who, now=now
                )
                unfrozen = after.unfrozen or freezes.require(
                    connection, model, name, override=order.override, who=order.who, now=now
                )
                after = msgspec.structs.replace(after, unfrozen=unfrozen)
            if after != entry.rollout:
                reason = order.why or f"{order.who} gave the command {name!r}."
                ledger.move(connection, entry, after, who=order.who, reason=reason, now=now)
            if order.key is not None:
                replays.command(connection, order.key, text, after.id, now)
            return ledger.get(connection, after.id)

    def until_settled(self, identifier: str, seconds: float) -> Entry:
        """The rollout once its traffic is what its state asks for, or as it is after so many seconds."""
        deadline = time.monotonic() + seconds
        with closing(self.database.watch()) as watcher:
            while True:
                with self.database.read() as connection:
                    entry = ledger.get(connection, identifier)
                state = entry.rollout
                moving = state.phase in ("pending", "preflight", "aborting") or (
                    state.generation is None and not state.over
                )
                left = deadline - time.monotonic()
                if not moving or state.state == "paused" or left <= 0:
                    return entry
                watcher.wait(min(0.25, left))

    def of_model(self, model: str, limit: int = 100) -> list[Entry]:
        """The model's rollouts, newest first; raises `ModelNotFound`."""
        with self.database.read() as connection:
            require_model(connection, model)
            return ledger.of_model(connection, model, limit)

    def get(self, model: str, rollout: str | None) -> Standing:
        """The rollout named, or the one under way; raises `RolloutNotFound`."""
        with self.database.read() as connection:
            require_model(connection, model)
            entry = _found(connection, model, rollout)
            plan = plans.active(connection, model)
            state, judgement = entry.rollout, None
            if state.phase in JUDGED and state.generation is not None:
                observation = self._observer.observe(connection, entry, self._clock())
                judgement = judge(state.spec, state.present_step, observation)
            return Standing(
                entry=entry,
                judgement=judgement,
                held=None if state.over else held(connection, state, self._clock()),
                journal=ledger.events(connection, entry.rollout.id),
                weights=plan.weights() if plan else {},
            )

    def _require_way_back(self, model: str, identifier: str) -> None:
        """Raises `InvalidRollout` where the version in production could not be loaded again."""
        with self.database.read() as connection:
            present = plans.active(connection, model)
            if self._registry is None or present is None or ledger.find(connection, identifier) is not None:
                return
        stable = present.stable()
        for file in self._registry.spec(model, stable).manifest.files:
            if self._registry.blobs.size(file.sha256) != file.size:
                raise InvalidRollout(
                    f"There would be no way back: {stable!r} of {model!r} is in production, and its file "
                    f"{file.path!r} is missing from the artifact store or has another size.",
                    remedy="Restore the store's files; until then `--strategy direct` moves the traffic.",
                    version=stable,
                )

    def _returns(self, connection: sa.Connection, model: str, candidate: str, now: datetime) -> str | None:
        """What is to be said of a version that was in production lately and was not rolled back."""
        ended = dict(fallbacks(connection, model)).get(candidate)
        if ended is None or ended < now - self._recent:
            return None
        return f"{candidate!r} was in production until {ended:%Y-%m-%d %H:%M} UTC, so the steps are skipped."


def _identifier(model: str, key: str | None) -> str:
    """A rollout's name: made of the key of the command that begins it, so that it begins once."""
    if key is None:
        return secrets.token_hex(6)
    return hashlib.sha256(f"{model}\0{key}".encode()).hexdigest()[:12]


def _repeated(begun: Entry, candidate: str, order: Order) -> Entry:
    if begun.rollout.candidate != candidate:
        raise MalformedRequest(
            f"The idempotency key {order.key!r} was used for another command.",
            remedy="Make a new key for each command.",
        )
    return begun


def _found(connection: sa.Connection, model: str, rollout: str | None) -> Entry:
    entry = ledger.active(connection, model) if rollout is None else ledger.get(connection, rollout)
    if entry is None:
        raise RolloutNotFound(
            f"No rollout of {model!r} is under way.",
            remedy=f"Start one with `fairlead deploy {model} VERSION`.",
        )
    if entry.rollout.model != model:
        raise RolloutNotFound(
            f"Rollout {rollout!r} is of {entry.rollout.model!r}.", remedy=f"See `fairlead rollouts {model}`."
        )
    return entry
