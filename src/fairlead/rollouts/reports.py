"""From the data folder to the database: which gateways live on this machine and how far they are."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from fairlead.rollouts.delivery import Failure
from fairlead.serving.folder import DataFolder, FolderWatch, GatewayReport, ModelReport
from fairlead.stores.database import Database
from fairlead.stores.tables import gateway_plans, gateways

__all__ = ["Reports"]

_HEARTBEAT_SECONDS = 1.0
_DEAD_SECONDS = 60.0
_GONE = timedelta(hours=1)
"""A gateway of any machine that was silent for so long is forgotten."""

_Rows = dict[str, dict[str, Any]]


class Reports:
    """Mirrors the gateways' reports into the tables `gateways` and `gateway_plans`."""

    def __init__(
        self,
        database: Database,
        folder: DataFolder,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._folder = folder
        self._clock = clock
        self._watch = FolderWatch(folder.reports)
        self._mirrored: tuple[_Rows, _Rows] | None = None
        self._failures: dict[str, Failure] = {}
        self._next_heartbeat = 0.0

    def mirror(self, failures: Mapping[str, Failure]) -> None:
        """Writes what has changed since the last call, and the heartbeats once a second.

        `failures` are models whose files could not be fetched: no gateway of this machine can load them.
        """
        if not self._watch.changed() and failures == self._failures:
            return
        reports = self._living()
        states = {report.name: _states(report, failures) for report in reports}
        identities = {report.name: _identity(report) for report in reports}
        now = time.monotonic()
        if (identities, states) != self._mirrored or now >= self._next_heartbeat:
            known = self._mirrored[1] if self._mirrored else {}
            self._mirrored = None  # until it is certain what stands there
            with self._database.write() as connection:
                self._forget(connection, set(identities))
                for report in reports:
                    self._write(connection, report, known.get(report.name), states[report.name])
            self._mirrored = (identities, states)
            self._next_heartbeat = now + _HEARTBEAT_SECONDS
        self._failures = dict(failures)

    def _living(self) -> list[GatewayReport]:
        """The reports of gateways that serve; what a dead one left behind is removed after a while."""
        found = []
        for report in self._folder.read_reports():
            if time.time() - report.at > _DEAD_SECONDS and not _is_alive(report.pid):
                self._folder.remove_report(report.name)
            elif not report.draining:
                found.append(report)
        return found

    def _forget(self, connection: sa.Connection, names: set[str]) -> None:
        mine = sa.and_(gateways.c.host == socket.gethostname(), gateways.c.name.not_in(names))
        connection.execute(
            gateways.delete().where(sa.or_(mine, gateways.c.heartbeat_at < self._clock() - _GONE))
        )

    def _write(
        self, connection: sa.Connection, report: GatewayReport, known: _Rows | None, states: _Rows
    ) -> None:
        heartbeat = {"heartbeat_at": datetime.fromtimestamp(report.at, UTC)}
        _put(connection, gateways, {"name": report.name}, _identity(report) | heartbeat)
        if known is None or known.keys() - states.keys():
            connection.execute(gateway_plans.delete().where(gateway_plans.c.gateway == report.name))
            known = {}
        for model, state in states.items():
            if known.get(model) != state:
                key = {"gateway": report.name, "model": model}
                _put(connection, gateway_plans, key, {**state, "at": self._clock()})


def _identity(report: GatewayReport) -> dict[str, Any]:
    return {
        "host": report.host,
        "pid": report.pid,
        "slot": report.slot,
        "address": report.address,
        "started_at": datetime.fromtimestamp(report.started_at, UTC),
    }


def _states(report: GatewayReport, failures: Mapping[str, Failure]) -> _Rows:
    found: _Rows = {}
    for model in sorted({*report.models, *failures}):
        state = report.models.get(model, ModelReport())
        failed, error = state.failed_generation, state.error
        missing = failures.get(model)
        if missing is not None and missing.generation >= failed:
            failed, error = missing.generation, missing.reason
        found[model] = {
            "prepared_generation": state.prepared or None,
            "active_generation": state.active or None,
            "override": state.override,
            "failed_generation": failed or None,
            "error": error,
        }
    return found


def _put(connection: sa.Connection, table: sa.Table, key: dict[str, Any], values: dict[str, Any]) -> None:
    same = sa.and_(*(table.c[name] == value for name, value in key.items()))
    if connection.execute(table.update().where(same).values(**values)).rowcount == 0:
        connection.execute(table.insert().values(**key, **values))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
