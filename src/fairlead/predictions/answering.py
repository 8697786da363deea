"""The other side of `ask.py`: a socket to be asked at, and errors as messages."""

from __future__ import annotations

import socket
from pathlib import Path

import msgspec

from fairlead.errors import FairleadError
from fairlead.predictions.ask import reachable

__all__ = ["encode_error", "listen"]


def listen(path: Path) -> socket.socket:
    """A listening socket at that path, for this user only; what a predecessor left there is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with reachable(path) as address:
        listener.bind(address)
    path.chmod(0o600)
    return listener


def encode_error(error: FairleadError) -> bytes:
    """The error as the other side raises it again."""
    return msgspec.json.encode(
        {
            "error": {
                "code": error.code,
                "message": error.message,
                "remedy": error.remedy,
                "details": error.details,
            }
        },
        enc_hook=str,
    )
