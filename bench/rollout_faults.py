"""What a bad version costs before it is rolled back, and how a harmless one fares, with real traffic.

    python bench/rollout_faults.py [--runs 40] [--harmless 50] [--only errors]

Each run is a rollout beside a control of the same size, over HTTP, from its first canary request until it has
ended: a version that raises for 5 % of the inputs, one that takes three times as long, one that takes its
feature for another unit, one after which 20 % fewer customers buy, and a copy of the one in production. Every
version is judged by the same plan, of which only the share of the traffic differs. Prints JSON: requests to
the candidate and seconds until the end, how runs ended, and what was said when they did.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
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
from fairlead.errors import FairleadError

_SECONDS = 0.004
_VERSIONS = {
    "stable": Seeded(0.0, _SECONDS),
    "errors": Seeded(0.05, _SECONDS),
    "slow": Seeded(0.0, 3 * _SECONDS),
    "unit": Seeded(0.0, _SECONDS, unit=100.0),
    "fewer": Seeded(0.0, _SECONDS),
    "harmless": Seeded(0.0, _SECONDS),
}
_BUYS = 0.4
"""The share of the customers who buy; after what `fewer` answers 20 % less."""
_SHARE = {"fewer": 50.0}
"""Percent of the units that the candidate answers, 25 unless it is told: who buys is seldom known soon."""
_PATIENCE = {"fewer": "90s"}
"""How long a step may last, 15 s unless it is told. What could not be told by then goes on."""
_METRICS = [
    {"name": "bought", "higher_is": "better", "margin": 0.05, "margin_is": "relative", "window": "2s"}
]
_LONGEST_SECONDS = 120.0
_CALLERS = 32
_THINKS = 0.02
"""Seconds between two requests of a caller: what is watched is not a machine at its limit."""
_AT_ONCE = 5


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=40)
    options.add_argument("--harmless", type=int, default=50)
    options.add_argument("--only", choices=[name for name in _VERSIONS if name != "stable"])
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
                found = {}
                for name in [given.only] if given.only else [name for name in _VERSIONS if name != "stable"]:
                    count = given.harmless if name == "harmless" else given.runs
                    found[name] = _told([asyncio.run(_run(servers, admin, name)) for _ in range(count)])
                    print(f"{name}: {json.dumps(found[name])}", file=sys.stderr)
    print(json.dumps(found, indent=2))


async def _run(servers: Servers, admin: Admin, version: str) -> dict[str, Any]:
    """One rollout under traffic, from its start to its end."""
    ending = asyncio.Event()
    chance = random.Random()
    async with AsyncClient(servers.url, timeout=10.0) as client:

        async def call(caller: int) -> None:
            number = caller
            events: list[dict[str, Any]] = []
            while not ending.is_set():
                number += _CALLERS
                await asyncio.sleep(_THINKS)
                unit = f"{time.monotonic_ns()}-{number}"
                try:
                    answer = await client.predict("seeded", {"x": float(number % 1000)}, unit=unit)
                except FairleadError:
                    continue
                buys = _BUYS * (0.8 if answer.model_version == "fewer" else 1.0)
                bought = float(chance.random() < buys)
                events.append({"request_id": answer.request_id, "metric": "bought", "value": bought})
                if len(events) == _AT_ONCE:
                    await client.outcomes("seeded", events)
                    events.clear()

        callers = [asyncio.create_task(call(number)) for number in range(_CALLERS)]
        await asyncio.sleep(1.0)  # until outcomes have been told of: an unknown one would be refused
        began = time.perf_counter()
        plan = {
            "steps": [
                {
                    "weight": _SHARE.get(version, 25.0),
                    "minimum": "1s",
                    "events": 300,
                    "deadline": _PATIENCE.get(version, "15s"),
                    "inconclusive": "advance",
                },
                {"weight": 100},
            ],
            "bake": 0,
            "metrics": _METRICS,
        }
        try:
            rollout = await asyncio.to_thread(admin.start_rollout, "seeded", version, plan=plan)
            generation = rollout.generation
            while not rollout.over and time.perf_counter() < began + _LONGEST_SECONDS:
                await asyncio.sleep(0.05)
                rollout = await asyncio.to_thread(admin.rollout, "seeded", rollout.id)
            seconds = time.perf_counter() - began
            if not rollout.over:
                await asyncio.to_thread(admin.command_rollout, "seeded", "abort")
        finally:
            ending.set()
            await asyncio.gather(*callers)
    if rollout.state == "succeeded":
        admin.rollback("seeded", to="stable")
    asked = admin.sql(
        f"SELECT count(*) FROM predictions WHERE model = 'seeded' AND generation = {generation} "
        "AND arm = 'canary'"
    )
    return {
        "state": rollout.state,
        "seconds": seconds,
        "requests": int(asked.rows[0][0]),
        "why": "".join(
            event.reason if event.to_state == "paused" else event.reason.split()[0].rstrip(":")
            for event in rollout.journal
            if event.to_state in ("aborting", "paused")
        ),
    }


def _told(runs: list[dict[str, Any]]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "runs": len(runs),
        "ended": dict(Counter(run["state"] for run in runs)),
        "because of": dict(Counter(run["why"] for run in runs)),
    }
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
