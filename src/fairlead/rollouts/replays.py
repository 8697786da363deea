"""Idempotency keys: a command that is repeated under its key is not carried out again.

The key is noted together with the proposal, so that a repetition finds it even after a crash, and gets its
answer when the command has succeeded. A command that failed moved nothing and may run again.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec
import sqlalchemy as sa

from fairlead.errors import MalformedRequest
from fairlead.rollouts.confirmation import Confirmation
from fairlead.routing import plans
from fairlead.stores.tables import idempotency

__all__ = ["Begun", "begin", "command", "commanded", "find", "finish"]

_KEPT = timedelta(days=1)


class Begun(msgspec.Struct, frozen=True):
    """A command under this key has proposed that generation and has no answer yet."""

    generation: int


def find(connection: sa.Connection, key: str, command: str, model: str) -> Confirmation | Begun | None:
    """The answer that the key's command got, or how far it is; None when it has to be carried out.

    `MalformedRequest` when the key belongs to another command.
    """
    response = _response(connection, key, command)
    if response is None:
        return None
    if "took_ms" in response:
        return msgspec.convert(response, Confirmation)
    begun = msgspec.convert(response, Begun)
    found = plans.get(connection, model, begun.generation)
    moved = found is not None and (found.state == "preparing" or found.activated_at is not None)
    return begun if moved else None


def begin(connection: sa.Connection, key: str, command: str, generation: int, now: datetime) -> None:
    """Notes that the command proposes that generation; forgets keys of earlier days."""
    _note(connection, key, command, {"generation": generation}, now)


def finish(connection: sa.Connection, key: str, answer: Confirmation) -> None:
    """Notes the command's answer."""
    connection.execute(
        idempotency.update().where(idempotency.c.key == key).values(response=msgspec.to_builtins(answer))
    )


def commanded(connection: sa.Connection, key: str, command: str) -> str | None:
    """The rollout to which that command was given under the key; None when it has not been.

    `MalformedRequest` when the key belongs to another command.
    """
    response = _response(connection, key, command)
    return None if response is None else str(response["rollout"])


def command(connection: sa.Connection, key: str, command: str, rollout: str, now: datetime) -> None:
    """Notes that the command was given to that rollout."""
    _note(connection, key, command, {"rollout": rollout}, now)


def _response(connection: sa.Connection, key: str, command: str) -> dict[str, Any] | None:
    row = connection.execute(sa.select(idempotency).where(idempotency.c.key == key)).one_or_none()
    if row is None:
        return None
    if row.command != command:
        raise MalformedRequest(
            f"The idempotency key {key!r} was used for another command.",
            remedy="Make a new key for each command.",
        )
    found: dict[str, Any] = row.response
    return found


def _note(connection: sa.Connection, key: str, command: str, response: dict[str, Any], now: datetime) -> None:
    """Puts the key's row, and forgets keys of earlier days."""
    connection.execute(
        idempotency.delete().where(sa.or_(idempotency.c.key == key, idempotency.c.at < now - _KEPT))
    )
    connection.execute(idempotency.insert().values(key=key, command=command, response=response, at=now))
