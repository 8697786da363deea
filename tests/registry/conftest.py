"""A registry with real stores behind it and a clock that tests can read."""

from __future__ import annotations

import pytest

from fairlead.registry.registry import Registry
from fairlead.stores.blobs import Blobs
from fairlead.stores.database import Database
from tests.registry.samples import Clock, new_version


@pytest.fixture
def clock() -> Clock:
    """Nine o'clock, and a second later with every look."""
    return Clock()


@pytest.fixture
def registry(database: Database, blobs: Blobs, clock: Clock) -> Registry:
    """An empty registry, once on each database."""
    return Registry(database, blobs, clock)


@pytest.fixture
def three(registry: Registry, blobs: Blobs) -> Registry:
    """A registry with versions 1, 2 and 3 of the model `churn`."""
    for version in ("1", "2", "3"):
        registry.register(new_version(version, content=version.encode(), blobs=blobs))
    return registry
