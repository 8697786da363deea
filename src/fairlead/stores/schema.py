"""The schema's history, run from the package itself: no alembic.ini, no working folder.

A database without tables gets the newest schema at once, and one that has it is left alone: neither needs
Alembic, whose import alone would take a sixth of the time in which control starts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa

from fairlead.errors import StoreUnavailable

# Without these the metadata lack their tables.
from fairlead.stores import alert_tables, monitoring_tables, retraining_tables  # noqa: F401
from fairlead.stores.tables import metadata

__all__ = ["HEAD", "downgrade", "is_current", "upgrade"]

_MIGRATIONS = Path(__file__).parent / "migrations"
_KNOWN = {file.name[:4] for file in (_MIGRATIONS / "versions").glob("[0-9]*.py")}

HEAD = max(_KNOWN)
"""The newest revision of this release."""

_APPLIED = sa.Table(
    "alembic_version", sa.MetaData(), sa.Column("version_num", sa.String(32), primary_key=True)
)


def upgrade(connection: sa.Connection) -> None:
    """Applies what is missing within the caller's transaction; `StoreUnavailable` when it is too new."""
    if not sa.inspect(connection).get_table_names():
        metadata.create_all(connection)
        _APPLIED.create(connection)
        connection.execute(_APPLIED.insert().values(version_num=HEAD))
        return
    applied = _applied(connection)
    if applied == {HEAD}:
        return
    if unknown := applied - _KNOWN:
        raise StoreUnavailable(
            f"The database was migrated by a newer Fairlead (revision {', '.join(sorted(unknown))}).",
            remedy="Upgrade this Fairlead, or restore the backup from before.",
        )
    from alembic import command

    command.upgrade(_config(connection), "head")


def downgrade(connection: sa.Connection, revision: str = "base") -> None:
    """Takes migrations back, down to `revision`, within the caller's transaction. Drops what they added."""
    from alembic import command

    command.downgrade(_config(connection), revision)


def is_current(connection: sa.Connection) -> bool:
    """Whether every migration of this release is applied and no other."""
    return _applied(connection) == {HEAD}


def _config(connection: sa.Connection) -> Any:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _applied(connection: sa.Connection) -> set[str]:
    if not sa.inspect(connection).has_table(_APPLIED.name):
        return set()
    return set(connection.scalars(sa.select(_APPLIED.c.version_num)))
