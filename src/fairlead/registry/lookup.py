"""Finding a model or a version by name, and saying what was probably meant when there is none."""

from __future__ import annotations

import difflib
from collections.abc import Collection

import sqlalchemy as sa

from fairlead.errors import ModelNotFound, VersionNotFound
from fairlead.stores import tables

__all__ = ["nearest", "require_model", "require_version", "version_names"]

_SHOWN = 10


def require_model(connection: sa.Connection, model: str) -> None:
    """Raises `ModelNotFound`, naming the nearest model, when there is none of that name."""
    names = tables.models.c.name
    if connection.scalar(sa.select(names).where(names == model)) is None:
        known = connection.scalars(sa.select(names).order_by(names)).all()
        raise ModelNotFound(f"There is no model {model!r}.", remedy=nearest(model, known), model=model)


def require_version(connection: sa.Connection, model: str, version: str) -> None:
    """Raises `ModelNotFound` or `VersionNotFound`, naming the nearest, when there is none of that name."""
    require_model(connection, model)
    known = version_names(connection, model)
    if version not in known:
        raise VersionNotFound(
            f"Model {model!r} has no version {version!r}.",
            remedy=nearest(version, known),
            model=model,
            version=version,
        )


def version_names(connection: sa.Connection, model: str) -> list[str]:
    """The model's versions, oldest first."""
    versions = tables.versions.c
    query = sa.select(versions.version).where(versions.model == model)
    return list(connection.scalars(query.order_by(versions.created_at, versions.version)))


def nearest(name: str, known: Collection[str]) -> str:
    """A sentence with the known name that is most like this one, or else with the known names."""
    found = difflib.get_close_matches(name, known, 1)
    if found:
        return f"Did you mean {found[0]!r}?"
    if not known:
        return "There is none yet."
    shown = list(known)[:_SHOWN]
    rest = len(known) - len(shown)
    return f"Known: {', '.join(shown)}{f' and {rest} more' if rest else ''}."
