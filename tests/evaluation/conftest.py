"""A data folder, and what control would have beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.serving.folder import DataFolder
from fairlead.stores.blobs import Blobs
from fairlead.stores.database import Database
from tests.evaluation.site import Site
from tests.models import data_folder


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    return data_folder(tmp_path / "data")


@pytest.fixture
def database_kind() -> str:
    """Nothing here asks more of a database than the registry, which is tested on both."""
    return "sqlite"


@pytest.fixture
def site(folder: DataFolder, database: Database, blobs: Blobs) -> Iterator[Site]:
    made = Site(folder, database, blobs)
    yield made
    made.gateway.plane.journal.close()
    made.ingest.close()
