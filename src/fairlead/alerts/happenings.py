"""Lookers at what is no number of a model: gateways that are gone, rollouts and gates that ended badly, and
whether the prediction log is read."""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import sqlalchemy as sa

from fairlead.errors import FairleadError
from fairlead.monitoring.findings import Finding, Kind
from fairlead.predictions.ask import IngestClient
from fairlead.rollouts.fleet import Gateway, fleet
from fairlead.rollouts.states import Rollout
from fairlead.stores.database import Database
from fairlead.stores.tables import gate_runs, rollout_events, rollouts

__all__ = ["Happenings", "LogHealth"]

_LATELY = timedelta(days=1)
_LAG_SECONDS = 30.0
_LEAST_SHARE, _LEAST_BYTES = 0.05, 2 * 2**30
_GATE_BAD = ("failed", "error")
_GATE_GOOD = ("passed", "overridden")


class Happenings:
    """Looks at gateways, and at the latest rollout and gate of each model within a day. `controls` is how the
    names of controls begin: what a person has ended needs no alert."""

    name = "happenings"
    seconds = 2.0

    def __init__(self, database: Database, controls: str = "control-") -> None:
        self._database = database
        self._controls = controls

    def look(self, now: datetime) -> list[Finding]:
        """All of them, those that are well included."""
        with self._database.read() as connection:
            return [
                *_gateways(fleet(connection), now),
                *self._rollouts(connection, now),
                *_gates(connection, now),
            ]

    def _rollouts(self, connection: sa.Connection, now: datetime) -> list[Finding]:
        c, e = rollouts.c, rollout_events.c
        query = (
            sa.select(c.body, e.who, e.reason, e.at)
            .join(rollout_events, sa.and_(e.rollout == c.id, e.revision == c.revision))
            .where(c.updated_at > now - _LATELY)
            .order_by(c.created_at)
        )
        latest = {}
        for row in connection.execute(query):
            rollout = msgspec.json.decode(row.body, type=Rollout)
            latest[rollout.model] = (rollout, row)
        found = []
        for model, (rollout, row) in latest.items():
            by_itself = row.who.startswith(self._controls)
            bad = rollout.state in ("paused", "aborting", "rolled_back") and by_itself
            told = f"Rollout {rollout.id} of {rollout.candidate} is {rollout.state.replace('_', ' ')}"
            found.append(
                _finding(
                    "rollout", rollout.id, bad, f"{told}: {row.reason}" if bad else f"{told}.", row.at, now,
                    model=model, version=rollout.candidate,
                )
            )  # fmt: skip
        return found


class LogHealth:
    """Looks at how far ingest is behind the log, and at the room on the disk of that folder."""

    name = "ingest"
    seconds = 5.0

    def __init__(self, ingest: IngestClient, folder: Path) -> None:
        self._ingest = ingest
        self._folder = folder

    def look(self, now: datetime) -> list[Finding]:
        """Whether it answers, lags or is in trouble, and whether the disk has room."""
        return [self._lag(now), self._disk(now)]

    def _lag(self, now: datetime) -> Finding:
        try:
            status = self._ingest.call("status")
        except FairleadError as error:
            return _finding("ingest", "lag", True, error.message, now, now)
        lag, trouble = float(status["lag_seconds"]), status["trouble"]
        told = trouble or f"It is {lag:.0f} s behind the log; {_LAG_SECONDS:.0f} s are borne."
        found = _finding("ingest", "lag", bool(trouble) or lag > _LAG_SECONDS, told, now, now)
        return msgspec.structs.replace(found, measure="seconds", value=lag, threshold=_LAG_SECONDS)

    def _disk(self, now: datetime) -> Finding:
        usage = shutil.disk_usage(self._folder)
        share = usage.free / usage.total if usage.total else 0.0
        bad = share < _LEAST_SHARE and usage.free < _LEAST_BYTES
        told = f"The disk of {self._folder} has {usage.free / 2**30:,.1f} GiB free ({share:.1%})."
        found = _finding("ingest", "disk", bad, told, now, now)
        return msgspec.structs.replace(found, measure="free-share", value=share, threshold=_LEAST_SHARE)


def _gateways(known: list[Gateway], now: datetime) -> list[Finding]:
    """One finding per place of a gateway: whoever took a dead one's place lives for both."""
    newest: dict[tuple[str, int], Gateway] = {}
    for gateway in sorted(known, key=lambda one: one.started_at):
        newest[gateway.host, gateway.slot] = gateway
    found = []
    for (host, slot), gateway in sorted(newest.items()):
        lives = gateway.live(now)
        silent = (now - gateway.heartbeat_at).total_seconds()
        told = (
            f"Gateway {slot} of {host} was heard of {silent:.0f} s ago."
            if not lives
            else f"Gateway {slot} of {host} lives."
        )
        found.append(_finding("gateways", f"{host}/{slot}", not lives, told, gateway.heartbeat_at, now))
    return found


def _gates(connection: sa.Connection, now: datetime) -> list[Finding]:
    c = gate_runs.c
    query = (
        sa.select(c.id, c.model, c.version, c.state, c.reason, c.ended_at)
        .where(c.ended_at > now - _LATELY, c.state.in_((*_GATE_BAD, *_GATE_GOOD)))
        .order_by(c.number)
    )
    latest = {(row.model, row.version): row for row in connection.execute(query)}
    found = []
    for row in latest.values():
        told = f"The gate of {row.version} has {row.state}." if row.state != "error" else str(row.reason)
        bad = row.state in _GATE_BAD
        found.append(
            _finding("gate", row.version, bad, told, row.ended_at, now, model=row.model, version=row.version)
        )
    return found


def _finding(
    kind: Kind,
    subject: str,
    bad: bool,
    sentence: str,
    start: datetime,
    end: datetime,
    *,
    model: str = "",
    version: str | None = None,
) -> Finding:
    return Finding(
        model=model, version=version, kind=kind, subject=subject, status="alarm" if bad else "ok",
        sentence=sentence, start=start, end=end,
    )  # fmt: skip
