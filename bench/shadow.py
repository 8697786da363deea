"""What a shadow that mirrors every request costs those who ask.

    python bench/shadow.py [--rounds 10] [--seconds 5] [--only inline]

One gateway worker on the first core, the load on the last. A forest answers; another forest shadows it at
100 %, either inside the gateway or in a model worker on the same core. First the capacity (closed loop), then
rounds without and with the shadow in turn, in the same process: open loop at 10 and 30 % of the capacity, and
closed loop at saturation. Prints JSON: medians over the rounds, and the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.openloop import Offered, closed_loop, offer, request_bytes
from bench.peers.fairlead_folder import lay_folder
from bench.peers.models import MODELS, features, make_models, rows_of
from bench.peers.processes import ServerProcess, cores, free_ports
from tests.models import plan_of

from fairlead.runtimes.machine import cpu_name
from fairlead.runtimes.placement import note
from fairlead.serving.folder import DataFolder
from fairlead.telemetry.counters import read_counters

MODEL = MODELS["forest"]
PATH = f"/v1/models/{MODEL.name}/predict"
CONNECTIONS = 16
LOADS = (0.1, 0.3)
"""Parts of the capacity."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=10)
    options.add_argument("--seconds", type=float, default=5.0)
    options.add_argument("--only", choices=("inline", "worker"))
    given = options.parse_args()
    os.sched_setaffinity(0, {cores()[1]})
    found = {}
    for place in [given.only] if given.only else ["inline", "worker"]:
        with tempfile.TemporaryDirectory() as scratch:
            found[place] = Bench(Path(scratch), place).measure(given.rounds, given.seconds)
    print(json.dumps(found, indent=2))


class Bench:
    """A gateway that serves the forest, and gets or loses its shadow between the loads."""

    def __init__(self, scratch: Path, place: str) -> None:
        self._scratch = scratch
        made = Path(__file__).parent / "peers" / "made"
        make_models(made, [MODEL.name])
        lay_folder(scratch / "data", made, MODEL)
        self._folder = DataFolder(scratch / "data")
        self._generation = 1
        plans = self._folder.read_plans(MODEL.name)
        assert plans is not None
        assert plans.active is not None
        self._active = plans.active
        if place == "worker":
            digest = plans.active.versions["v2"].manifest.digest
            slow = {"run_microseconds": 1e6, "memory_bytes": 1, "library": f"onnxruntime 1 {cpu_name()}"}
            note(self._folder.measured, digest, slow)
        bodies = [
            json.dumps({"features": features(MODEL, row), "unit": f"user-{index}"}, separators=(",", ":"))
            for index, row in enumerate(rows_of(MODEL)[:8_000])
        ]
        self._first = bodies[0]
        self._requests = [request_bytes(PATH, body, {}) for body in bodies]

    def measure(self, rounds: int, seconds: float) -> dict[str, Any]:
        """All rounds against one server."""
        (port,) = free_ports(1)
        environment = {
            "FAIRLEAD_DATA": str(self._folder.root),
            "FAIRLEAD_PORT": str(port),
            "FAIRLEAD_GRPC_PORT": "0",
            "FAIRLEAD_WORKERS": "1",
            "FAIRLEAD_LOG_LEVEL": "warning",
            "FAIRLEAD_CACHE_MAX_BYTES": str(2**20),
        }
        command = [sys.executable, "-m", "fairlead.supervise"]
        with ServerProcess(command, environment, self._scratch, port) as server:
            server.await_right(PATH, self._first, lambda raw: b'"prediction"' in raw)
            self._mirror(server, 0)
            self._saturate(port, 1.0)
            capacity = self._saturate(port, 3.0)
            pairs = [self._round(server, capacity, seconds, number % 2 == 1) for number in range(rounds)]
        without = [pair["without"] for pair in pairs]
        shadowed = [pair["with"] for pair in pairs]
        return {
            "capacity_per_second": round(capacity),
            "without": {key: _median(without, key) for key in without[0]},
            "with": {key: _median(shadowed, key) for key in shadowed[0]},
            "ratios": {
                key: round(
                    statistics.median(b[key] / a[key] for a, b in zip(without, shadowed, strict=True)), 3
                )
                for key in without[0]
            },
            "rounds": pairs,
        }

    def _round(
        self, server: ServerProcess, capacity: float, seconds: float, first: bool
    ) -> dict[str, dict[str, float]]:
        """All loads without and with the shadow, in one order or the other."""
        found: dict[str, dict[str, float]] = {}
        for percent in (100, 0) if first else (0, 100):
            self._mirror(server, percent)
            told = found["with" if percent else "without"] = {}
            for part in LOADS:
                name = f"at {part:.0%}: "
                self._offer(server.port, part * capacity, 0.5)
                before, used = self._copied(), server.cpu_seconds()
                load = self._offer(server.port, part * capacity, seconds)
                told[name + "cores"] = round((server.cpu_seconds() - used) / seconds, 3)
                if percent:
                    told[name + "copied"] = round((self._copied() - before) / load.sent, 4)
                told[name + "p50_ms"] = round(load.quantile(0.5) * 1000, 4)
                told[name + "p99_ms"] = round(load.quantile(0.99) * 1000, 4)
            told["saturated_per_second"] = round(self._saturate(server.port, seconds))
        return found

    def _offer(self, port: int, rate: float, seconds: float) -> Offered:
        load = offer(port, self._requests, rate, seconds, CONNECTIONS, tick=0.0)
        if set(load.statuses) != {"200"} or load.broken:
            raise SystemExit(f"bench: {dict(load.statuses)}, {load.broken} without an answer")
        return load

    def _saturate(self, port: int, seconds: float) -> float:
        return closed_loop(port, self._requests, seconds, 32, depth=2).goodput(10.0)

    def _mirror(self, server: ServerProcess, percent: float) -> None:
        """Has the shadow get so many percent of the requests; 0 takes it away."""
        self._generation += 1
        arms: dict[str, Any] = {"stable": ("v1", "stable", 100)}
        if percent:
            arms["shadow"] = ("v2", "shadow", percent)
        plan = plan_of(arms, model=MODEL.name, generation=self._generation)
        active = msgspec.structs.replace(self._active, plan=plan, keep=("v2",))
        plans = self._folder.read_plans(MODEL.name)
        self._folder.write_plans(msgspec.structs.replace(plans, active=active))
        while True:
            told = json.loads(server.ask(f"/v1/models/{MODEL.name}", None))
            if told["generation"] == self._generation:
                return
            time.sleep(0.01)

    def _copied(self) -> int:
        """How many copies were run."""
        return sum(arm.answered for arm in read_counters(self._folder.counters) if arm.key.role == "shadow")


def _median(rounds: list[dict[str, Any]], key: str) -> float:
    return round(statistics.median(found[key] for found in rounds), 4)


if __name__ == "__main__":
    main()
