"""A running shop, once on each kind of database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.stores.blobs import Blobs
from fairlead.stores.database import Database
from tests.rollouts.fakes import FakeFleet
from tests.rollouts.running import ANN, Shop


@pytest.fixture
def shop(database: Database, blobs: Blobs, tmp_path: Path) -> Iterator[Shop]:
    """v1 of `shop` in production, with two gateways; v2 and v3 wait."""
    made = Shop(database, blobs, tmp_path)
    with FakeFleet(database, "g0", "g1").running():
        made.traffic().deploy("shop", "v1", ANN, strategy="direct")
        yield made
