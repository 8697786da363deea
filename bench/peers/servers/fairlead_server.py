"""One Fairlead gateway as `fairlead up` starts it, on a data folder that has been laid out."""

from __future__ import annotations

import os
import socket
import sys

import msgspec

from fairlead.process import RESOLVED
from fairlead.settings import Settings

# A cache that holds nothing but what it was asked just now: distinct rows are misses.
settings = Settings(data=os.environ["BENCH_PREPARED"], cache_max_bytes=2**20, log_level="warning")
os.environ[RESOLVED] = msgspec.json.encode(settings).decode()
listener = socket.create_server(("127.0.0.1", int(os.environ["BENCH_PORT"])), backlog=1024)
listener.set_inheritable(True)
command = [sys.executable, "-m", "fairlead.process", "gateway", "0", str(listener.fileno())]
os.execv(sys.executable, command)
