"""Real rows that tests and benchmarks read; `requirements/data.in` names the packages that they lie in."""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["FOLDER"]

FOLDER = Path(sys.prefix) / "data"
"""Where `make setup` puts those packages."""
