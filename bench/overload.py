"""What a gateway answers when more is asked than it can do.

    python bench/overload.py [--seconds 10] [--only forest]

Open loop, gateway and model worker on one core, the load on the other. First the capacity (closed loop, 64
connections), then the cost of a rejection, then the heavy network at 3 times its capacity and the forest at
1.5 and 3 times. Each request says how long it can wait; only what was 200 and in time counts. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.openloop import Offered, closed_loop, offer, request_bytes
from bench.peers.fairlead_folder import lay_folder
from bench.peers.models import MODELS, Model, features, make_models, rows_of
from bench.peers.processes import ServerProcess, cores, free_ports

LOADS = {"heavy": (1.0, (3.0,)), "forest": (0.2, (1.5, 3.0))}
"""Seconds that a request can wait, and the multiples of the capacity that are offered."""
CONNECTIONS = 64


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=10.0)
    options.add_argument("--only", choices=sorted(LOADS))
    given = options.parse_args()
    os.sched_setaffinity(0, {cores()[1]})
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in [given.only] if given.only else LOADS:
            found[name] = measure(MODELS[name], Path(scratch), given.seconds)
    print(json.dumps(found, indent=2))


def measure(model: Model, scratch: Path, seconds: float) -> dict[str, Any]:
    """One model under each of its loads."""
    made = Path(__file__).parent / "peers" / "made"
    make_models(made, [model.name])
    data = scratch / model.name
    lay_folder(data, made, model)
    deadline, multiples = LOADS[model.name]
    rows = rows_of(model)[:4_000]
    path = f"/v1/models/{model.name}/predict"
    bodies = [
        json.dumps({"features": features(model, row), "unit": f"user-{index}"}, separators=(",", ":"))
        for index, row in enumerate(rows)
    ]

    def requests(timeout_ms: float) -> list[bytes]:
        return [request_bytes(path, body, {"X-Timeout-Ms": f"{timeout_ms:g}"}) for body in bodies]

    (port,) = free_ports(1)
    environment = {
        "FAIRLEAD_DATA": str(data),
        "FAIRLEAD_PORT": str(port),
        "FAIRLEAD_GRPC_PORT": "0",
        "FAIRLEAD_WORKERS": "1",
        "FAIRLEAD_LOG_LEVEL": "warning",
        "FAIRLEAD_CACHE_MAX_BYTES": str(2**20),
    }
    command = [sys.executable, "-m", "fairlead.supervise"]
    with ServerProcess(command, environment, scratch, port) as server:
        server.await_right(path, bodies[0], lambda raw: b'"prediction"' in raw)
        timely = requests(deadline * 1000)
        closed_loop(port, timely, 1.0, 64)
        capacity = closed_loop(port, timely, max(3.0, seconds / 3), 32, depth=2).goodput(deadline)
        # Nobody can answer within a microsecond: every one of these is refused.
        used = server.cpu_seconds()
        refused = closed_loop(port, requests(0.001), 2.0, 64, depth=8)
        rejection = (server.cpu_seconds() - used) / refused.statuses["503"]
        result: dict[str, Any] = {
            "deadline_ms": deadline * 1000,
            "capacity_per_second": round(capacity, 1),
            "rejection_us": round(rejection * 1e6, 1),
        }
        for multiple in multiples:
            before = server.memory_mib()
            load = offer(port, timely, multiple * capacity, seconds, CONNECTIONS)
            after = server.memory_mib()
            recovered = offer(port, timely, 0.3 * capacity, 2.0, CONNECTIONS)
            result[f"{multiple:g} times"] = {
                **_told(load, deadline, capacity),
                "left_if_all_were_refused": round(max(0.0, 1 - multiple * capacity * rejection), 3),
                "memory_mib": [round(before, 1), round(after, 1)],
                "recovered": {
                    "first_second_in_time": _share_in_time(recovered, deadline),
                    "unanswered": recovered.broken,
                    "refused": sum(recovered.statuses.values()) - recovered.statuses["200"],
                },
            }
            time.sleep(0.5)
    return result


def _told(load: Offered, deadline: float, capacity: float) -> dict[str, Any]:
    return {
        "offered_per_second": round(load.sent / load.seconds, 1),
        "goodput_per_second": round(load.goodput(deadline), 1),
        "goodput_of_capacity": round(load.goodput(deadline) / capacity, 3),
        "admitted_p99_ms": round(load.quantile(0.99) * 1000, 1),
        "statuses": dict(load.statuses),
        "refused_without_retry_after": load.without_retry_after,
        "unanswered": load.broken,
        "load_late_ms": round(load.latest * 1000, 1),
    }


def _share_in_time(load: Offered, deadline: float) -> float:
    answered = sum(load.statuses.values())
    return round(sum(latency <= deadline for latency in load.latencies) / answered, 4) if answered else 0.0


if __name__ == "__main__":
    main()
