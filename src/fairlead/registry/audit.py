"""The audit log: who did what to which model or version, when and why. Only ever appended to."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from fairlead.stores import tables

__all__ = ["AuditEntry", "append", "entries"]


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One change. `action` is a verb (`register`, `alias`, `stage`, `configure`…); `details` depend on it."""

    id: int
    at: datetime
    who: str
    action: str
    model: str | None
    version: str | None
    why: str
    details: dict[str, Any]


def append(
    connection: sa.Connection,
    *,
    at: datetime,
    who: str,
    action: str,
    model: str | None = None,
    version: str | None = None,
    why: str = "",
    details: Mapping[str, Any] | None = None,
) -> None:
    """Adds an entry to the caller's transaction, so that neither is there without the other."""
    connection.execute(
        tables.audit.insert().values(
            at=at, who=who, action=action, model=model, version=version, why=why, details=dict(details or {})
        )
    )


def entries(connection: sa.Connection, model: str | None, limit: int) -> list[AuditEntry]:
    """The newest entries, newest first; of one model, or of all."""
    query = sa.select(tables.audit).order_by(tables.audit.c.id.desc()).limit(limit)
    if model is not None:
        query = query.where(tables.audit.c.model == model)
    return [AuditEntry(**row) for row in connection.execute(query).mappings()]
