"""The site of the replays' tests: a gateway, its log, a registry."""

from __future__ import annotations

from tests.evaluation.conftest import database_url, folder, site

__all__ = ["database_url", "folder", "site"]
