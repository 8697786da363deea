"""A fixed answer by Fairlead's own HTTP layer: what this machine gives a server that does nothing."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from bench.http_layers import PROTOCOL

for _ in range(1, int(os.environ.get("BENCH_PROCESSES", "1"))):
    if os.fork() == 0:
        break
os.execv(sys.executable, [sys.executable, "-c", PROTOCOL, os.environ["BENCH_PORT"]])
