"""The controller: brings every rollout from where it stands to where it should be, one look after the other.

A rollout's state says what traffic it wants; one whose `generation` is None has not got it yet, whoever
stopped meanwhile. Each look takes the rollout's lease, makes the traffic so, or watches the candidate and
does what the policy decides. Every transition is written together with its evidence, and with the plan where
it made one. Several controllers may run: one attends to a rollout at a time, and what is written on an older
revision is refused.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from fairlead.errors import FairleadError, GenerationConflict, StoreUnavailable
from fairlead.rollouts import ledger, moves, states
from fairlead.rollouts.beside import due_holdouts, end_holdout
from fairlead.rollouts.holds import held
from fairlead.rollouts.judge import judge
from fairlead.rollouts.layers import layer_of
from fairlead.rollouts.ledger import Entry
from fairlead.rollouts.observing import Observer, evidence_of
from fairlead.rollouts.outcome_sums import Ask
from fairlead.rollouts.policy import apply, decide
from fairlead.rollouts.states import Rollout
from fairlead.rollouts.traffic import Order, Traffic
from fairlead.routing import plans
from fairlead.routing.plan import BESIDE, Layer, Plan
from fairlead.stores.database import Database

__all__ = ["Controller"]

logger = logging.getLogger(__name__)

_LEASE = timedelta(seconds=10)
_RENEW_SECONDS = 3.0
_ERROR_SECONDS = 10.0
_AT_ONCE = 8
"""Rollouts that are attended to at the same time: one may wait for gateways that load."""


class Controller:
    """Attends to the rollouts of a database, between `start` and `stop`, about every `seconds`.

    `name` tells controllers apart. `counters` is the folder of the gateways' counters, `ask` asks the log.
    """

    def __init__(
        self,
        database: Database,
        traffic: Traffic,
        counters: Path,
        *,
        name: str,
        ask: Ask | None = None,
        seconds: float = 0.5,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._traffic = traffic
        self._observer = Observer(counters, ask)
        self._name = name
        self._seconds = seconds
        self._clock = clock
        self._stopping = threading.Event()
        self._attending: set[str] = set()
        self._ending: set[str] = set()
        self._erred: dict[str, float] = {}
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="rollout")
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begins to attend."""
        for run in (self._run, self._renew):
            thread = threading.Thread(target=run, name=f"rollouts-{run.__name__}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Ends attending; what is under way ends as the traffic's commands do."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(5.0)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def look(self) -> None:
        """Attends once to every rollout that nobody else attends to, one after the other."""
        for identifier in self._due():
            self._attend(identifier)
        for model in due_holdouts(self._database, self._clock()):
            end_holdout(self._traffic, model, self._clock())

    # --- the loop -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping.wait(self._seconds):
            try:
                for identifier in self._due():
                    if identifier not in self._attending:
                        self._attending.add(identifier)
                        self._pool.submit(self._attend_safely, identifier)
                for model in due_holdouts(self._database, self._clock()):
                    if model not in self._ending:
                        self._ending.add(model)
                        self._pool.submit(self._end_holdout, model)
            except StoreUnavailable as error:
                logger.warning("rollouts wait: %s", error)
            except Exception:
                logger.exception("a look at the rollouts failed")

    def _renew(self) -> None:
        """Keeps the leases of what takes long, such as waiting for gateways."""
        while not self._stopping.wait(_RENEW_SECONDS):
            with contextlib.suppress(StoreUnavailable), self._database.write() as connection:
                for identifier in list(self._attending):
                    now = self._clock()
                    ledger.hold(connection, identifier, self._name, now=now, until=now + _LEASE)

    def _due(self) -> list[str]:
        with self._database.read() as connection:
            return ledger.due(connection, self._name, self._clock())

    def _attend_safely(self, identifier: str) -> None:
        try:
            self._attend(identifier)
        except (StoreUnavailable, GenerationConflict) as error:
            logger.info("rollout %s is looked at again: %s", identifier, error)
        except Exception:
            logger.exception("rollout %s could not be attended to", identifier)
        finally:
            self._attending.discard(identifier)

    def _end_holdout(self, model: str) -> None:
        try:
            end_holdout(self._traffic, model, self._clock())
        except Exception:
            logger.exception("the holdout of %s could not be ended", model)
        finally:
            self._ending.discard(model)

    # --- one rollout ----------------------------------------------------------------------------------------

    def _attend(self, identifier: str) -> None:
        """Takes the rollout as far as it goes at this moment."""
        while not self._stopping.is_set():
            now = self._clock()
            with self._database.write() as connection:
                entry = ledger.hold(connection, identifier, self._name, now=now, until=now + _LEASE)
            if entry is None or not self._step(entry, now):
                return

    def _step(self, entry: Entry, now: datetime) -> bool:
        """One transition, if there is one to make; whether there may be another at once."""
        rollout = entry.rollout
        if rollout.state in ("pending", "preflight") and self._held(rollout, now) is not None:
            return False
        if rollout.state == "pending":
            self._write(entry, states.begin(rollout, now), rollout.note or "It begins.")
        elif rollout.state == "preflight":
            self._preflight(entry, now)
        elif rollout.state == "aborting" or (
            rollout.generation is None and rollout.phase in ("shadow", "canary", "promoting")
        ):
            return self._make_it_so(entry)
        elif rollout.state == "promoting":
            self._write(entry, states.bake(rollout, now), "The candidate has everything.", rebase=True)
        else:
            return self._begin_phase(entry, now) or self._watch(entry, now)
        return True

    def _begin_phase(self, entry: Entry, now: datetime) -> bool:
        """Whether a command beside the split has made a new plan, so that another phase begins with it."""
        rollout = entry.rollout
        with self._database.read() as connection:
            head = plans.head(connection, rollout.model)
        serves = head.active if head else None
        if serves is None or rollout.generation is None or serves <= rollout.generation:
            return False
        reason = "What comes before its split has changed: a new phase begins."
        self._write(entry, states.rephase(rollout, serves, now), reason, rebase=True)
        return True

    def _preflight(self, entry: Entry, now: datetime) -> None:
        rollout = entry.rollout
        with self._database.read() as connection:
            problem = self._traffic.hindrance(connection, rollout.model, rollout.candidate, rollout.stable)
        if problem is None:
            self._write(entry, states.enter(rollout, now), "The candidate may be served.")
        else:
            self._write(entry, states.abort(rollout, now), problem)

    def _held(self, rollout: Rollout, now: datetime) -> str | None:
        """Why a rollout may not begin at the moment."""
        with self._database.read() as connection:
            return held(connection, rollout, now)

    def _make_it_so(self, entry: Entry) -> bool:
        """Moves the traffic to what the state asks for; whether that came about."""
        rollout = entry.rollout

        def within(connection: sa.Connection, plan: Plan) -> None:
            now = self._clock()
            if rollout.state == "aborting":
                after = states.rolled_back(rollout, plan.generation, now)
            else:
                after = states.moved(rollout, plan.generation, now)
            ledger.move(
                connection, entry, after, who=self._name, reason=f"Its traffic is {_shown(plan)}.", now=now,
                baseline=self._observer.baseline(rollout),
            )  # fmt: skip

        def wanted(connection: sa.Connection, present: Plan | None) -> Plan:
            return _wanted(rollout, present, layer_of(connection, rollout.id))

        order = Order(who=ledger.author(rollout), why=f"{rollout.state}, step {rollout.step + 1}")
        verb = "rollback" if rollout.state == "aborting" else "rollout"
        try:
            self._traffic.carry_out(
                rollout.model, verb, wanted, order, within,
                supersede=True,
            )  # fmt: skip
        except _NothingMoved:
            self._write(entry, states.rolled_back(rollout, None, self._clock()), "No traffic had moved.")
        except (StoreUnavailable, GenerationConflict):
            raise
        except FairleadError as error:
            if rollout.state == "aborting":
                logger.error("rollout %s cannot be rolled back yet: %s", rollout.id, error)
                return False
            self._write(entry, states.abort(rollout, self._clock()), str(error))
        return True

    def _watch(self, entry: Entry, now: datetime) -> bool:
        rollout = entry.rollout
        with self._database.read() as connection:
            observation = self._observer.observe(connection, entry, now)
            reason = held(connection, rollout, now)
        judgement = judge(rollout.spec, rollout.present_step, observation)
        decision = decide(rollout, judgement, observation, now, reason)
        after = apply(rollout, decision, now)
        if (after.state, after.step) != (rollout.state, rollout.step):
            self._write(entry, after, decision.reason, evidence_of(observation, judgement))
            return True
        if after.errors > rollout.errors:
            # What cannot be measured is tried again at once, and counted now and then.
            if time.monotonic() < self._erred.get(rollout.id, 0.0) + _ERROR_SECONDS:
                return False
            self._erred[rollout.id] = time.monotonic()
        if after != rollout:
            with self._database.write() as connection:
                ledger.note(connection, entry, after)
        return False

    def _write(
        self,
        entry: Entry,
        after: Rollout,
        reason: str,
        evidence: dict[str, Any] | None = None,
        *,
        rebase: bool = False,
    ) -> None:
        baseline = self._observer.baseline(after) if rebase else None
        with self._database.write() as connection:
            ledger.move(
                connection, entry, after, who=self._name, reason=reason, now=self._clock(), evidence=evidence,
                baseline=baseline,
            )  # fmt: skip
        logger.info("rollout %s of %s: %s, %s", after.id, after.model, after.state, reason)


class _NothingMoved(Exception):
    """A rollout that is aborted has not touched the traffic."""


def _wanted(rollout: Rollout, present: Plan | None, layer: Layer | None) -> Plan:
    """The plan that the rollout's state asks for."""
    if present is None:
        return moves.start(rollout.model, rollout.candidate, salt=rollout.id, rollout=rollout.id)
    if rollout.state == "aborting":
        candidates = {arm.version for arm in present.arms if arm.role not in BESIDE}
        if rollout.stable is None or rollout.candidate not in candidates:
            if present.experiment not in (None, rollout.id):
                # The split of the rollout that this one superseded, which nobody would watch from here on.
                return moves.direct(present, present.stable())
            raise _NothingMoved
        return moves.back(present, rollout.stable, rollout.candidate)
    if rollout.phase == "promoting":
        return moves.direct(present, rollout.candidate)
    step = rollout.present_step
    assert step is not None
    if rollout.phase == "shadow":
        return moves.shadow(present, rollout.candidate, step.mirror, rollout.id, supersede=True)
    split = moves.deploy(present, rollout.candidate, step.weight, rollout.id, layer=layer, supersede=True)
    return msgspec.structs.replace(split, experiment=rollout.id)  # its records say whose exposures they are


def _shown(plan: Plan) -> str:
    return ", ".join(f"{version} {weight:g} %" for version, weight in plan.weights().items())
