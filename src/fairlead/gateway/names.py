"""How gateway workers are called."""

from __future__ import annotations

import socket

__all__ = ["gateway_name"]


def gateway_name(slot: int) -> str:
    """The name of the worker in that slot; a replacement has the same name as its predecessor."""
    host = "".join(c if c.isalnum() or c in "-_" else "-" for c in socket.gethostname())[:60]
    return f"{host}-{slot}"
