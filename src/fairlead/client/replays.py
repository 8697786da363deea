"""The replays of the admin API, for its Python client."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

from fairlead.client.paths import json_body, path_of
from fairlead.client.refusals import error_of
from fairlead.client.replayed import ChangeReport, Replayed, ReplayJob
from fairlead.client.session import Call, Session, reading
from fairlead.errors import Cancelled

__all__ = ["ReplayCalls"]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0


class ReplayCalls(Session):
    """Asks versions again what was answered."""

    def replay(self, request_id: str, *, row: int | None = None) -> tuple[Replayed, ...]:
        """Each row of the request again, by the version that answered it, with the features of the log."""
        body = json_body({"request_id": request_id, "row": row})
        path = path_of("predictions", "replay")
        return self.send(Call(method="POST", path=path, body=body, read=reading(tuple[Replayed, ...])))

    def start_replay(
        self,
        model: str,
        against: str,
        *,
        since: datetime | str = "24h",
        until: datetime | None = None,
        limit: int = 10_000,
        where: str = "",
        examples: int = 20,
    ) -> ReplayJob:
        """Begins to ask the version `against` what the model was asked since then: the latest `limit`
        requests on which the SQL condition `where` holds. It goes on by itself; see `replay_job`."""
        body = {
            "version": against,
            "since": since if isinstance(since, str) else since.isoformat(),
            "until": None if until is None else until.isoformat(),
            "limit": limit,
            "where": where,
            "examples": examples,
        }
        path = path_of("models", model, "replays")
        return self.send(Call(method="POST", path=path, body=json_body(body), read=reading(ReplayJob)))

    def replay_job(self, replay: str) -> ReplayJob:
        """How far a replay of traffic is."""
        return self.send(Call(method="GET", path=path_of("replays", replay), read=reading(ReplayJob)))

    def cancel_replay(self, replay: str) -> ReplayJob:
        """Ends a replay of traffic."""
        return self.send(Call(method="DELETE", path=path_of("replays", replay), read=reading(ReplayJob)))

    def replay_report(
        self, replay: str, advance: Callable[[int], None] = lambda records: None
    ) -> ChangeReport:
        """Waits until a replay of traffic has ended, and answers its report. `advance` hears how many records
        have been read. Raises what went wrong there, and `Cancelled` when somebody cancelled it."""
        pause = _FIRST_PAUSE
        while (job := self.replay_job(replay)).state == "running":
            advance(job.records)
            time.sleep(pause)
            pause = min(_LONGEST_PAUSE, 1.5 * pause)
        if job.report is not None:
            return job.report
        if job.error is not None:
            raise error_of(job.error)
        raise Cancelled(f"Replay {replay} was cancelled.", remedy="Start it again.")
