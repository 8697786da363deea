"""Which HTTP layer carries the data plane? The same answer by each: server on one core, wrk on the other.

    python bench/http_layers.py [--rounds 5] [--seconds 3] [--connections 16]

Prints JSON: the median requests per second per layer over interleaved rounds, and ratios to the first. wrk
comes from the system's packages.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BODY = json.dumps({"features": {f"feature_{i}": 1.25 * i for i in range(30)}})

PROTOCOL = """
import asyncio, sys, uvloop
from fairlead.gateway.protocol import HttpServer, Limits, response
from fairlead.serving.turns import Turns
async def handle(request): return response(200, b'{"prediction":1}')
async def main():
    limits = Limits(body_bytes=1 << 20, header_bytes=32768, connections=1000, idle_seconds=60)
    server = HttpServer(handle, lambda error: response(400, b"{}"), limits, Turns(lambda: None, lambda: None))
    listening = await asyncio.get_running_loop().create_server(
        server, "127.0.0.1", int(sys.argv[1]), reuse_port=True
    )
    await listening.serve_forever()
uvloop.run(main())
"""

UVICORN = """
import sys, uvicorn
async def app(scope, receive, send):
    if scope["type"] != "http": return
    while (await receive()).get("more_body"): pass
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b'{"prediction":1}'})
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), loop="uvloop", http="httptools",
            log_level="warning", access_log=False, lifespan="off")
"""

GRANIAN = """
import sys
from granian.constants import Interfaces
from granian.server.embed import Server
import asyncio, uvloop
async def app(scope, protocol):
    await protocol()
    protocol.response_bytes(200, [("content-type", "application/json")], b'{"prediction":1}')
uvloop.run(Server(app, address="127.0.0.1", port=int(sys.argv[1]), interface=Interfaces.RSGI).serve())
"""

LAYERS = {"protocol (uvloop, httptools)": PROTOCOL, "granian (RSGI)": GRANIAN, "uvicorn (ASGI)": UVICORN}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=int, default=3)
    options.add_argument("--connections", type=int, default=16)
    given = options.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("bench: wrk is not installed; install it from the system's packages.")
    rates: dict[str, list[float]] = {name: [] for name in LAYERS}
    for _ in range(given.rounds):
        for name, program in LAYERS.items():
            rates[name].append(measure(program, given.seconds, given.connections))
    medians = {name: statistics.median(found) for name, found in rates.items()}
    first = next(iter(medians.values()))
    print(
        json.dumps(
            {
                "requests_per_second": {name: round(rate) for name, rate in medians.items()},
                "ratio_to_first": {name: round(rate / first, 3) for name, rate in medians.items()},
                "rounds": {name: [round(rate) for rate in found] for name, found in rates.items()},
                "connections": given.connections,
            },
            indent=2,
        )
    )


def measure(program: str, seconds: int, connections: int) -> float:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    cores = sorted(os.sched_getaffinity(0))
    server = subprocess.Popen(["taskset", "-c", str(cores[0]), sys.executable, "-c", program, str(port)])
    try:
        await_port(port)
        script = Path(tempfile.mkdtemp()) / "post.lua"
        script.write_text(
            f"wrk.method='POST'\nwrk.body='{BODY}'\nwrk.headers['Content-Type']='application/json'\n"
        )
        wrk = [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{seconds}s",
            "-s",
            script,
            f"http://127.0.0.1:{port}/predict",
        ]
        done = subprocess.run(
            ["taskset", "-c", str(cores[-1]), *wrk], capture_output=True, text=True, check=True
        )
        found = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
        assert found is not None, done.stdout
        assert "Non-2xx" not in done.stdout, done.stdout
        return float(found[1])
    finally:
        server.terminate()
        server.wait()


def await_port(port: int) -> None:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit("bench: the server did not start")


if __name__ == "__main__":
    main()
