"""How long changes of traffic and failures take, with callers asking all the while.

    python bench/traffic_changes.py [--rounds 10]

Prints JSON: milliseconds until a canary, a promotion and a rollback were confirmed by every gateway, seen
by a client, until a killed gateway worker's replacement served, and what callers noticed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.drills.load import Load
from tests.models import SAMPLE, iris_contract, iris_onnx
from tests.servers import Servers
from tests.waiting import wait_until

import fairlead
from fairlead.client.admin import Admin


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=10)
    rounds = options.parse_args().rounds
    times: dict[str, list[float]] = {"deploy": [], "promote": [], "rollback": [], "restart": []}
    failed = late = 0
    with tempfile.TemporaryDirectory() as scratch, Servers(Path(scratch) / "data") as servers:
        for seed, version in enumerate(("v1", "v2")):
            fairlead.register(
                iris_onnx(seed), "iris", version, contract=iris_contract(), set_production=seed == 0,
                admin_url=servers.admin_url,
            )  # fmt: skip
        admin = Admin(servers.admin_url)
        with Load(servers.port, "/v1/models/iris/predict", SAMPLE) as load:
            for _ in range(rounds):
                times["deploy"].append(timed(lambda: admin.deploy("iris", "v2", weight=50)))
                settle(load)
                times["rollback"].append(timed(lambda: admin.rollback("iris")))
                confirmed_at = time.perf_counter()
                settle(load)
                admin.deploy("iris", "v2", weight=50)
                times["promote"].append(timed(lambda: admin.promote("iris")))
                late += sum(
                    version == "v2" and confirmed_at < sent_at < confirmed_at + 0.05
                    for sent_at, _, version in list(load.answered.values())
                )
                times["rollback"].append(timed(lambda: admin.rollback("iris")))
            failed = len(load.failed)
        with Load(servers.port, "/v1/models/iris/predict", SAMPLE) as load:
            for number in range(rounds):
                settle(load)
                victim = servers.gateways()[number % 2]
                started = time.perf_counter()
                os.kill(victim.pid, signal.SIGKILL)
                wait_until(lambda: replaced(servers, victim.name, victim.pid), 30)
                times["restart"].append(1000 * (time.perf_counter() - started))
    print(
        json.dumps(
            {
                **{f"{name}_ms": summary(found) for name, found in times.items()},
                "requests_failed_by_traffic_changes": failed,
                "answers_by_the_rolled_back_version_to_later_requests": late,
            },
            indent=2,
        )
    )


def timed(command) -> float:
    started = time.perf_counter()
    confirmation = command()
    assert not confirmation.unconfirmed, confirmation
    return 1000 * (time.perf_counter() - started)


def settle(load: Load) -> None:
    count = len(load.answered)
    wait_until(lambda: len(load.answered) > count + 100, 30)


def replaced(servers: Servers, name: str, old: int) -> bool:
    """A replacement reports once it has loaded its models and is about to take connections."""
    return any(report.name == name and report.pid != old for report in servers.gateways())


def summary(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 1),
        "least": round(min(values), 1),
        "most": round(max(values), 1),
    }


if __name__ == "__main__":
    main()
