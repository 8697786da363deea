"""The site of the replays' tests: a gateway, its log, a registry."""

from __future__ import annotations

from tests.evaluation.conftest import database_kind, folder, site

__all__ = ["database_kind", "folder", "site"]
