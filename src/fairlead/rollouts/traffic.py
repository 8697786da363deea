"""The commands that change who gets what: deploy, traffic, promote, rollback.

Each becomes the model's next plan, waits until every live gateway has loaded what it names, is activated
together with the stages and the audit entry in one transaction, and waits until every live gateway serves it.
A command that cannot be prepared moves nothing. A rollback to what is still loaded skips the first half.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

import msgspec
import sqlalchemy as sa

from fairlead.errors import FairleadError, InvalidPlan, StoreUnavailable
from fairlead.gate import ledger as gates
from fairlead.registry import aliases
from fairlead.registry.lookup import require_model
from fairlead.registry.registry import Registry
from fairlead.rollouts import freezes, ledger, moves, replays
from fairlead.rollouts.confirmation import Confirmation, Waiting
from fairlead.rollouts.fleet import fleet
from fairlead.rollouts.leftovers import end_leftovers
from fairlead.routing import plans
from fairlead.routing.fallbacks import fallbacks
from fairlead.routing.plan import Plan
from fairlead.settings import Settings
from fairlead.stores import tables
from fairlead.stores.database import Database

__all__ = ["Move", "Order", "Strategy", "Traffic", "Within"]

logger = logging.getLogger(__name__)

Strategy = Literal["canary", "direct", "blue-green"]

_ABANDONED_SECONDS = 10.0
"""A proposal that has waited so much longer than it may has lost whoever waited for it."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """Who gives a command and why; `expected` is the generation it was decided on; repeating it under the
    same `key` answers what the first one answered. `override` is the reason for which it goes past what would
    hold it up, such as a gate that failed or a freeze window."""

    who: str
    why: str = ""
    expected: int | None = None
    key: str | None = None
    override: str = ""


Move = Callable[[sa.Connection, Plan | None], Plan]
Within = Callable[[sa.Connection, Plan], None]


class _Command(NamedTuple):
    """A command on its way; `text` is what its idempotency key belongs to. One `beside` the split
    neither ends a rollout nor is refused for one."""

    model: str
    verb: str
    text: str
    move: Move
    order: Order
    supersede: bool = False
    within: Within | None = None
    beside: bool = False


class Traffic:
    """Carries out the commands. Safe for threads; a call returns when its command is confirmed or refused.

    Every command raises `ModelNotFound` and `VersionNotFound`; `InvalidPlan` for what makes no plan or names
    an archived version; `GateClosed` for more traffic to a version that did not pass its gate and `Frozen`
    within a freeze window, unless the order overrides that; `GenerationConflict` when the model's traffic
    changed meanwhile; `PrepareFailed` when a gateway cannot load a version; `MalformedRequest` when a key
    belongs to another command.

    While nobody has reported yet, commands of the first `settle_seconds` wait for the first gateway to.
    """

    def __init__(
        self,
        database: Database,
        registry: Registry,
        settings: Settings,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        settle_seconds: float = 0.0,
    ) -> None:
        self.database = database
        self.registry = registry
        self.settings = settings
        self._clock = clock
        self._settled_at = time.monotonic() + settle_seconds
        self._stopping = threading.Event()

    # --- commands -------------------------------------------------------------------------------------------

    def deploy(
        self,
        model: str,
        version: str,
        order: Order,
        *,
        strategy: Strategy = "canary",
        weight: float = 5.0,
        supersede: bool = False,
    ) -> Confirmation:
        """Puts a version on traffic: as a canary at `weight` percent, or on all of it at once.

        `RolloutInProgress` while another rollout splits the traffic, unless `supersede`; that also overtakes
        a command which is still being prepared.
        """

        def move(connection: sa.Connection, present: Plan | None) -> Plan:
            name = aliases.resolve(connection, model, version)
            if present is None:
                if strategy == "canary":
                    raise InvalidPlan(
                        f"{model!r} has no version in production that a canary could be compared with.",
                        remedy=f"Deploy {name!r} directly: strategy 'direct'.",
                    )
                return _first(model, name)
            if strategy == "canary":
                return moves.deploy(present, name, weight, _fresh(), supersede=supersede)
            return moves.blue_green(present, name, supersede=supersede)

        command = _text("deploy", model, version, strategy, weight)
        return self._carry_out(_Command(model, "deploy", command, move, order, supersede))

    def set_weights(self, model: str, weights: Mapping[str, float], order: Order) -> Confirmation:
        """Splits the traffic by the given percent per version."""

        def move(connection: sa.Connection, present: Plan | None) -> Plan:
            named = {aliases.resolve(connection, model, name): weight for name, weight in weights.items()}
            if len(named) != len(weights):
                raise InvalidPlan("A version has two weights.", remedy="Name each version once.")
            if present is None:
                heaviest = max(named, key=lambda name: named[name], default="")
                present = _first(model, heaviest)
            return moves.set_weights(present, named, _fresh())

        command = _text("traffic", model, *(f"{name}={weights[name]}" for name in sorted(weights)))
        return self._carry_out(_Command(model, "traffic", command, move, order))

    def promote(self, model: str, order: Order) -> Confirmation:
        """Gives the canary, or else the only version beside the stable one, everything."""

        def move(_: sa.Connection, present: Plan | None) -> Plan:
            return moves.promote(_required(model, present))

        return self._carry_out(_Command(model, "promote", _text("promote", model), move, order))

    def rollback(self, model: str, order: Order, *, to: str | None = None) -> Confirmation:
        """Ends a split in favour of the stable version; else goes back to the production version before, or
        to the version named. It wins over whatever else is being prepared: called off, that moved nothing,
        and there is nothing more to go back from. Raises `NothingToRollBack`."""

        def move(connection: sa.Connection, present: Plan | None) -> Plan:
            present = _required(model, present)
            if to is None and plans.pending(connection, model) and not moves.is_split(present):
                return moves.direct(present, present.stable())
            target = None if to is None else aliases.resolve(connection, model, to)
            archived = _archived(connection, model)
            earlier = [name for name, _ in fallbacks(connection, model) if name not in archived]
            return moves.rollback(present, earlier[0] if earlier else None, target)

        command = _text("rollback", model, to)
        return self._carry_out(_Command(model, "rollback", command, move, order, supersede=True))

    def carry_out(
        self,
        model: str,
        verb: str,
        move: Move,
        order: Order,
        within: Within | None = None,
        *,
        supersede: bool = False,
        beside: bool = False,
        detail: str | None = None,
    ) -> Confirmation:
        """A rollout's own move. `within` runs in the transaction that activates the plan: what it writes
        holds from the same moment, or not at all. `verb` "rollback" needs no gateway to load anything.
        Or a move `beside` the split, under a rollout or not; `detail` tells it from others of its verb.
        """
        command = _text(verb, model, detail)
        return self._carry_out(_Command(model, verb, command, move, order, supersede, within, beside))

    def hindrance(
        self, connection: sa.Connection, model: str, candidate: str, stable: str | None
    ) -> str | None:
        """Why a rollout of that candidate from that stable version cannot begin; None when it can."""
        present = plans.active(connection, model)
        serves = present.stable() if present else None
        if serves != stable:
            return f"{serves!r} is in production now, and no longer {stable!r}."
        if candidate in _archived(connection, model):
            return f"Version {candidate!r} is archived."
        return None

    # --- starting and stopping ------------------------------------------------------------------------------

    def recover(self) -> list[tuple[str, int]]:
        """Ends the proposals that a process left behind when it was killed; answers model and generation.
        Nobody waits for them any more, and they had no effect; a rollout's stay while it is under way."""
        with self.database.write() as connection:
            waiting = end_leftovers(connection)
        for model, generation in waiting:
            logger.warning("generation %d of %s was left behind and is given up", generation, model)
        return waiting

    def stop(self) -> None:
        """Ends all waiting, so that a server can shut down: what is prepared fails, nothing is undone."""
        self._stopping.set()

    # --- how a command is carried out -----------------------------------------------------------------------

    def _carry_out(self, command: _Command) -> Confirmation:
        model, order = command.model, command.order
        began = time.monotonic()
        with closing(self.database.watch()) as watcher:
            waiting = Waiting(
                database=self.database, watcher=watcher, stopping=self._stopping, clock=self._clock
            )
            waiting.until_anyone_lives(self._settled_at)
            with self.database.write() as connection:
                earlier = (
                    None if order.key is None else replays.find(connection, order.key, command.text, model)
                )
                if isinstance(earlier, Confirmation):
                    return earlier
                if earlier is None:
                    plan, ready = self._propose(connection, command)
            if earlier is not None:
                waiting.until_decided(model, earlier.generation, self.settings.prepare_seconds)
                with self.database.read() as connection:
                    found = plans.get(connection, model, earlier.generation)
                assert found is not None
                plan = found.plan
            elif not ready:
                self._prepare(waiting, plan, command)
            confirmed, unconfirmed, note = waiting.until_active(
                model, plan.generation, self.settings.confirm_seconds
            )
        answer = Confirmation(
            model=model,
            generation=plan.generation,
            weights=plan.weights(),
            confirmed=confirmed,
            unconfirmed=unconfirmed,
            took_ms=round(1000 * (time.monotonic() - began), 1),
            note=note,
        )
        if order.key is not None:
            with self.database.write() as connection:
                replays.finish(connection, order.key, answer)
        return answer

    def _propose(self, connection: sa.Connection, command: _Command) -> tuple[Plan, bool]:
        """The next plan, proposed; and activated at once, if nothing has to be loaded for it."""
        model, order = command.model, command.order
        require_model(connection, model)
        if order.expected is not None:
            plans.expect(connection, model, order.expected)
        now = self._clock()
        present = plans.active(connection, model)
        own = command.within is not None or command.beside
        if not own and command.verb != "rollback" and not command.supersede:
            ledger.refuse_beside(connection, model)
        after = command.move(connection, present)
        by_hand = command.within is None and command.verb != "rollback"
        if (
            command.within is None or command.verb != "rollback"
        ):  # a rollout goes back even to an archived one
            _refuse_archived(connection, after)
        gaining = moves.gaining(present, after) if by_hand else []
        for version in gaining:
            gates.require(connection, model, version, override=order.override, who=order.who, now=now)
        if gaining and present is not None:
            freezes.require(connection, model, command.verb, override=order.override, who=order.who, now=now)
        plan = plans.propose(
            connection,
            after,
            command=command.verb,
            who=order.who,
            why=order.why,
            now=now,
            supersede=command.supersede,
            abandoned_before=now - timedelta(seconds=self.settings.prepare_seconds + _ABANDONED_SECONDS),
        )
        if order.key is not None:
            replays.begin(connection, order.key, command.text, plan.generation, now)
        nobody = not any(gateway.live(now) for gateway in fleet(connection, model))
        ready = nobody or (command.verb == "rollback" and self._is_loaded(connection, present, plan, now))
        if ready:
            self._activate(connection, plan, command)
        return plan, ready

    def _is_loaded(self, connection: sa.Connection, present: Plan | None, plan: Plan, now: datetime) -> bool:
        """Whether the gateways hold all of the plan's versions, because they serve or keep them."""
        held = {arm.version for arm in present.arms} if present else set()
        since = now - timedelta(hours=self.settings.rollback_hours)
        held |= {name for name, ended in fallbacks(connection, plan.model)[:1] if ended > since}
        return all(arm.version in held for arm in plan.arms)

    def _prepare(self, waiting: Waiting, plan: Plan, command: _Command) -> None:
        """Waits for the gateways and activates; whatever goes wrong before ends the proposal."""
        try:
            waiting.until_prepared(plan.model, plan.generation, self.settings.prepare_seconds)
            with self.database.write() as connection:
                self._activate(connection, plan, command)
        except BaseException as error:
            reason = str(error) if isinstance(error, FairleadError) else f"failed: {type(error).__name__}"
            # When the database is away the proposal stays behind; the next command finds it abandoned.
            with contextlib.suppress(StoreUnavailable), self.database.write() as connection:
                plans.fail(connection, plan.model, plan.generation, reason)
            raise

    def _activate(self, connection: sa.Connection, plan: Plan, command: _Command) -> None:
        order = command.order
        before = plans.active(connection, plan.model)
        now = self._clock()
        owner = plan.rollout if moves.is_split(plan) else None
        plans.activate(connection, plan.model, plan.generation, owner=owner, now=now)
        self.registry.record_stages(
            connection, plan.model, plan.stages(), plan.generation, who=order.who, why=order.why, at=now
        )
        self.registry.audit_entry(
            connection,
            who=order.who,
            action=command.verb,
            model=plan.model,
            version=plan.stable(),
            why=order.why,
            details={
                "generation": plan.generation,
                "from": before.weights() if before else {},
                "to": plan.weights(),
                **_beside(plan),
            },
        )
        if command.within is not None:
            command.within(connection, plan)
        elif not command.beside:
            ledger.end_by_hand(connection, plan, command.verb, who=order.who, now=now)


def _beside(plan: Plan) -> dict[str, Any]:
    """What is before the plan's split, in short."""
    rules = [{"name": rule.name, "version": rule.version} for rule in plan.rules]
    holdout, layer = plan.holdout and plan.holdout.percent, plan.layer and plan.layer.name
    found = {"rules": rules, "holdout": holdout, "layer": layer}
    return {name: value for name, value in found.items() if value}


def _first(model: str, version: str) -> Plan:
    return moves.start(model, version, salt=_fresh(), rollout=_fresh())


def _fresh() -> str:
    return secrets.token_hex(8)


def _text(verb: str, model: str, *arguments: object) -> str:
    return " ".join([verb, model, *(str(argument) for argument in arguments if argument is not None)])


def _required(model: str, present: Plan | None) -> Plan:
    if present is None:
        raise InvalidPlan(f"{model!r} has no traffic yet.", remedy="Deploy a version directly first.")
    return present


def _archived(connection: sa.Connection, model: str) -> set[str]:
    versions = tables.versions.c
    query = sa.select(versions.version).where(versions.model == model, versions.stage == "archived")
    return set(connection.scalars(query))


def _refuse_archived(connection: sa.Connection, plan: Plan) -> None:
    archived = _archived(connection, plan.model)
    for arm in plan.arms:
        if arm.version in archived:
            raise InvalidPlan(
                f"Version {arm.version!r} of {plan.model!r} is archived.",
                remedy="Set its stage to 'none' or 'staging' first, or choose another version.",
                version=arm.version,
            )
