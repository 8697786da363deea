"""Aliases: names such as `champion` that people move from version to version. Their moves are the history."""

from __future__ import annotations

from datetime import datetime

import msgspec
import sqlalchemy as sa

from fairlead.errors import AliasNotFound, InvalidName, VersionNotFound
from fairlead.registry import audit
from fairlead.registry.lookup import nearest, require_model, require_version, version_names
from fairlead.registry.versions import verify_name
from fairlead.stores import tables

__all__ = ["AliasMove", "current", "history", "move", "resolve"]

_events = tables.alias_events.c


class AliasMove(msgspec.Struct, frozen=True, kw_only=True):
    """An alias was pointed at a version, or taken away (`version` None)."""

    model: str
    alias: str
    version: str | None
    at: datetime
    who: str
    why: str


def move(
    connection: sa.Connection,
    model: str,
    alias: str,
    version: str | None,
    *,
    at: datetime,
    who: str,
    why: str,
) -> None:
    """Points the alias at the version, or takes it away. Pointing it where it points already changes nothing.

    `AliasNotFound` when there is none to take away; `InvalidName` when a version has that name, since a
    reference must mean one thing.
    """
    require_model(connection, model)
    held = current(connection, model)
    if version is None:
        _require_alias(model, alias, held)
    else:
        verify_name("alias", alias)
        require_version(connection, model, version)
        if alias in version_names(connection, model):
            raise InvalidName(
                f"Model {model!r} has a version named {alias!r}.", remedy="Choose another name for the alias."
            )
    if held.get(alias) == version:
        return
    connection.execute(
        tables.alias_events.insert().values(
            model=model, alias=alias, version=version, at=at, who=who, why=why
        )
    )
    details = {"alias": alias, "from": held.get(alias)}
    audit.append(
        connection, at=at, who=who, action="alias", model=model, version=version, why=why, details=details
    )


def current(connection: sa.Connection, model: str) -> dict[str, str]:
    """Which version each alias of the model means now, by alias."""
    latest = sa.select(sa.func.max(_events.id)).where(_events.model == model).group_by(_events.alias)
    query = sa.select(_events.alias, _events.version).where(_events.id.in_(latest)).order_by(_events.alias)
    return {alias: version for alias, version in connection.execute(query) if version is not None}


def history(connection: sa.Connection, model: str, alias: str | None) -> list[AliasMove]:
    """All moves, oldest first; of one alias, or of all aliases of the model."""
    columns = [column for column in _events if column is not _events.id]
    query = sa.select(*columns).where(_events.model == model).order_by(_events.id)
    if alias is not None:
        query = query.where(_events.alias == alias)
    return [AliasMove(**row) for row in connection.execute(query).mappings()]


def resolve(connection: sa.Connection, model: str, reference: str) -> str:
    """The version that a version's name or an alias means."""
    require_model(connection, model)
    versions = version_names(connection, model)
    if reference in versions:
        return reference
    held = current(connection, model)
    if reference in held:
        return held[reference]
    raise VersionNotFound(
        f"Model {model!r} has no version or alias {reference!r}.",
        remedy=nearest(reference, [*held, *versions]),
        model=model,
        version=reference,
    )


def _require_alias(model: str, alias: str, held: dict[str, str]) -> None:
    if alias not in held:
        raise AliasNotFound(
            f"Model {model!r} has no alias {alias!r}.", remedy=nearest(alias, held), model=model, alias=alias
        )
