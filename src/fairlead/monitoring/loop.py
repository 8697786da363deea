"""The loop that looks at how models do: lookers, each every so often, by one control at a time.

A looker makes findings; what comes of them is for those who are told: alerts, triggers. Each looker has a
thread of its own, so that one that asks the log for long keeps none waiting that looks every second.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol

import msgspec

from fairlead.errors import FairleadError, StoreUnavailable
from fairlead.monitoring.findings import Finding
from fairlead.monitoring.places import Everywhere
from fairlead.stores import leases
from fairlead.stores.database import Database

__all__ = ["LEASE", "Look", "Looker", "Loop", "Told"]

logger = logging.getLogger(__name__)

LEASE = "monitoring"
"""The name of the loop's lease."""
_HELD = timedelta(seconds=10)
_RENEW_SECONDS = 3.0
_WAIT_SECONDS = 0.5


class Looker(Protocol):
    """Whoever looks at something every `seconds`. `name` is unique among the lookers of a loop.

    Other controls may have looked until now: what a looker remembers of earlier looks helps, and is never
    needed.
    """

    name: str
    seconds: float

    def look(self, now: datetime) -> list[Finding]:
        """What is found now, healthy subjects included. What cannot be looked at is a finding, too; a
        `FairleadError` says that nothing could be."""
        ...


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """One look of one looker: what it found, or why it could not look."""

    looker: str
    at: datetime
    findings: tuple[Finding, ...] = ()
    error: str | None = None


Told = Callable[[Look, str], None]
"""Hears of a look, and who holds the loop's lease: to be asked for (`leases.holds`) where it writes."""


class Loop:
    """Lets the lookers look, between `start` and `stop`, while this control has the lease; those at what only
    a machine's own control can see (`places.py`) also while it has not.

    `name` tells controls apart. Whoever is told may be told of two lookers at the same time.
    """

    def __init__(
        self,
        database: Database,
        lookers: Sequence[Looker],
        told: Sequence[Told] = (),
        *,
        name: str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._lookers = tuple(lookers)
        self._told = tuple(told)
        self._name = name
        self._clock = clock
        self._until: datetime | None = None
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begins to look."""
        self._begin(self._keep_lease, "monitoring-lease")
        for looker in self._lookers:
            self._begin(partial(self._run, looker), f"monitoring-{looker.name}")

    def stop(self) -> None:
        """Ends looking, and lets another control begin at once."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(5.0)
        try:
            with self._database.write() as connection:
                leases.give_back(connection, LEASE, self._name)
            for looker in self._lookers:
                if isinstance(looker, Everywhere):
                    looker.leave()
        except StoreUnavailable as error:
            logger.warning("monitoring's lease runs out by itself: %s", error)

    def look(self, looker: Looker) -> Look:
        """Lets it look once, lease or not, and tells those who are told."""
        now = self._clock()
        findings: Sequence[Finding] = ()
        problem = None
        try:
            findings = looker.look(now)
        except FairleadError as error:
            problem = str(error)
        except Exception as error:
            logger.exception("the look at %s failed", looker.name)
            problem = f"It failed: {error!r}."
        look = Look(looker=looker.name, at=now, findings=tuple(findings), error=problem)
        for told in self._told:
            try:
                told(look, self._name)
            except StoreUnavailable as error:
                logger.warning("what was found of %s is not kept: %s", looker.name, error)
            except Exception:
                logger.exception("what was found of %s is not kept", looker.name)
        return look

    def _begin(self, run: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _run(self, looker: Looker) -> None:
        pause = 0.0
        while not self._stopping.wait(pause):
            began = time.monotonic()
            if self._has_lease():
                self.look(looker)
            elif isinstance(looker, Everywhere):
                self._glance(looker)
            else:
                pause = _WAIT_SECONDS
                continue
            took = time.monotonic() - began
            # Whoever takes long rests as long: half of a core at most for each.
            pause = max(looker.seconds - took, took)

    def _glance(self, looker: Everywhere) -> None:
        """Lets it put what it sees here, for the control that tells of it."""
        try:
            looker.glance(self._clock())
        except FairleadError as error:
            logger.warning("what %s sees here is not told: %s", looker.name, error)
        except Exception:
            logger.exception("the look at %s failed", looker.name)

    def _has_lease(self) -> bool:
        until = self._until
        return until is not None and self._clock() < until

    def _keep_lease(self) -> None:
        pause = 0.0
        while not self._stopping.wait(pause):
            now = self._clock()
            try:
                self._until = now + _HELD if self._take(now) else None
            except StoreUnavailable as error:
                logger.warning("monitoring waits: %s", error)
            except Exception:
                logger.exception("monitoring's lease could not be kept")
            pause = _RENEW_SECONDS if self._has_lease() else _WAIT_SECONDS

    def _take(self, now: datetime) -> bool:
        with self._database.read() as connection:
            if not leases.is_free(connection, LEASE, self._name, now):
                return False
        with self._database.write() as connection:
            return leases.take(connection, LEASE, self._name, now=now, until=now + _HELD)
