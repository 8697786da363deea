"""What a trainer elsewhere may do with its job's token: fetch its rows, say how it goes, and hand in.

The token is the job's own, random, and kept as its digest. It opens these three doors of that job, while its
trainer works, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from fairlead.errors import Forbidden, InvalidRetraining, RetrainingNotFound, RetrainingRefused
from fairlead.registry.registry import Registry
from fairlead.retraining import ledger
from fairlead.retraining.folders import folder_of
from fairlead.retraining.job import Job
from fairlead.serving.folder import DataFolder

__all__ = ["Handing"]

_MOST_ERROR = 2_000


class Handing:
    """The doors of jobs that are worked on elsewhere. Safe for threads."""

    def __init__(self, registry: Registry, folder: DataFolder, clock: Callable[[], datetime]) -> None:
        self._registry = registry
        self._database = registry.database
        self._folder = folder
        self._clock = clock

    def data(self, model: str, identifier: str, token: str) -> Path:
        """The file with the rows that the trainer gets.

        Raises `RetrainingNotFound` where there is no such job, or its rows lie with another control,
        `Forbidden` without its token, and `RetrainingRefused` when its trainer is not waited for.
        """
        with self._database.read() as connection:
            job = self._opened(connection, model, identifier, token)
        if job.state != "running":
            raise _late(job)
        path = folder_of(self._folder, job.id) / "data.parquet"
        if not path.is_file():
            raise RetrainingNotFound(
                f"The rows of retraining {identifier!r} of {model!r} are not here.",
                remedy="They lie where the control runs that began it: ask that one.",
            )
        return path

    def say(self, model: str, identifier: str, token: str, words: bytes) -> Job:
        """Adds to the job's log. Raises as `data` does."""
        with self._database.write() as connection:
            job = self._opened(connection, model, identifier, token)
            if job.state != "running":
                raise _late(job)
            ledger.add_to_log(connection, job.id, words)
        return job

    def hand_in(
        self, model: str, identifier: str, token: str, *, version: str | None, error: str | None
    ) -> Job:
        """The trainer has ended: with a `version` that is registered, or with what went wrong. The same once
        more is answered as the first time, so that it may be sent until an answer comes.

        Raises `InvalidRetraining` for both or neither, `VersionNotFound`, `RetrainingNotFound`, `Forbidden`
        without the job's token, and `RetrainingRefused` when it is not waited for, or another was handed in.
        """
        if (version is None) == (error is None):
            raise InvalidRetraining(
                "A trainer hands in a version, or says what went wrong.",
                remedy="Give one of `version` and `error`.",
            )
        told = None if error is None else f"The trainer said: {error.strip()[:_MOST_ERROR] or 'it failed.'}"
        with self._database.read() as connection:
            job = self._opened(connection, model, identifier, token)
        if version is not None and job.state == "running":
            self._registry.version(model, version)
        with self._database.write() as connection:
            job = self._opened(connection, model, identifier, token)
            if job.state != "running":
                if _is_same(job, version, told):
                    return job
                raise _late(job)
            now = self._clock()
            if told is not None:
                return ledger.end(connection, job, now, state="failed", error=told)
            return ledger.move(connection, job, now, state="registering", version=version, note=None)

    def _opened(self, connection: sa.Connection, model: str, identifier: str, token: str) -> Job:
        job = ledger.get(connection, model, identifier)
        if not ledger.is_token(connection, job.id, token):
            raise Forbidden(
                f"That is no token of retraining {identifier!r}.",
                remedy="Send `Authorization: Bearer` and the `token` that the trainer was told with the job.",
            )
        return job


def _is_same(job: Job, version: str | None, told: str | None) -> bool:
    """Whether that is what has been handed in."""
    if told is not None:
        return job.state == "failed" and job.error == told
    return job.handed_in and job.version == version


def _late(job: Job) -> RetrainingRefused:
    return RetrainingRefused(
        f"The trainer of retraining {job.id} of {job.model!r} is not waited for: it is {job.state}.",
        remedy="End the work. What it has made may be registered and judged by hand.",
    )
