"""Retraining: causes become jobs, and jobs are taken along, by one control at a time.

A lease says which control acts. It is given up well before it runs out, so that the trainers of a control
that cannot reach the database are ended before another control begins.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import msgspec
import sqlalchemy as sa

from fairlead.errors import (
    InvalidRetraining,
    RetrainingRefused,
    StoreUnavailable,
)
from fairlead.gate.runs import Gates
from fairlead.monitoring.loop import LEASE as MONITORING
from fairlead.monitoring.loop import Look
from fairlead.predictions.ask import IngestClient
from fairlead.registry import audit, stages
from fairlead.registry.lookup import require_model
from fairlead.registry.registry import Registry
from fairlead.retraining import ledger, watching
from fairlead.retraining.folders import folder_of, forget, remove
from fairlead.retraining.handing import Handing
from fairlead.retraining.job import CANCELLABLE, Job
from fairlead.retraining.policy import Policy
from fairlead.retraining.reading import read_policies, read_trainers
from fairlead.retraining.steps import Steps
from fairlead.retraining.triggers import BUDGET_SPAN, Cause, Decision, History, allowed, decide
from fairlead.rollouts import ledger as rollout_ledger
from fairlead.rollouts.commands import Rollouts
from fairlead.routing import plans
from fairlead.serving.folder import DataFolder
from fairlead.settings import Settings
from fairlead.stores import leases

__all__ = ["Retraining", "Trigger"]

logger = logging.getLogger(__name__)

_LEASE = "retraining"
_HELD = timedelta(seconds=20)
_MARGIN = timedelta(seconds=8)
"""So long before the lease runs out it counts as lost: longer than a trainer takes to end."""
_RENEW_SECONDS = 3.0
_LOOK_SECONDS, _STEP_SECONDS = 1.0, 0.25
_AT_ONCE = 8
_SWEPT = timedelta(days=7)
_SELF = "fairlead"


class Trigger(msgspec.Struct, frozen=True, kw_only=True):
    """When a model is retrained and how that stands now: `decision` says what it waits for."""

    policy: Policy
    decision: Decision
    job: Job | None


class Retraining:
    """The retraining of all models that the settings name. Safe for threads. `name` tells controls apart;
    `handing` are the doors of trainers that work elsewhere.

    Raises `InvalidRetraining`, `InvalidGate` or `InvalidRollout` for settings that make no sense.
    """

    def __init__(
        self,
        registry: Registry,
        gates: Gates,
        rollouts: Rollouts,
        ingest: IngestClient,
        folder: DataFolder,
        settings: Settings,
        *,
        name: str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._trainers = read_trainers(settings.trainers)
        self._policies = read_policies(settings.retraining, self._trainers)
        self._registry = registry
        self._database = registry.database
        self._folder = folder
        self.handing = Handing(registry, folder, clock)
        self._name = name
        self._clock = clock
        self._until: datetime | None = None
        self._stopping = threading.Event()
        self._begun = threading.Event()
        self._threads: list[threading.Thread] = []
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="retraining")
        self._attended: set[str] = set()
        self._waiting: dict[str, str] = {}  # models of jobs that have been taken along and wait
        self._lock = threading.Lock()
        self._steps = Steps(
            registry, gates, rollouts, ingest, folder, self._policies, self._trainers,
            admin_url=_address(settings), mine=self._mine, clock=clock,
        )  # fmt: skip

    # --- what people ask ------------------------------------------------------------------------------------

    def ask(self, model: str, *, who: str, why: str = "", force: bool = False) -> Job:
        """Begins a retraining by hand. `force` goes past cooldown and budget, and past nothing else.

        Raises `ModelNotFound`, `InvalidRetraining` for a model that the settings do not name or that has no
        version in production, and `RetrainingRefused` while it may not begin.
        """
        cause = Cause(kind="hand", sentence=why.strip() or f"{who} asked for it.")
        return self._begin(model, cause, who=who, force=force)

    def triggers(self, model: str | None = None) -> list[Trigger]:
        """How the retraining of that model stands, or of all that the settings name, by name. Raises
        `ModelNotFound`."""
        now = self._clock()
        with self._database.read() as connection:
            if model is not None:
                require_model(connection, model)
            chosen = sorted(self._policies) if model is None else [model] * (model in self._policies)
            return [self._trigger(connection, self._policies[name], now) for name in chosen]

    def jobs(self, model: str, limit: int = 20) -> list[Job]:
        """The model's retrainings, newest first. Raises `ModelNotFound`."""
        with self._database.read() as connection:
            require_model(connection, model)
            return ledger.of_model(connection, model, limit)

    def job(self, model: str, identifier: str) -> Job:
        """One of them; raises `RetrainingNotFound`."""
        with self._database.read() as connection:
            return ledger.get(connection, model, identifier)

    def log(self, model: str, identifier: str) -> str:
        """What its trainer has said so far; raises `RetrainingNotFound`."""
        with self._database.read() as connection:
            return ledger.log_of(connection, model, identifier)

    def cancel(self, model: str, identifier: str, *, who: str, why: str = "") -> Job:
        """Ends a retraining that is not rolled out yet; its trainer is stopped, its candidate stays as it is.

        Raises `RetrainingNotFound`, and `RetrainingRefused` once it is over or its rollout has begun.
        """
        now = self._clock()
        with self._database.write() as connection:
            job = ledger.get(connection, model, identifier)
            if job.state not in CANCELLABLE:
                rolling = job.state == "rolling-out"
                raise RetrainingRefused(
                    f"Retraining {identifier} of {model!r} is {job.state}.",
                    remedy=f"End its rollout: `fairlead abort {model}`." if rolling else "",
                )
            done = ledger.move(connection, job, now, state="cancelled", note=None)
            audit.append(
                connection, at=now, who=who, action="cancel-retraining", model=model, why=why,
                details={"retraining": identifier},
            )  # fmt: skip
        return done

    # --- what causes them -----------------------------------------------------------------------------------

    def told(self, look: Look, holder: str) -> None:
        """Hears of a look at how models do, and begins what an alarm asks for. Raises `StoreUnavailable`."""
        with self._database.read() as connection:
            if not watching.changed(connection, self._policies, look.findings):
                return
        with self._database.write() as connection:
            if not leases.holds(connection, MONITORING, holder, look.at):
                return
            changes = watching.changed(connection, self._policies, look.findings)
            watching.note(connection, changes, look.at)
        for model in sorted({model for model, _ in changes}):
            self._consider(model)

    def look(self) -> None:
        """Takes along the jobs that nobody works at, also those that were cancelled while they waited."""
        with self._lock:
            attended, waiting = set(self._attended), dict(self._waiting)
        with self._database.read() as connection:
            jobs = {job.id: job for job in ledger.open_jobs(connection, attended)}
            for identifier in waiting.keys() - jobs.keys() - attended:
                jobs[identifier] = ledger.get(connection, waiting[identifier], identifier)
        for job in jobs.values():
            with self._lock:
                self._attended.add(job.id)
            self._pool.submit(self._attend, job)

    # --- by itself ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begins to look, once this control has the lease."""
        for run in (self._keep_lease, self._loop):
            thread = threading.Thread(target=run, name=f"retraining{run.__name__}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Ends the trainers that work here, and lets another control go on."""
        self._stopping.set()
        self._begun.set()
        for thread in self._threads:
            thread.join(5.0)
        self._pool.shutdown(wait=True, cancel_futures=True)
        try:
            with self._database.write() as connection:
                leases.give_back(connection, _LEASE, self._name)
        except StoreUnavailable as error:
            logger.warning("the lease of retraining runs out by itself: %s", error)

    def _loop(self) -> None:
        considered = 0.0
        while not self._stopping.is_set():
            self._begun.wait(_STEP_SECONDS)
            self._begun.clear()
            if not self._mine():
                continue
            try:
                if time.monotonic() - considered >= _LOOK_SECONDS:
                    for model in sorted(self._policies):
                        self._consider(model)
                    considered = time.monotonic()
                self.look()
            except StoreUnavailable as error:
                logger.warning("retraining waits: %s", error)
            except Exception:
                logger.exception("a look at retraining failed")

    def _keep_lease(self) -> None:
        pause = 0.0
        while not self._stopping.wait(pause):
            now = self._clock()
            try:
                if self._take(now):
                    if self._until is None:
                        self._sweep()
                    self._until = now + _HELD - _MARGIN
                else:
                    self._until = None
            except StoreUnavailable as error:
                logger.warning("the lease of retraining is not renewed: %s", error)
            except Exception:
                logger.exception("the lease of retraining could not be kept")
            pause = _RENEW_SECONDS if self._mine() else _LOOK_SECONDS

    def _take(self, now: datetime) -> bool:
        with self._database.read() as connection:
            if not leases.is_free(connection, _LEASE, self._name, now):
                return False
        with self._database.write() as connection:
            return leases.take(connection, _LEASE, self._name, now=now, until=now + _HELD)

    def _mine(self) -> bool:
        """Whether this control may act."""
        until = self._until
        return until is not None and self._clock() < until and not self._stopping.is_set()

    def _sweep(self) -> None:
        """Takes away what is left of jobs that are over, should control have ended before it could."""
        with self._database.read() as connection:
            kept = {job.id for job in ledger.open_jobs(connection)}
            over = ledger.ended_since(connection, self._clock() - _SWEPT)
        with self._database.write() as connection:
            ledger.forget_tokens(connection, self._clock() - _SWEPT)
        for job in over:
            try:
                forget(self._folder, self._registry.blobs, job)
            except StoreUnavailable as error:
                logger.warning("what retraining %s has held out stays for now: %s", job.id, error)
        top = folder_of(self._folder, "")
        for path in top.iterdir() if top.is_dir() else ():
            if path.name not in kept:
                remove(self._folder, path.name)

    def _attend(self, job: Job) -> None:
        try:
            job = self._steps.go(job)
        except Exception:
            logger.exception("retraining %s of %s could not go on", job.id, job.model)
            self._stopping.wait(_LOOK_SECONDS)
        finally:
            with self._lock:
                self._attended.discard(job.id)
                self._waiting.pop(job.id, None)
                if not job.over:
                    self._waiting[job.id] = job.model

    # --- deciding -------------------------------------------------------------------------------------------

    def _consider(self, model: str) -> None:
        with self._database.read() as connection:
            trigger = self._trigger(connection, self._policies[model], self._clock())
        cause = trigger.decision.cause
        if cause is None:
            return
        try:
            job = self._begin(model, cause, who=_SELF, force=False)
        except (RetrainingRefused, InvalidRetraining) as error:
            logger.info("%s is not retrained: %s", model, error)
        else:
            logger.info("%s is retrained (%s): %s", model, job.id, cause.sentence)

    def _begin(self, model: str, cause: Cause, *, who: str, force: bool) -> Job:
        now = self._clock()
        try:
            with self._database.write() as connection:
                require_model(connection, model)
                policy = self._policies.get(model)
                if policy is None:
                    raise InvalidRetraining(
                        f"The server's settings do not say how {model!r} is retrained.",
                        remedy=f"Add [retraining.{model}] with a trainer to fairlead.toml.",
                    )
                plan = plans.active(connection, model)
                if plan is None:
                    raise InvalidRetraining(
                        f"{model!r} has no version in production that a candidate could be compared with.",
                        remedy="Deploy its first version directly.",
                    )
                history = _history(connection, policy, now)
                if force:
                    history = History(busy=history.busy)
                    policy = msgspec.structs.replace(policy, budget=1)
                decision = allowed(policy, history, cause, now)
                if decision.cause is None:
                    raise RetrainingRefused(
                        f"{model!r} is not retrained now. {decision.sentence}",
                        remedy="" if history.busy else "Ask with force to go past cooldown and budget.",
                    )
                job = ledger.add(
                    connection, model=model, cause=cause, trainer=policy.trainer, champion=plan.stable(),
                    who=who, now=now,
                )  # fmt: skip
                audit.append(
                    connection, at=now, who=who, action="retrain", model=model, why=cause.sentence,
                    details={"retraining": job.id, "cause": cause.kind},
                )  # fmt: skip
            self._begun.set()
            return job
        except sa.exc.IntegrityError as error:
            raise RetrainingRefused(
                f"Another retraining of {model!r} began at this moment.", remedy="Look at that one."
            ) from error

    def _trigger(self, connection: sa.Connection, policy: Policy, now: datetime) -> Trigger:
        history = _history(connection, policy, now)
        findings = watching.alarms_of(connection, policy.model, now)
        decision = decide(policy, history, findings, now)
        return Trigger(policy=policy, decision=decision, job=ledger.active(connection, policy.model))


def _history(connection: sa.Connection, policy: Policy, now: datetime) -> History:
    """The model's past, as far as it matters. What was cancelled before its trainer began never was."""
    jobs = [
        job
        for job in ledger.newest(connection, policy.model, now - BUDGET_SPAN)
        if job.state != "cancelled" or job.begun_at is not None
    ]
    active = ledger.active(connection, policy.model)
    rollout = rollout_ledger.active(connection, policy.model)
    busy = None
    if active is not None:
        busy = f"retraining {active.id} is {active.state}."
    elif rollout is not None:
        busy = f"a rollout of {rollout.rollout.candidate!r} is under way."
    return History(
        begun=tuple(job.created_at for job in jobs),
        ended=max((job.ended_at for job in jobs if job.ended_at is not None), default=None),
        busy=busy,
        since=None if jobs or policy.every is None else _in_production_since(connection, policy.model),
    )


def _in_production_since(connection: sa.Connection, model: str) -> datetime | None:
    """When the version in production came there: a schedule without a past begins then."""
    if not _is_known(connection, model):
        return None
    changes = stages.history(connection, model)
    return max((change.at for change in changes if change.to_stage == "production"), default=None)


def _is_known(connection: sa.Connection, model: str) -> bool:
    return plans.active(connection, model) is not None


def _address(settings: Settings) -> str:
    """Where programs on this machine reach the admin API."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.admin_host, settings.admin_host)
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{settings.admin_port}"
