"""Delivers the messages that wait: a thread per channel, so that one that hangs keeps no other waiting.

A message is taken for a moment, sent under its key, and marked as delivered. A crash in between sends it
again under the same key: a receiver that honours keys gets each once, and none is lost.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

from fairlead.alerts import ledger
from fairlead.alerts.messages import headline, trial
from fairlead.alerts.reading import Config
from fairlead.errors import AlertNotFound, DeliveryFailed, StoreUnavailable
from fairlead.stores.database import Database

__all__ = ["Deliveries"]

logger = logging.getLogger(__name__)

_HELD = timedelta(seconds=60)
"""Longer than any channel takes for a message."""
_WAIT_SECONDS = 1.0
_TIDY = timedelta(hours=1)


class Deliveries:
    """Delivers between `start` and `stop`. `name` tells controls apart; several may deliver."""

    def __init__(
        self,
        database: Database,
        config: Config,
        *,
        name: str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._config = config
        self._name = name
        self._clock = clock
        self._stopping = threading.Event()
        self._wakers: dict[str, threading.Event] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._started = False
        self._tidied_at: datetime | None = None

    @property
    def config(self) -> Config:
        """Who is told of what, and where."""
        return self._config

    def start(self) -> None:
        """Begins to deliver."""
        self._started = True
        self._run_all()

    def follow(self, config: Config) -> None:
        """From here on the channels are these; what waits for one that is none of them waits on."""
        self._config = config
        if self._started and not self._stopping.is_set():
            self._run_all()
        self.wake()

    def _run_all(self) -> None:
        for channel in self._config.channels:
            thread = self._threads.get(channel)
            if thread is None or not thread.is_alive():
                self._wakers.setdefault(channel, threading.Event())
                self._threads[channel] = threading.Thread(
                    target=partial(self._run, channel), name=f"alerts-{channel}", daemon=True
                )
                self._threads[channel].start()

    def stop(self) -> None:
        """Ends delivering; what waits is delivered by whoever starts next."""
        self._stopping.set()
        self.wake()
        for thread in list(self._threads.values()):
            thread.join(5.0)

    def wake(self) -> None:
        """There is something to deliver."""
        for waker in list(self._wakers.values()):
            waker.set()

    def deliver(self, channel: str) -> int:
        """Delivers what waits for the channel; how many messages it tried."""
        tried = 0
        while not self._stopping.is_set():
            now = self._clock()
            with self._database.read() as connection:
                found = self._config.channels.get(channel)
                if found is None or not ledger.waits(connection, channel, now):
                    return tried
            with self._database.write() as connection:
                delivery = ledger.claim(connection, channel, self._name, now=now, until=now + _HELD)
            if delivery is None:
                return tried
            tried += 1
            try:
                found.send(delivery.message, delivery.id, delivery.created_at, self._config.targets)
            except DeliveryFailed as error:
                logger.warning("alert %r did not reach %s: %s", headline(delivery.message), channel, error)
                with self._database.write() as connection:
                    ledger.failed(connection, delivery, str(error), self._clock())
            else:
                with self._database.write() as connection:
                    ledger.delivered(connection, delivery, self._clock())
        return tried

    def try_out(self, channel: str) -> str:
        """Sends a trial message at once, without the queue; what it was. Raises `AlertNotFound` for a channel
        that there is not, and `DeliveryFailed`."""
        found = self._config.channels.get(channel)
        if found is None:
            raise AlertNotFound(
                f"There is no channel {channel!r}.",
                remedy=f"There are {', '.join(self._config.channels)}; alerts.toml makes others.",
            )
        now = self._clock()
        message = trial(channel, now)
        found.send(message, f"trial-{int(now.timestamp() * 1e6):x}", now, self._config.targets)
        return headline(message)

    def _run(self, channel: str) -> None:
        waker = self._wakers[channel]
        while not self._stopping.is_set() and channel in self._config.channels:
            waker.clear()
            try:
                self.deliver(channel)
                self._tidy()
            except StoreUnavailable as error:
                logger.warning("alerts wait: %s", error)
            except Exception:
                logger.exception("messages for %s could not be delivered", channel)
            waker.wait(_WAIT_SECONDS)

    def _tidy(self) -> None:
        now = self._clock()
        if self._tidied_at is not None and now - self._tidied_at < _TIDY:
            return
        self._tidied_at = now
        with self._database.write() as connection:
            given_up = ledger.tidy(connection, now)
        for one in given_up:
            logger.error("%s never reached %s: %s", headline(one.message), one.channel, one.error)
