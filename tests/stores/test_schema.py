"""One history leads both databases to the same schema, there and back, also when several start at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from fairlead.errors import StoreUnavailable
from fairlead.stores import schema
from fairlead.stores.database import Database
from fairlead.stores.tables import metadata


def tables_of(database: Database) -> set[str]:
    with database.read() as connection:
        return set(sa.inspect(connection).get_table_names())


def test_the_migrated_schema_equals_the_metadata(database: Database) -> None:
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def shape(database: Database) -> dict[str, Any]:
    """Every table with its columns, keys, constraints and indexes."""
    with database.read() as connection:
        inspector = sa.inspect(connection)
        return {
            table: {
                "columns": [
                    (one["name"], str(one["type"]), one["nullable"], one["default"])
                    for one in inspector.get_columns(table)
                ],
                "key": inspector.get_pk_constraint(table),
                "foreign": sorted(map(repr, inspector.get_foreign_keys(table))),
                "unique": sorted(map(repr, inspector.get_unique_constraints(table))),
                "checks": sorted(map(repr, inspector.get_check_constraints(table))),
                "indexes": sorted(map(repr, inspector.get_indexes(table))),
            }
            for table in inspector.get_table_names()
        }


def test_a_schema_made_at_once_is_the_one_that_the_migrations_lead_to(database: Database) -> None:
    at_once = shape(database)
    with database.write() as connection:
        schema.downgrade(connection)
    database.migrate()
    step_by_step = shape(database)
    assert at_once.keys() == step_by_step.keys()
    for table, made in at_once.items():
        ordered, added = made.pop("columns"), step_by_step[table].pop("columns")
        assert sorted(ordered) == sorted(added), table  # a column that came later stands last
        assert made == step_by_step[table], table


def test_the_newest_revision_is_alembics_head() -> None:
    folder = Path(schema.__file__).parent / "migrations"
    assert ScriptDirectory(folder).get_heads() == [schema.HEAD]


def test_up_down_up_leaves_what_up_leaves(database: Database) -> None:
    before = tables_of(database)
    with database.write() as connection:
        schema.downgrade(connection)
    assert tables_of(database) == {"alembic_version"}
    assert not database.is_current()
    database.migrate()
    assert tables_of(database) == before == {*metadata.tables, "alembic_version"}
    assert database.is_current()


def test_migrating_twice_changes_nothing(database: Database) -> None:
    database.migrate()
    assert database.is_current()


def test_an_empty_database_is_not_current(database_url: str) -> None:
    fresh = Database(database_url)
    assert not fresh.is_current()
    fresh.close()


def test_several_processes_may_migrate_at_once(database_url: str) -> None:
    code = (
        "import sys, alembic.command, fairlead.stores.schema;"
        "from fairlead.stores.database import Database;"
        "database = Database(sys.argv[1]); sys.stdin.readline(); database.migrate();"
        "assert database.is_current()"
    )
    command = [sys.executable, "-c", code, database_url]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, text=True) for _ in range(3)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)
    assert [process.returncode for process in processes] == [0] * 3


def test_a_migration_that_fails_leaves_the_schema_as_it_was(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(database_url)
    real = sa.Connection.execute

    def failing(self: sa.Connection, statement: object, *rest: object, **more: object) -> object:
        if "idempotency" in str(statement):
            raise ZeroDivisionError
        return real(self, statement, *rest, **more)  # type: ignore[call-overload]

    with monkeypatch.context() as patch:
        patch.setattr(sa.Connection, "execute", failing)
        with pytest.raises(ZeroDivisionError):
            database.migrate()
    assert tables_of(database) == set()
    database.migrate()
    assert database.is_current()
    database.close()


def test_a_database_of_a_newer_release_is_refused_untouched(database: Database) -> None:
    with database.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    assert not database.is_current()
    with pytest.raises(StoreUnavailable, match="newer Fairlead"):
        database.migrate()


def test_the_migrations_travel_in_the_package() -> None:
    folder = Path(schema.__file__).parent / "migrations"
    assert (folder / "env.py").is_file()
    assert list((folder / "versions").glob("0001_*.py"))
