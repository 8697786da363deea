"""The agent: carries plans from the database to the gateways of its machine, and their reports back.

The gateways need neither it nor the database to go on with what they have; so everything here may fail, wait
and be repeated. It keeps no state of its own: what it knows is in the database and in the data folder.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from contextlib import closing

import msgspec

from fairlead.errors import FairleadError
from fairlead.monitoring.metering import Meter
from fairlead.registry.registry import Registry
from fairlead.rollouts.delivery import Delivery
from fairlead.rollouts.overrides import Overrides
from fairlead.rollouts.reports import Reports
from fairlead.rollouts.traffic import Traffic
from fairlead.serving.folder import DataFolder
from fairlead.settings import Settings
from fairlead.stores.blobs import Blobs
from fairlead.stores.database import Database
from fairlead.stores.watch import Watcher

__all__ = ["Agent", "run_agent"]

logger = logging.getLogger(__name__)

_STEP_SECONDS = 0.01
_LOOK_AGAIN_SECONDS = 1.0
"""Should a commit ever go unheard, it is noticed so much later."""
_SWEEP_SECONDS = 600.0
_PATIENCE_SECONDS = 5.0
"""A new database has no tables until control, which begins at the same time, has made them."""
_METER_SECONDS = 5.0
_FIRST_DELAY, _LONGEST_DELAY = 0.1, 2.0


def run_agent(settings: Settings) -> None:
    """Runs until SIGTERM or SIGINT. Waits for whatever is not there yet: database, schema, gateways."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    Agent(settings).run(stop)


class Agent:
    """The agent of one machine: one loop that looks at the database and the folder in turn."""

    def __init__(self, settings: Settings) -> None:
        self._database = Database(settings.database)
        folder = DataFolder(settings.folder).make()
        registry = Registry(self._database, Blobs(settings.artifacts))
        self._traffic = Traffic(self._database, registry, settings)
        self._delivery = Delivery(registry, folder, settings)
        self._reports = Reports(self._database, folder)
        self._overrides = Overrides(self._traffic, folder)
        self._meter = Meter(self._database, folder)
        self._next_sweep = time.monotonic() + _SWEEP_SECONDS
        self._next_reading = 0.0

    def run(self, stop: threading.Event) -> None:
        """Follows until `stop` is set; says once when database or disk stay away, and when they are back."""
        delay, away_since, told = 0.0, 0.0, False
        while not stop.is_set():
            try:
                with closing(self._database.watch()) as watcher:
                    while not stop.is_set():
                        self._step(watcher, stop)
                        if told:
                            logger.info("following again")
                        delay, told = 0.0, False
            except (FairleadError, OSError, msgspec.MsgspecError) as error:
                now = time.monotonic()
                away_since = away_since if delay else now
                if not told and now - away_since >= _PATIENCE_SECONDS:
                    logger.warning("waiting: %s", error)
                    told = True
                delay = min(_LONGEST_DELAY, max(_FIRST_DELAY, 2 * delay))
                stop.wait(delay)
        self._traffic.stop()
        self._database.close()

    def _step(self, watcher: Watcher, stop: threading.Event) -> None:
        """Brings folder and database in step, then waits for a moment."""
        self._delivery.deliver()
        look_again = time.monotonic() + _LOOK_AGAIN_SECONDS
        while not stop.is_set():
            self._reports.mirror(self._delivery.failures)
            self._overrides.reconcile()
            now = time.monotonic()
            if now >= self._next_sweep:
                self._delivery.files.sweep()
                self._next_sweep = now + _SWEEP_SECONDS
            if now >= self._next_reading:
                self._next_reading = now + _METER_SECONDS
                self._meter.read()
            if watcher.wait(_STEP_SECONDS) or self._delivery.due or now >= look_again:
                return
