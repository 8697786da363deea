"""Fairlead's gateways alone, as `python -m fairlead.supervise` starts them, on a laid-out data folder.

One gateway, and the model host: a heavy model runs in a worker process, as it always does.
"""

from __future__ import annotations

import os
import sys

os.environ.update(
    FAIRLEAD_DATA=os.environ["BENCH_PREPARED"],
    FAIRLEAD_PORT=os.environ["BENCH_PORT"],
    FAIRLEAD_GRPC_PORT=os.environ["BENCH_MORE_PORTS"].split(",")[0],
    FAIRLEAD_WORKERS="1",
    # A cache that holds nothing but what it was asked just now: distinct rows are misses.
    FAIRLEAD_CACHE_MAX_BYTES=str(2**20),
    FAIRLEAD_LOG_LEVEL="warning",
)
os.execv(sys.executable, [sys.executable, "-m", "fairlead.supervise"])
