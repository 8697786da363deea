"""Retrainings in the database.

What is written on an older revision is refused, so that a job that was cancelled stays so. All functions work
within the caller's transaction; those that write need a writing one.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from fairlead.errors import GenerationConflict, RetrainingNotFound
from fairlead.registry import audit
from fairlead.retraining.job import TERMINAL, Job
from fairlead.retraining.log import clipped
from fairlead.retraining.triggers import Cause
from fairlead.stores.retraining_tables import retraining_tokens, retrainings

__all__ = [
    "active",
    "add",
    "add_to_log",
    "end",
    "ended_since",
    "forget_tokens",
    "get",
    "is_token",
    "issue_token",
    "keep_log",
    "log_of",
    "move",
    "newest",
    "of_model",
    "open_jobs",
]


def add(
    connection: sa.Connection,
    *,
    model: str,
    cause: Cause,
    trainer: str,
    champion: str,
    who: str,
    now: datetime,
) -> Job:
    """Writes a new job, which waits for its turn."""
    number = connection.scalar(
        sa.select(sa.func.max(retrainings.c.number)).where(retrainings.c.model == model)
    )
    identifier = secrets.token_hex(6)
    job = Job(
        id=identifier,
        number=(number or 0) + 1,
        model=model,
        cause=cause,
        trainer=trainer,
        champion=champion,
        version=f"retrained-{now:%Y%m%d}-{identifier[:6]}",
        who=who,
        created_at=now,
    )
    connection.execute(
        retrainings.insert().values(
            id=job.id, number=job.number, model=model, state=job.state, revision=0, body=_text(job), log="",
            created_at=now, updated_at=now,
        )
    )  # fmt: skip
    return job


def get(connection: sa.Connection, model: str, identifier: str) -> Job:
    """The job; raises `RetrainingNotFound`."""
    c = retrainings.c
    body = connection.scalar(sa.select(c.body).where(c.id == identifier, c.model == model))
    if body is None:
        raise RetrainingNotFound(
            f"{model!r} has no retraining {identifier!r}.",
            remedy=f"`fairlead retrain {model} --list` shows them.",
        )
    return msgspec.json.decode(body, type=Job)


def of_model(connection: sa.Connection, model: str, limit: int = 20) -> list[Job]:
    """The model's jobs, newest first."""
    c = retrainings.c
    query = sa.select(c.body).where(c.model == model).order_by(c.number.desc()).limit(limit)
    return [msgspec.json.decode(body, type=Job) for body in connection.scalars(query)]


def newest(connection: sa.Connection, model: str, since: datetime) -> list[Job]:
    """The model's last job, and all that were written since then; newest first."""
    c = retrainings.c
    query = sa.select(c.body).where(c.model == model, c.created_at > since).order_by(c.number.desc())
    found = [msgspec.json.decode(body, type=Job) for body in connection.scalars(query)]
    return found or of_model(connection, model, 1)


def active(connection: sa.Connection, model: str) -> Job | None:
    """The model's job that is not over."""
    c = retrainings.c
    query = sa.select(c.body).where(c.model == model, c.state.not_in(TERMINAL)).limit(1)
    body = connection.scalar(query)
    return None if body is None else msgspec.json.decode(body, type=Job)


def open_jobs(connection: sa.Connection, besides: Collection[str] = ()) -> list[Job]:
    """All jobs that are not over, the oldest first."""
    c = retrainings.c
    query = sa.select(c.body).where(c.state.not_in(TERMINAL), c.id.not_in(besides)).order_by(c.created_at)
    return [msgspec.json.decode(body, type=Job) for body in connection.scalars(query)]


def ended_since(connection: sa.Connection, since: datetime) -> list[Job]:
    """The jobs that have ended since then."""
    c = retrainings.c
    query = sa.select(c.body).where(c.state.in_(TERMINAL), c.updated_at > since)
    return [msgspec.json.decode(body, type=Job) for body in connection.scalars(query)]


def move(connection: sa.Connection, job: Job, now: datetime, **changes: Any) -> Job:
    """Writes the job with these changes; `GenerationConflict` when somebody else has changed it since it was
    read."""
    c = retrainings.c
    if changes.get("state") in TERMINAL:
        changes = {"ended_at": now, **changes}
    after = msgspec.structs.replace(job, **changes)
    written = connection.execute(
        retrainings.update()
        .where(c.id == job.id, c.body == _text(job))
        .values(state=after.state, body=_text(after), revision=c.revision + 1, updated_at=now)
    )
    if not written.rowcount:
        raise GenerationConflict(
            f"Retraining {job.id} of {job.model!r} was changed meanwhile.", remedy="Look at it again."
        )
    return after


def end(connection: sa.Connection, job: Job, now: datetime, **changes: Any) -> Job:
    """Writes that the job is over, and into the audit log what it came to; raises as `move` does."""
    ended = move(connection, job, now, **changes)
    audit.append(
        connection, at=now, who=ended.actor, action="retrained", model=ended.model, version=ended.version,
        why=ended.sentence, details={"retraining": ended.id, "state": ended.state, "ended": ended.ended},
    )  # fmt: skip
    return ended


def issue_token(connection: sa.Connection, identifier: str) -> str:
    """A new token of that job, beside those that it has: one that a trainer was told may still be in use."""
    token = secrets.token_urlsafe(32)
    connection.execute(retraining_tokens.insert().values(digest=_digest(token), retraining=identifier))
    return token


def is_token(connection: sa.Connection, identifier: str, token: str) -> bool:
    """Whether that is a token of that job."""
    c = retraining_tokens.c
    query = sa.select(c.retraining).where(c.digest == _digest(token), c.retraining == identifier)
    return connection.execute(query).first() is not None


def forget_tokens(connection: sa.Connection, before: datetime) -> None:
    """Forgets the tokens of jobs that ended before then. Until then whoever comes too late is told so."""
    c = retrainings.c
    over = sa.select(c.id).where(c.state.in_(TERMINAL), c.updated_at <= before)
    connection.execute(retraining_tokens.delete().where(retraining_tokens.c.retraining.in_(over)))


def add_to_log(connection: sa.Connection, identifier: str, words: bytes) -> None:
    """Adds to what the trainer has said so far; it stays bounded."""
    c = retrainings.c
    before = str(connection.scalar(sa.select(c.log).where(c.id == identifier)))
    keep_log(connection, identifier, clipped(before, words))


def keep_log(connection: sa.Connection, identifier: str, text: str) -> None:
    """Writes what the trainer has said so far."""
    connection.execute(retrainings.update().where(retrainings.c.id == identifier).values(log=text))


def log_of(connection: sa.Connection, model: str, identifier: str) -> str:
    """What the trainer has said; raises `RetrainingNotFound`."""
    get(connection, model, identifier)
    return str(connection.scalar(sa.select(retrainings.c.log).where(retrainings.c.id == identifier)))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def _text(job: Job) -> str:
    return msgspec.json.encode(job).decode()
