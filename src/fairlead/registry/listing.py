"""Models and versions as people see them, read within one transaction."""

from __future__ import annotations

from datetime import datetime

import msgspec
import sqlalchemy as sa

from fairlead.contracts.contract import Contract
from fairlead.errors import VersionNotFound
from fairlead.registry import aliases, declared, levels, settings
from fairlead.registry.lookup import require_model, require_version
from fairlead.registry.versions import Version, VersionSpec
from fairlead.stores import tables

__all__ = ["Model", "contract", "models", "versions"]


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A model as people see it: `versions` oldest first, `production` the one that serves now."""

    name: str
    description: str
    created_at: datetime
    created_by: str
    versions: tuple[str, ...]
    production: str | None
    aliases: dict[str, str]


def models(connection: sa.Connection, name: str | None = None) -> list[Model]:
    """All models by name, or the one of that name."""
    query = sa.select(tables.models).order_by(tables.models.c.name)
    if name is not None:
        query = query.where(tables.models.c.name == name)
    found = []
    for row in connection.execute(query).mappings().all():
        stages = _stages(connection, row["name"])
        serving = (version for version, stage in stages.items() if stage == "production")
        held = aliases.current(connection, row["name"])
        found.append(Model(**row, versions=tuple(stages), production=next(serving, None), aliases=held))
    return found


def versions(connection: sa.Connection, model: str, version: str | None = None) -> list[Version]:
    """The model's versions, oldest first, or the one of that name; their settings, and how far their
    intervals or sets reach, as they hold now."""
    columns = tables.versions.c
    query = sa.select(tables.versions).where(columns.model == model)
    query = query.order_by(columns.created_at, columns.version)
    if version is not None:
        query = query.where(columns.version == version)
    stated = settings.stated(connection, model)
    taught = levels.quantiles(connection, model)
    found = []
    for row in connection.execute(query).mappings():
        registered = msgspec.json.decode(row["spec"], type=VersionSpec)
        spec = msgspec.structs.replace(registered, settings=settings.effective(stated, row["version"]))
        found.append(Version(**{**row, "spec": levels.as_taught(spec, taught)}))
    return found


def contract(connection: sa.Connection, model: str, version: str | None) -> Contract:
    """The contract of a version; else of the one in production, else the declared, else the newest's."""
    if version is not None:
        require_version(connection, model, version)
        return versions(connection, model, version)[0].spec.contract
    require_model(connection, model)
    stages = _stages(connection, model)
    for name, stage in stages.items():
        if stage == "production":
            return contract(connection, model, name)
    promised = declared.declared(connection, model)
    if promised is not None:
        return promised
    if stages:
        return contract(connection, model, next(reversed(stages)))
    raise VersionNotFound(
        f"Model {model!r} has neither a version nor a declared contract.",
        remedy="Register a version or declare a contract.",
        model=model,
    )


def _stages(connection: sa.Connection, model: str) -> dict[str, str]:
    columns = tables.versions.c
    query = sa.select(columns.version, columns.stage).where(columns.model == model)
    rows = connection.execute(query.order_by(columns.created_at, columns.version))
    return dict(rows.all())
