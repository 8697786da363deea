"""The syncs of outcomes of the admin API, for its Python client."""

from __future__ import annotations

from datetime import datetime

import msgspec

from fairlead.client.paths import json_body, path_of
from fairlead.client.session import Call, Session, reading

__all__ = ["OutcomeSync", "OutcomeSyncState", "SyncCalls"]


class OutcomeSync(msgspec.Struct, frozen=True, kw_only=True):
    """A query, the place where its database's URL lies, and how often it runs, in seconds."""

    name: str
    model: str
    sql: str
    every: float
    url_env: str | None = None
    url_file: str | None = None
    overlap: float = 0.0


class OutcomeSyncState(msgspec.Struct, frozen=True, kw_only=True):
    """A sync and how it fares: the time of the latest row read, rows accepted and refused, and what went
    wrong."""

    sync: OutcomeSync
    state: str
    watermark: datetime | None
    next_at: datetime
    last_run_at: datetime | None
    last_ok_at: datetime | None
    accepted: int
    refused: int
    failures: int
    problem: str | None
    error: str | None
    created_at: datetime
    who: str


class SyncCalls(Session):
    """Makes, runs and removes syncs of outcomes."""

    def syncs(self) -> tuple[OutcomeSyncState, ...]:
        """All syncs by name."""
        path = path_of("outcomes", "syncs")
        return self.send(Call(method="GET", path=path, read=reading(tuple[OutcomeSyncState, ...])))

    def sync_outcomes(
        self,
        name: str,
        *,
        model: str,
        sql: str,
        every: float = 900.0,
        url_env: str | None = None,
        url_file: str | None = None,
        overlap: float = 600.0,
    ) -> OutcomeSyncState:
        """Reads outcomes of the model by that query from now on, every so many seconds. The database's URL
        lies in the environment variable `url_env` of control, or in the file `url_file` on its machine."""
        body = {
            "model": model,
            "sql": sql,
            "every": every,
            "url_env": url_env,
            "url_file": url_file,
            "overlap": overlap,
        }
        path = path_of("outcomes", "syncs", name)
        read = reading(OutcomeSyncState)
        return self.send(Call(method="PUT", path=path, body=json_body(body), read=read))

    def run_sync(self, name: str) -> OutcomeSyncState:
        """Runs a sync now, until nothing waits there."""
        path = path_of("outcomes", "syncs", name, "run")
        return self.send(Call(method="POST", path=path, read=reading(OutcomeSyncState)))

    def remove_sync(self, name: str) -> OutcomeSyncState:
        """Takes a sync away; the outcomes that it has brought stay."""
        path = path_of("outcomes", "syncs", name)
        return self.send(Call(method="DELETE", path=path, read=reading(OutcomeSyncState)))
