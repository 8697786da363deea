"""The server's own log: one line per event, as text for a person or as JSON for a machine, on stderr."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Literal

import msgspec

__all__ = ["configure_logs"]


def configure_logs(role: str, *, level: str = "info", form: Literal["auto", "text", "json"] = "auto") -> None:
    """Sends the log of this process to standard error; `auto` is text on a terminal, else JSON."""
    stream = logging.StreamHandler(sys.stderr)
    as_text = form == "text" or (form == "auto" and sys.stderr.isatty())
    stream.setFormatter(_Text(role) if as_text else _Json(role))
    root = logging.getLogger()
    root.handlers[:] = [stream]
    root.setLevel(level.upper())
    for noisy in ("alembic", "sqlalchemy", "uvicorn.access", "httpx2", "httpcore2"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


class _Json(logging.Formatter):
    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        event = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "role": self._role,
            "pid": record.process,
            "logger": record.name,
            "event": record.getMessage(),
        }
        if record.exc_info:
            event["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(event).decode()


class _Text(logging.Formatter):
    def __init__(self, role: str) -> None:
        super().__init__(f"%(asctime)s %(levelname)-7s {role:<9} %(message)s", datefmt="%H:%M:%S")
