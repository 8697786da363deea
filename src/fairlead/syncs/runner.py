"""Runs syncs: each when its time has come, by one control at a time, its rows written to the prediction log.

Outcomes are in the log before the mark moves. A crash in between reads rows again, and they count once: each
has an `outcome_id`, its own or one made of its content.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from fairlead.errors import FairleadError, InvalidSync, MalformedRequest, StoreUnavailable
from fairlead.predictions.outcomes import LABEL, parse_outcomes
from fairlead.predictions.record import Outcome
from fairlead.predictions.segments import SegmentWriter, frame
from fairlead.registry import audit
from fairlead.registry.lookup import require_model
from fairlead.stores.database import Database
from fairlead.syncs import ledger
from fairlead.syncs.ledger import Held
from fairlead.syncs.source import columns_of, describe, read, source
from fairlead.syncs.sync import Sync, SyncState

__all__ = ["Syncs"]

logger = logging.getLogger(__name__)

_LEASE = timedelta(minutes=5)
"""Longer than a pass takes: its query is stopped after a minute."""
_LOOK_SECONDS = 1.0
_WRITE_ROWS = 1_000


class Syncs:
    """The syncs of a database; between `start` and `stop` it runs those whose time has come.

    Outcomes are written to a folder of their own in `log`. `name` tells controls apart.
    """

    def __init__(
        self,
        database: Database,
        log: Path,
        *,
        name: str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._log = log / "sync"
        self._name = name
        self._clock = clock
        self._writer: SegmentWriter | None = None
        self._running = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._written: dict[str, dict[str, datetime]] = {}

    # --- what people say ------------------------------------------------------------------------------------

    def put(self, sync: Sync, *, who: str) -> SyncState:
        """Makes the sync, or changes the one of that name, once its database has answered.

        Raises `ModelNotFound`, `InvalidName`, and `InvalidSync` for what could never run.
        """
        sync = sync.verify()
        with self._database.read() as connection:
            require_model(connection, sync.model)
        with source(sync) as there:
            columns_of(there, sync)
        now = self._clock()
        with self._database.write() as connection:
            ledger.put(connection, sync, who=who, now=now)
            details = {"sync": sync.name, "every": sync.every}
            audit.append(connection, at=now, who=who, action="sync", model=sync.model, details=details)
            return ledger.get(connection, sync.name)

    def all(self) -> list[SyncState]:
        """All syncs by name."""
        with self._database.read() as connection:
            return ledger.all_of(connection)

    def remove(self, name: str, *, who: str) -> SyncState:
        """Takes a sync away; the outcomes that it has brought stay. Raises `SyncNotFound`."""
        with self._database.write() as connection:
            state = ledger.remove(connection, name)
            audit.append(
                connection, at=self._clock(), who=who, action="unsync", model=state.sync.model,
                details={"sync": name},
            )  # fmt: skip
        return state

    def run_now(self, name: str) -> SyncState:
        """Runs the sync until nothing waits there, and says how it fares. Raises `SyncNotFound`, and
        `InvalidSync` when another control runs it at this moment, or it fails."""
        with self._database.read() as connection:
            ledger.get(connection, name)
        error = self._run(name, all_of_it=True)
        if error is not None:
            raise error
        with self._database.read() as connection:
            return ledger.get(connection, name)

    # --- by itself ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begins to run syncs."""
        self._thread = threading.Thread(target=self._loop, name="syncs", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends it after the pass under way."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(5.0)
        with self._running:
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    def look(self) -> None:
        """Runs every sync whose time has come, once."""
        with self._database.read() as connection:
            names = ledger.due(connection, self._clock())
        for name in names:
            if self._stopping.is_set():
                return
            error = self._run(name, all_of_it=False)
            if error is not None:
                logger.warning("sync %s: %s", name, error)

    def _loop(self) -> None:
        while not self._stopping.wait(_LOOK_SECONDS):
            try:
                self.look()
            except StoreUnavailable as error:
                logger.warning("syncs wait: %s", error)
            except Exception:
                logger.exception("a look at the syncs failed")

    # --- one run --------------------------------------------------------------------------------------------

    def _run(self, name: str, *, all_of_it: bool) -> FairleadError | None:
        """One pass, or as many as it takes; what went wrong."""
        with self._running:
            while True:
                now = self._clock()
                with self._database.write() as connection:
                    held = ledger.hold(connection, name, self._name, now=now, until=now + _LEASE)
                if held is None:
                    return InvalidSync(
                        f"Sync {name!r} is being run by another control.", remedy="Look again in a moment."
                    )
                try:
                    more = self._pass(held)
                except Exception as error:
                    told = (
                        error if isinstance(error, FairleadError) else InvalidSync(f"It failed: {error!r}.")
                    )
                    with self._database.write() as connection:
                        ledger.failed(connection, held, self._name, str(told), now=self._clock())
                    return told
                if not (more and all_of_it):
                    return None

    def _pass(self, held: Held) -> bool:
        """Reads once, writes what is new, moves the mark; whether more waits."""
        sync = held.sync
        with source(sync) as there:
            portion = read(there, sync, held.mark)
        known = self._written.get(sync.name, {})
        outcomes: list[Outcome] = []
        seen: dict[str, datetime] = {}
        refused, problem = 0, None
        for row in portion.rows:
            try:
                outcome = _outcome(sync, row)
            except MalformedRequest as error:
                refused += 1
                problem = problem or f"{describe(row)}: {error.message}"
                continue
            key = (
                f"{outcome.metric}\0{outcome.unit}\0{outcome.request_id}\0{outcome.row}\0{outcome.outcome_id}"
            )
            if key not in known and key not in seen:
                outcomes.append(outcome)
            seen[key] = datetime.fromtimestamp(outcome.at / 1e6, UTC)
        self._write(outcomes)
        # What the next pass may read again need not be written again.
        mark = portion.mark
        oldest = None if mark is None else mark.at - timedelta(seconds=sync.overlap)
        self._written[sync.name] = {
            key: at for key, at in {**known, **seen}.items() if oldest is None or at >= oldest
        }
        with self._database.write() as connection:
            ledger.succeeded(
                connection, held, self._name, mark,
                accepted=len(outcomes), refused=refused, problem=problem, now=self._clock(),
            )  # fmt: skip
        return mark is not None and mark.full

    def _write(self, outcomes: list[Outcome]) -> None:
        if not outcomes:
            return
        if self._writer is None:
            self._writer = SegmentWriter(self._log)
        for first in range(0, len(outcomes), _WRITE_ROWS):
            self._writer.append(*(frame(one) for one in outcomes[first : first + _WRITE_ROWS]))


def _outcome(sync: Sync, row: Mapping[str, Any]) -> Outcome:
    """The outcome in a row. Without an id it gets one made of its content, so that it counts once."""
    event = {name: value for name, value in row.items() if value is not None}
    if "unit" in event and "request_id" in event:
        del event["unit"]  # a request says more
    for name in ("unit", "request_id", "outcome_id"):
        if name in event:
            event[name] = str(event[name])
    value = event.get("value")
    if value is not None and not isinstance(value, str):
        event["value"] = float(value)  # a database's decimals, too
    if "mode" not in event:
        event["mode"] = "set" if isinstance(value, str) or event.get("metric") == LABEL else "add"
    if "outcome_id" not in event:
        content = msgspec.json.encode(sorted(event.items()), enc_hook=str)
        event["outcome_id"] = f"sync-{hashlib.sha256(content).hexdigest()[:32]}"
    body = msgspec.json.encode(event, enc_hook=str)
    (found,) = parse_outcomes(body, model=sync.model, received_at=time.time_ns() // 1000)
    return found
