"""How calls of the admin API are written: paths from names, bodies from values."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import msgspec

__all__ = ["json_body", "path_of"]

_BASE = "/api/v1"


def path_of(*parts: str) -> str:
    """The path of a noun; names may hold anything."""
    return "/".join([_BASE, *(quote(part, safe="") for part in parts)])


def json_body(body: Any) -> bytes:
    """A value as the JSON that is sent."""
    return msgspec.json.encode(body)
