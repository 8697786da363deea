"""Replays that people have asked for: a request again at once, traffic again as a job that goes on beside.

Jobs live in the memory of this process: they change nothing, so what a restart loses can be asked for again.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Literal

import msgspec

from fairlead.errors import FairleadError, Overloaded, ReplayNotFound
from fairlead.evaluation.change_report import ChangeReport
from fairlead.evaluation.replay import Replayed, replay_request
from fairlead.evaluation.traffic import replay_traffic
from fairlead.predictions.ask import IngestClient
from fairlead.registry.registry import Registry
from fairlead.serving.folder import DataFolder

__all__ = ["ReplayJob", "ReplayOrder", "Replays"]

logger = logging.getLogger(__name__)

_AT_ONCE = 2
"""Each replay has a process that computes, beside those that serve."""
_KEPT = 50


class ReplayOrder(msgspec.Struct, frozen=True, kw_only=True):
    """Which requests are replayed, and by which version."""

    model: str
    version: str
    since: datetime
    until: datetime
    limit: int = 10_000
    where: str = ""
    examples: int = 20


class ReplayJob(msgspec.Struct, frozen=True, kw_only=True):
    """How far a replay of traffic is: `records` have been read of at most `order.limit`. Once it is `done` it
    has its `report`; one that `failed` says why in `error` (`code`, `detail`, `remedy`)."""

    id: str
    order: ReplayOrder
    state: Literal["running", "done", "failed", "cancelled"] = "running"
    started_at: datetime
    ended_at: datetime | None = None
    records: int = 0
    report: ChangeReport | None = None
    error: dict[str, str] | None = None


class _Cancelled(Exception):
    """Nobody wants the replay any more."""


class Replays:
    """Runs replays, two at a time. Any thread may use it."""

    def __init__(
        self, registry: Registry, ingest: IngestClient, folder: DataFolder, *, trust_pickle: bool
    ) -> None:
        self._registry = registry
        self._ingest = ingest
        self._folder = folder
        self._trust_pickle = trust_pickle
        self._slots = threading.BoundedSemaphore(_AT_ONCE)
        self._lock = threading.Lock()
        self._jobs: dict[str, ReplayJob] = {}

    def request(self, request_id: str, row: int | None = None) -> list[Replayed]:
        """Each row of the request again: see `replay_request`. `Overloaded` while two others run."""
        with self._slot():
            return replay_request(
                self._registry,
                self._ingest,
                self._folder,
                request_id,
                trust_pickle=self._trust_pickle,
                row=row,
            )

    def start(self, order: ReplayOrder) -> ReplayJob:
        """Begins a replay of traffic, which goes on whether anybody waits for it or not.

        Raises `ModelNotFound` and `VersionNotFound`, and `Overloaded` while two others run.
        """
        name = self._registry.resolve(order.model, order.version)
        job = ReplayJob(
            id=uuid.uuid4().hex,
            order=msgspec.structs.replace(order, version=name),
            started_at=datetime.now(UTC),
        )
        self._take_slot()
        with self._lock:
            self._jobs[job.id] = job
            ended = [held.id for held in self._jobs.values() if held.state != "running"]
            for forgotten in ended[: max(0, len(self._jobs) - _KEPT)]:
                del self._jobs[forgotten]
        threading.Thread(target=self._run, args=(job,), name=f"replay {job.id[:8]}", daemon=True).start()
        return job

    def get(self, identifier: str) -> ReplayJob:
        """The job; `ReplayNotFound` when there is none of that id."""
        with self._lock:
            job = self._jobs.get(identifier)
        if job is None:
            raise ReplayNotFound(
                f"This control knows no replay {identifier!r}.",
                remedy="Start it again; it changed nothing. Control remembers the last fifty that it started,"
                " and forgets them when it restarts; of several controls, ask the one that started it.",
            )
        return job

    def cancel(self, identifier: str) -> ReplayJob:
        """Ends the job unless it has ended; its process goes with the next record."""
        job = self.get(identifier)
        return self._change(job.id, state="cancelled")

    def _run(self, job: ReplayJob) -> None:
        order = job.order
        try:
            report = replay_traffic(
                self._registry,
                self._ingest,
                self._folder,
                order.model,
                order.version,
                order.since,
                order.until,
                trust_pickle=self._trust_pickle,
                limit=order.limit,
                where=order.where,
                examples=order.examples,
                advance=lambda records: self._advance(job.id, records),
            )
            self._change(job.id, state="done", report=report, records=report.records)
        except _Cancelled:
            pass
        except FairleadError as error:
            told = {"code": error.code, "detail": error.message, "remedy": error.remedy}
            self._change(job.id, state="failed", error=told)
        except Exception as error:
            logger.exception("the replay of %s by %s failed", order.model, order.version)
            told = {"code": FairleadError.code, "detail": f"The replay failed: {error!r}.", "remedy": ""}
            self._change(job.id, state="failed", error=told)
        finally:
            self._slots.release()

    def _advance(self, identifier: str, records: int) -> None:
        if self._change(identifier, records=records).state != "running":
            raise _Cancelled

    def _change(self, identifier: str, **changes: object) -> ReplayJob:
        """Changes a job that runs; what has ended stays as it is."""
        with self._lock:
            job = self._jobs[identifier]
            if job.state == "running":
                if changes.get("state"):
                    changes["ended_at"] = datetime.now(UTC)
                job = self._jobs[identifier] = msgspec.structs.replace(job, **changes)
            return job

    @contextmanager
    def _slot(self) -> Iterator[None]:
        self._take_slot()
        try:
            yield
        finally:
            self._slots.release()

    def _take_slot(self) -> None:
        if not self._slots.acquire(blocking=False):
            raise Overloaded(f"{_AT_ONCE} replays are under way.", remedy="Try again when one has ended.")
