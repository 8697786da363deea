"""The way of a retraining, step by step. Each step is written before the next begins, so that whoever takes
the job over goes on from there; only a trainer whose server ended begins anew, and once at most.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import msgspec

from fairlead.errors import (
    DeadlineExceeded,
    FairleadError,
    Frozen,
    GenerationConflict,
    InvalidRetraining,
    RolloutInProgress,
    StoreUnavailable,
    VersionNotFound,
)
from fairlead.gate.runs import Data, Gates
from fairlead.predictions.ask import IngestClient
from fairlead.registry.registry import Registry
from fairlead.registry.versions import Version
from fairlead.retraining import ledger
from fairlead.retraining.folders import forget
from fairlead.retraining.job import Job
from fairlead.retraining.log import Log
from fairlead.retraining.policy import Policy, Trainer
from fairlead.retraining.reading import HELD_OUT, gate_of, plan_of
from fairlead.retraining.task import Task
from fairlead.retraining.training import train
from fairlead.retraining.webhook import call
from fairlead.rollouts.commands import Rollouts
from fairlead.rollouts.traffic import Order
from fairlead.routing import plans
from fairlead.serving.folder import DataFolder

__all__ = ["Steps"]

logger = logging.getLogger(__name__)

_LOG_SECONDS = 2.0
_MOST_ATTEMPTS = 2
_SKEW = timedelta(seconds=1)


class _Gone(Exception):
    """This control has the job no more: it was cancelled, or another one attends to it."""


class Steps:
    """Takes jobs along. `mine` tells whether this control may go on with jobs at all."""

    def __init__(
        self,
        registry: Registry,
        gates: Gates,
        rollouts: Rollouts,
        ingest: IngestClient,
        folder: DataFolder,
        policies: dict[str, Policy],
        trainers: dict[str, Trainer],
        *,
        admin_url: str,
        mine: Callable[[], bool],
        clock: Callable[[], datetime],
    ) -> None:
        self._registry = registry
        self._database = registry.database
        self._gates = gates
        self._rollouts = rollouts
        self._ingest = ingest
        self._folder = folder
        self._policies = policies
        self._trainers = trainers
        self._admin_url = admin_url
        self._mine = mine
        self._clock = clock
        self._training = threading.Lock()

    def go(self, job: Job) -> Job:
        """Takes the job along until it is over, has to wait, or this control has it no more; how it stands.
        Nobody works while a job waits: it is to be taken along again after a while."""
        steps: dict[str, Callable[[Job], Job]] = {
            "queued": self._train,
            "running": self._under_way,
            "registering": self._registered,
            "gating": self._gate,
            "rolling-out": self._roll_out,
        }
        try:
            while not job.over:
                self._require_mine(job)
                try:
                    before, job = job, steps[job.state](job)
                    if job == before:
                        return job
                except StoreUnavailable as error:
                    logger.warning("retraining %s of %s waits: %s", job.id, job.model, error)
                    return job
                except GenerationConflict:
                    job = self._read(job)
                except FairleadError as error:
                    self._require_mine(job)
                    job = self._failed(job, error)
        except _Gone:
            job = self._read(job)
        if job.over:
            forget(self._folder, self._registry.blobs, job)
        return job

    # --- the steps ------------------------------------------------------------------------------------------

    def _train(self, job: Job) -> Job:
        """One trainer at a time works on this machine."""
        # Arrow comes into memory with the first retraining: most controls never have one.
        from fairlead.retraining.rows import prepare

        if not self._training.acquire(blocking=False):
            return job
        try:
            policy, trainer = self._policy(job), self._trainer(job)
            champion = self._champion(job.model)
            contract = self._registry.spec(job.model, champion).contract
            gate_of(policy, contract.output.kind, "label")  # refused before a trainer works for nothing
            job = msgspec.structs.replace(job, champion=champion)
            made = prepare(
                job, policy, contract, self._ingest, self._registry.blobs, self._folder, self._clock(),
                self._admin_url,
            )  # fmt: skip
            if job.rows is not None and job.rows.held_digest != made.rows.held_digest:
                self._registry.blobs.remove(job.rows.held_digest)  # of the attempt before
            now = self._clock()
            job = self._write(
                job, state="running", champion=champion, rows=made.rows, attempt=job.attempt + 1,
                begun_at=job.begun_at or now, note=None,
            )  # fmt: skip
            if trainer.webhook is not None:
                return self._call(job, trainer, made.task)
            log = Log()
            kept = _Every(_LOG_SECONDS)

            def wanted() -> bool:
                if kept.due():
                    self._keep_log(job, log)
                    return self._is_mine(job)
                return self._mine()

            try:
                version = train(trainer, made.task, log, wanted)
            finally:
                self._keep_log(job, log)
            self._require_mine(job)
            return self._write(job, state="registering", version=version)
        finally:
            self._training.release()

    def _call(self, job: Job, trainer: Trainer, task: Task) -> Job:
        """Others may train here while the webhook works."""
        with self._database.write() as connection:
            token = ledger.issue_token(connection, job.id)

        def say(words: str) -> None:
            try:
                with self._database.write() as connection:
                    ledger.add_to_log(connection, job.id, words.encode())
            except StoreUnavailable as error:
                logger.warning("what the webhook of retraining %s says is lost: %s", job.id, error)

        call(trainer, task, token, say, lambda: self._is_mine(job) and not self._read(job).handed_in)
        self._require_mine(job)
        return self._write(job, called_at=self._clock())

    def _under_way(self, job: Job) -> Job:
        """Its trainer works elsewhere, or ended with the control that ran it."""
        if job.called_at is not None:
            return self._wait(job, job.called_at)
        if self._version(job) is not None:
            return self._write(job, state="registering", note=None)  # it had registered what it made
        if job.attempt >= _MOST_ATTEMPTS:
            told = f"The server ended under its trainer {job.attempt} times."
            return self._end(job, state="failed", error=told)
        return self._write(job, state="queued", note="The server ended under its trainer: it begins anew.")

    def _wait(self, job: Job, since: datetime) -> Job:
        """Whoever works elsewhere hands in by itself (`handing.py`)."""
        trainer = self._trainer(job)
        if self._clock() > since + timedelta(seconds=trainer.seconds):
            raise DeadlineExceeded(
                f"Trainer {trainer.name!r} has handed in nothing within {trainer.seconds:g} s.",
                remedy=f"Look there, or raise trainers.{trainer.name}.seconds.",
            )
        return self._read(job)

    def _registered(self, job: Job) -> Job:
        """The version that the trainer names is there, and was not before."""
        version = self._version(job)
        if version is None:
            raise InvalidRetraining(
                f"The trainer ended, and {job.model!r} has no version {job.version!r}.",
                remedy="Let it register its model under FAIRLEAD_JOB's `version`, or write the name of "
                "another into the file `version` of its folder.",
            )
        assert job.begun_at is not None
        if version.created_at < job.begun_at - _SKEW:
            raise InvalidRetraining(
                f"The trainer named {job.version!r}, which was registered before it began.",
                remedy="Let it register the model that it has trained.",
            )
        return self._write(job, state="gating", note=None)

    def _gate(self, job: Job) -> Job:
        from fairlead.retraining.data import target_beside

        assert job.rows is not None
        if job.gate is None:
            contract = self._registry.spec(job.model, job.champion).contract
            target = target_beside(contract.names)
            spec = gate_of(self._policy(job), contract.output.kind, target)
            run = self._gates.run(
                job.model, job.version, spec, Data(sha256=job.rows.held_digest, name=HELD_OUT),
                against=job.champion, who=job.actor, why=job.cause.sentence,
            )  # fmt: skip
            return self._write(job, gate=run.id)
        run = self._gates.get(job.model, job.gate)
        if not run.over:
            return job
        match run.state:
            case "passed" | "overridden":
                return self._write(job, state="rolling-out")
            case "interrupted":
                return self._write(job, gate=None)
            case "failed":
                return self._lost(job, run.report.summary if run.report else None)
        raise InvalidRetraining(f"The gate could not be carried out: {run.reason}", remedy="")

    def _lost(self, job: Job, summary: str | None) -> Job:
        if self._policy(job).losers == "archive" and not self._is_archived(job):
            why = f"Retraining {job.id}: {summary or 'it did not pass its gate.'}"
            self._registry.archive(job.model, job.version, job.actor, why)
        return self._end(job, state="done", ended="lost", note=summary)

    def _is_archived(self, job: Job) -> bool:
        """As it is where a control ended between the two steps of the end."""
        return self._registry.version(job.model, job.version).stage == "archived"

    def _roll_out(self, job: Job) -> Job:
        if job.rollout is None:
            order = Order(who=job.actor, why=job.cause.sentence, key=f"retraining-{job.id}")
            try:
                begun = self._rollouts.start(job.model, job.version, plan_of(self._policy(job)), order)
            except (Frozen, RolloutInProgress) as error:
                if job.note != error.message:
                    job = self._write(job, note=error.message)
                return job
            return self._write(job, rollout=begun.rollout.id, note=None)
        state = self._rollouts.get(job.model, job.rollout).entry.rollout.state
        if state not in ("succeeded", "rolled_back", "superseded"):
            return job
        if state != "succeeded":
            return self._end(job, state="done", ended="rolled-back")
        promoted = self._champion(job.model) == job.version
        return self._end(job, state="done", ended="promoted" if promoted else "kept")

    # --- what they rest on ----------------------------------------------------------------------------------

    def _policy(self, job: Job) -> Policy:
        if job.model not in self._policies:
            raise InvalidRetraining(
                f"The settings say no more how {job.model!r} is retrained.",
                remedy=f"Put [retraining.{job.model}] back, or leave it.",
            )
        return self._policies[job.model]

    def _trainer(self, job: Job) -> Trainer:
        return self._trainers[self._policy(job).trainer]

    def _champion(self, model: str) -> str:
        with self._database.read() as connection:
            plan = plans.active(connection, model)
        if plan is None:
            raise InvalidRetraining(
                f"{model!r} has no version in production that a candidate could be compared with.",
                remedy="Deploy its first version directly.",
            )
        return plan.stable()

    def _version(self, job: Job) -> Version | None:
        try:
            return self._registry.version(job.model, job.version)
        except VersionNotFound:
            return None

    def _keep_log(self, job: Job, log: Log) -> None:
        try:
            with self._database.write() as connection:
                ledger.keep_log(connection, job.id, log.text())
        except StoreUnavailable as error:
            logger.warning("the log of retraining %s is not kept now: %s", job.id, error)

    def _is_mine(self, job: Job) -> bool:
        if not self._mine():
            return False
        try:
            with self._database.read() as connection:
                return not ledger.get(connection, job.model, job.id).over
        except StoreUnavailable:
            return True  # the lease says when it is too late

    def _require_mine(self, job: Job) -> None:
        if not self._is_mine(job):
            raise _Gone

    def _write(self, job: Job, **changes: Any) -> Job:
        with self._database.write() as connection:
            held = ledger.get(connection, job.model, job.id)
            if held.over:
                raise _Gone
            return ledger.move(connection, held, self._clock(), **changes)

    def _read(self, job: Job) -> Job:
        with self._database.read() as connection:
            return ledger.get(connection, job.model, job.id)

    def _failed(self, job: Job, error: FairleadError) -> Job:
        """Ends it, unless a trainer elsewhere has handed in at that very moment."""
        with self._database.write() as connection:
            held = ledger.get(connection, job.model, job.id)
            if held.over or (held.handed_in and not job.handed_in):
                return held
            ended = ledger.end(connection, held, self._clock(), state="failed", error=str(error))
        logger.info("retraining %s of %s: %s", job.id, job.model, ended.sentence)
        return ended

    def _end(self, job: Job, **changes: Any) -> Job:
        with self._database.write() as connection:
            held = ledger.get(connection, job.model, job.id)
            if held.over:
                raise _Gone
            ended = ledger.end(connection, held, self._clock(), **changes)
        logger.info("retraining %s of %s: %s", job.id, job.model, ended.sentence)
        return ended


class _Every:
    """Tells every so many seconds that it is time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last = time.monotonic()

    def due(self) -> bool:
        now = time.monotonic()
        if now - self._last < self._seconds:
            return False
        self._last = now
        return True
