"""What a bad version costs before it is rolled back, and how a harmless one fares, with real traffic.

    python bench/rollout_faults.py [--runs 40] [--harmless 10]

Each run is a rollout at 25 % beside a control of the same size, over HTTP, from its first canary request
until it has ended: a version that raises for 5 % of the inputs, one that takes three times as long, and a
copy of the one in production. Prints JSON: canary requests and seconds until the end, and how runs ended.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from bench.seeded_model import Seeded
from tests.servers import Servers

import fairlead
from fairlead.client.admin import Admin
from fairlead.client.http import AsyncClient
from fairlead.client.registered import Rollout
from fairlead.errors import FairleadError

_SECONDS = 0.004
_VERSIONS = {
    "stable": Seeded(0.0, _SECONDS),
    "errors": Seeded(0.05, _SECONDS),
    "slow": Seeded(0.0, 3 * _SECONDS),
    "harmless": Seeded(0.0, _SECONDS),
}
_PLAN = {"steps": [{"weight": 25, "minimum": "1s", "events": 300}, {"weight": 100}], "bake": 0}
_LONGEST_SECONDS = 60.0
_CALLERS = 32


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=40)
    options.add_argument("--harmless", type=int, default=10)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        flags = ("--trust-pickle",)
        with Servers(Path(scratch) / "data", *flags, workers=1, PYTHONPATH=str(ROOT)) as servers:
            for name, model in _VERSIONS.items():
                fairlead.register(
                    model, "seeded", name, reference={"x": np.arange(20, dtype=float)}, trust_pickle=True,
                    set_production=name == "stable", admin_url=servers.admin_url,
                )  # fmt: skip
            with Admin(servers.admin_url) as admin:
                admin.configure("seeded", None, {"cache_seconds": 0})
                found = {
                    name: _told([asyncio.run(_run(servers, admin, name)) for _ in range(count)])
                    for name, count in (
                        ("errors", given.runs),
                        ("slow", given.runs),
                        ("harmless", given.harmless),
                    )
                }
    print(json.dumps(found, indent=2))


async def _run(servers: Servers, admin: Admin, version: str) -> dict[str, Any]:
    """One rollout under traffic, from its start to its end."""
    ending = asyncio.Event()
    async with AsyncClient(servers.url, timeout=10.0) as client:

        async def call(caller: int) -> None:
            number = caller
            while not ending.is_set():
                number += _CALLERS
                unit = f"{time.monotonic_ns()}-{number}"
                try:
                    await client.predict("seeded", {"x": float(number % 1000)}, unit=unit)
                except FairleadError:
                    continue

        callers = [asyncio.create_task(call(number)) for number in range(_CALLERS)]
        await asyncio.sleep(0.2)
        began = time.perf_counter()
        started = await asyncio.to_thread(admin.start_rollout, "seeded", version, plan=_PLAN)
        rollout: Rollout = started
        while not rollout.over and time.perf_counter() < began + _LONGEST_SECONDS:
            await asyncio.sleep(0.05)
            rollout = await asyncio.to_thread(admin.rollout, "seeded", started.id)
        seconds = time.perf_counter() - began
        if not rollout.over:
            await asyncio.to_thread(admin.command_rollout, "seeded", "abort")
        ending.set()
        await asyncio.gather(*callers)
    if rollout.state == "succeeded":
        admin.rollback("seeded", to="stable")
    asked = admin.sql(
        f"SELECT count(*) FROM predictions WHERE model = 'seeded' AND generation = {started.generation} "
        "AND arm = 'canary'"
    )
    return {"state": rollout.state, "seconds": seconds, "requests": int(asked.rows[0][0])}


def _told(runs: list[dict[str, Any]]) -> dict[str, Any]:
    told: dict[str, Any] = {"runs": len(runs), "ended": dict(Counter(run["state"] for run in runs))}
    for name in ("requests", "seconds"):
        found = sorted(run[name] for run in runs)
        if found:
            told[name] = {
                "median": round(found[len(found) // 2], 1),
                "p95": round(found[min(len(found) - 1, int(0.95 * len(found)))], 1),
                "most": round(found[-1], 1),
            }
    return told


if __name__ == "__main__":
    main()
