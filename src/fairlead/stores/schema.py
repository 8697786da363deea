"""The schema's history, run from the package itself: no alembic.ini, no working folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa

from fairlead.errors import StoreUnavailable

__all__ = ["downgrade", "is_current", "upgrade"]


def upgrade(connection: sa.Connection) -> None:
    """Applies what is missing within the caller's transaction; `StoreUnavailable` when it is too new."""
    from alembic import command

    config = _config(connection)
    unknown = _applied(connection) - _known(config)
    if unknown:
        raise StoreUnavailable(
            f"The database was migrated by a newer Fairlead (revision {', '.join(sorted(unknown))}).",
            remedy="Upgrade this Fairlead, or restore the backup from before.",
        )
    command.upgrade(config, "head")


def downgrade(connection: sa.Connection, revision: str = "base") -> None:
    """Takes migrations back, down to `revision`, within the caller's transaction. Drops what they added."""
    from alembic import command

    command.downgrade(_config(connection), revision)


def is_current(connection: sa.Connection) -> bool:
    """Whether every migration of this release is applied and no other."""
    from alembic.script import ScriptDirectory

    heads = ScriptDirectory.from_config(_config(connection)).get_heads()
    return _applied(connection) == set(heads)


def _config(connection: sa.Connection) -> Any:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _applied(connection: sa.Connection) -> set[str]:
    from alembic.migration import MigrationContext

    return set(MigrationContext.configure(connection).get_current_heads())


def _known(config: Any) -> set[str]:
    from alembic.script import ScriptDirectory

    return {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
