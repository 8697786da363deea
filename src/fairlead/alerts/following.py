"""Takes `alerts.toml` while control runs: when the file changes, or when it is told to (SIGHUP).

A file that cannot be followed changes nothing: what was in force before stays so, and it is told why.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from fairlead.alerts.reading import Config, path_of, read_file
from fairlead.errors import InvalidAlerts

__all__ = ["Following", "Source"]

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0

_Signature = tuple[int, int, int] | None


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where the rules that are in force come from: the file, since when they are in force, and what is wrong
    with the file as it is now, where something is."""

    path: str
    taken_at: datetime
    problem: str | None = None


class Following:
    """The configuration in force, from the file of that name, or `alerts.toml` in the working folder. `taken`
    hear of each that comes into force later. Raises `InvalidAlerts` for a file that cannot be followed from
    the beginning.
    """

    def __init__(self, named: str, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._named = named
        self._path = path_of(named)
        self._clock = clock
        self._seen = self._followed = _signature(self._path)
        self._config = read_file(named)
        self._source = Source(path=str(self._path.absolute()), taken_at=clock())
        self._taken: tuple[Callable[[Config], None], ...] = ()
        self._asked = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="alerts-file", daemon=True)

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self._config

    @property
    def source(self) -> Source:
        """Where it comes from, and whether the file is followed."""
        return self._source

    def start(self, *taken: Callable[[Config], None]) -> None:
        """Begins to look at the file."""
        self._taken = taken
        self._thread.start()

    def stop(self) -> None:
        """Ends looking."""
        self._stopping.set()
        self._asked.set()
        self._thread.join(5.0)

    def ask(self) -> None:
        """The file is read again at once, changed or not. May be called by a signal handler."""
        self._asked.set()

    def look(self, *, asked: bool = False) -> None:
        """Takes the file where it has changed, and stood still from one look to the next: nobody is in the
        middle of writing it. When `asked`, in any case."""
        found = _signature(self._path)
        still, self._seen = found == self._seen, found
        if not asked and (not still or found == self._followed):
            return
        self._followed = found
        try:
            config = read_file(self._named)
        except InvalidAlerts as error:
            self._source = msgspec.structs.replace(self._source, problem=str(error))
            logger.error("%s is not followed, what was in force stays so: %s", self._path, error)
            return
        self._config = config
        self._source = Source(path=self._source.path, taken_at=self._clock())
        for taken in self._taken:
            taken(config)
        logger.info("%s is followed from now on: %d rules", self._path, len(config.rules))

    def _run(self) -> None:
        while not self._stopping.is_set():
            asked = self._asked.wait(_LOOK_SECONDS)
            self._asked.clear()
            if self._stopping.is_set():
                return
            try:
                self.look(asked=asked)
            except Exception:
                logger.exception("%s could not be looked at", self._path)


def _signature(path: Path) -> _Signature:
    """What changes with the file; None where there is none."""
    try:
        held = path.stat()
    except OSError:
        return None
    return held.st_mtime_ns, held.st_size, held.st_ino
