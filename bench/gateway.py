"""One gateway worker on a core of its own, with everything on: answers per second, and what each part costs.

    python bench/gateway.py [--rounds 5] [--seconds 3]

A forest (100 trees, depth 6, 30 named features as JSON), two versions with sticky units, contract, cache, and
a record written before each answer. wrk on the other core. Every case begins with a fresh server, and rounds
are interleaved. Beside it, in the same rounds, two yardsticks for the machine: a server with a fixed answer
(the same HTTP code) and the bare `session.run`. Prints JSON: medians, and ratios of medians.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from bench.peers.fairlead_folder import lay_folder
from bench.peers.load import Load
from bench.peers.models import MODELS, features, make_models, rows_of
from bench.peers.processes import ServerProcess, cores, free_ports

from fairlead.serving.folder import DataFolder
from fairlead.telemetry.counters import read_counters

MODEL = MODELS["forest"]
PATH = f"/v1/models/{MODEL.name}/predict"
_QUIET_CORES = 0.1
_SETTLING_SECONDS = 30.0
SERVERS = Path(__file__).parent / "peers" / "servers"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=int, default=3)
    given = options.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("bench: wrk is not installed; install it from the system's packages.")
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(Path(scratch), given.seconds)
        rounds = [bench.round() for _ in range(given.rounds)]
    medians = {
        case: {key: round(statistics.median(found[case][key] for found in rounds), 3) for key in values}
        for case, values in rounds[0].items()
    }
    spread = {
        case: sorted(round(found[case]["per_second"]) for found in rounds)
        for case in medians
        if "per_second" in medians[case]
    }
    print(json.dumps({"medians": medians, "ratios": ratios(medians), "rounds": spread}, indent=2))


def ratios(medians: dict[str, dict[str, float]]) -> dict[str, float]:
    """What may be compared between machines: everything against what ran beside it."""
    distinct = medians["distinct, 16 connections"]["per_second"]
    best = max(distinct, medians["distinct, 64 connections"]["per_second"])
    company = max(medians[f"with control and ingest, {count}"]["per_second"] for count in (16, 64))
    return {
        "distinct of the fixed answer": round(best / medians["fixed answer, 16"]["per_second"], 3),
        "distinct of session.run": round(best / medians["session.run, 1 row"]["per_second"], 3),
        "hits of misses": round(medians["hits, 16 connections"]["per_second"] / distinct, 2),
        "with control and ingest of alone": round(company / best, 3),
        **{
            f"processor time per request, two workers at {count} connections of one at 64": round(
                medians[f"two workers, {count}"]["cpu_us"] / medians["distinct, 64 connections"]["cpu_us"], 3
            )
            for count in (64, 128)
        },
        "the same of the fixed answer, at 128 of one at 64": round(
            medians["fixed answer, two processes, 128"]["cpu_us"] / medians["fixed answer, 64"]["cpu_us"], 3
        ),
    }


class Bench:
    """The data folder, the bodies, and one measurement of each case."""

    def __init__(self, scratch: Path, seconds: int) -> None:
        self._scratch, self._seconds = scratch, seconds
        made = Path(__file__).parent / "peers" / "made"
        make_models(made, [MODEL.name])
        self._model_file = made / f"{MODEL.name}-v1.onnx"
        lay_folder(scratch / "data", made, MODEL)
        self._folder = DataFolder(scratch / "data")
        self._rows = rows_of(MODEL)
        bodies = [
            json.dumps({"features": features(MODEL, row), "unit": f"user-{index}"}, separators=(",", ":"))
            for index, row in enumerate(self._rows)
        ]
        self._first = bodies[0]
        (scratch / "all").mkdir()
        (scratch / "one").mkdir()
        self._distinct = Load(scratch / "all", bodies)
        self._same = Load(scratch / "one", bodies[:1])

    def round(self) -> dict[str, dict[str, float]]:
        """Every case once."""
        found = {
            "session.run, 1 row": {"per_second": self._raw()},
            "fixed answer, 16": self._hello(16),
            "fixed answer, 64": self._hello(64),
            "fixed answer, two processes, 128": self._hello(128, processes=2),
        }
        for connections in (1, 16, 64):
            name = f"distinct, {connections} connection{'s' if connections > 1 else ''}"
            with self._gateways(1) as server:
                found[name] = self._loaded(server, self._distinct, connections)
        with self._gateways(1) as server:
            found["hits, 16 connections"] = self._loaded(server, self._same, 16)
        for connections in (16, 64):
            with self._everything() as server:
                _settle(server)
                found[f"with control and ingest, {connections}"] = self._loaded(
                    server, self._distinct, connections
                )
        for connections in (64, 128):  # the load of one worker alone for both together, and for each
            name = f"two workers, {connections}"
            with self._gateways(2) as server:
                found[name] = self._loaded(server, self._distinct, connections)
                found[name]["share of the busier"] = self._busier_share()
        return found

    def _loaded(self, server: ServerProcess, load: Load, connections: int) -> dict[str, float]:
        load.run(server, PATH, connections, 1)
        report = load.run(server, PATH, connections, self._seconds)
        if report["errors"]:
            raise SystemExit(f"bench: {report} of {connections} connections")
        return {
            "per_second": report["per_second"],
            "p50_ms": report["p50_ms"],
            "p99_ms": report["p99_ms"],
            "cpu_us": report["cores"] / report["per_second"] * 1e6,
        }

    def _gateways(self, workers: int) -> Any:
        return self._server([sys.executable, "-m", "fairlead.supervise"], workers)

    def _everything(self) -> Any:
        return self._server([str(Path(sys.executable).with_name("fairlead")), "up"], 1)

    @contextmanager
    def _server(self, command: list[str], workers: int) -> Iterator[ServerProcess]:
        port, admin, grpc = free_ports(3)
        environment = {
            "FAIRLEAD_DATA": str(self._folder.root),
            "FAIRLEAD_PORT": str(port),
            "FAIRLEAD_ADMIN_PORT": str(admin),
            "FAIRLEAD_GRPC_PORT": str(grpc),
            "FAIRLEAD_WORKERS": str(workers),
            "FAIRLEAD_LOG_LEVEL": "warning",
            # A cache that holds nothing but what it was asked just now: distinct inputs are misses.
            "FAIRLEAD_CACHE_MAX_BYTES": str(2**20),
        }
        shutil.rmtree(self._folder.counters, ignore_errors=True)
        with ServerProcess(command, environment, self._scratch, port) as server:
            server.await_right(PATH, self._first, lambda raw: b'"prediction"' in raw)
            yield server
        shutil.rmtree(self._folder.log, ignore_errors=True)
        shutil.rmtree(self._folder.root / "predictions", ignore_errors=True)

    def _busier_share(self) -> float:
        answered = []
        for block in sorted(self._folder.counters.iterdir()):
            alone = self._scratch / "block"
            shutil.rmtree(alone, ignore_errors=True)
            alone.mkdir()
            shutil.copy(block, alone)
            answered.append(sum(row.answered for row in read_counters(alone)))
        return max(answered) / sum(answered)

    def _hello(self, connections: int, processes: int = 1) -> dict[str, float]:
        (port,) = free_ports(1)
        environment = {
            "BENCH_PORT": str(port),
            "BENCH_PROCESSES": str(processes),
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, str(SERVERS / "hello_server.py")]
        with ServerProcess(command, environment, self._scratch, port) as server:
            server.await_right(PATH, self._first, bool)
            return self._loaded(server, self._distinct, connections)

    def _raw(self) -> float:
        rows = self._scratch / "rows.json"
        rows.write_text(json.dumps(self._rows[:128]))
        environment = {
            **os.environ,
            "BENCH_MODEL_FILE": str(self._model_file),
            "BENCH_FACTS": json.dumps(asdict(MODEL)),
            "BENCH_BATCH": "0",
            "BENCH_PORT": "0",
            "BENCH_ROWS": str(rows),
            "BENCH_SECONDS": "1",
        }
        command = ["taskset", "-c", str(cores()[0]), sys.executable, str(SERVERS / "raw_session.py")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"bench: session.run: {done.stderr.strip()[-300:]}")
        return float(json.loads(done.stdout)["rows_1"])


def _settle(server: ServerProcess) -> None:
    """Waits until every process has begun and does little: starting is not what is measured."""
    deadline = time.monotonic() + _SETTLING_SECONDS
    time.sleep(2)
    used = 2.0
    while used > _QUIET_CORES:
        if time.monotonic() > deadline:
            raise SystemExit(f"bench: what was started still uses {used:.2f} of a core without any load")
        before = server.cpu_seconds()
        time.sleep(1)
        used = server.cpu_seconds() - before


if __name__ == "__main__":
    main()
