"""What rules before the split cost a request that matches none of them, and so asks all.

    python bench/targeting.py [--rounds 9] [--requests 6000]

The walk of bench/stages.py: one process, no sockets, from request bytes to answer bytes with the record
written, 16 requests in a turn. The plans take turns within each round. Prints JSON: medians of processor
time in microseconds, and the median over rounds of what each costs above the plan without rules.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.stages import MODEL, Walk

from fairlead.routing.targeting import Rule
from fairlead.serving.folder import DataFolder

TURN = 16
FEATURE = MODEL.columns[0]


def header(number: int) -> Rule:
    return Rule(name=f"header-{number}", header=f"x-group-{number}", one_of=("staff",), version="v2")


def feature(number: int) -> Rule:
    return Rule(name=f"feature-{number}", feature=FEATURE, above=1e5 + number, version="v2")


RULES: dict[str, tuple[Rule, ...]] = {
    "no rule": (),
    "1 rule about a header": (header(0),),
    "1 rule about a feature": (feature(0),),
    "20 rules about headers": tuple(map(header, range(20))),
    "20 rules about features": tuple(map(feature, range(20))),
    "1 rule of 10,000 units": (
        Rule(name="units", units=tuple(f"pilot-{number}" for number in range(10_000)), version="v2"),
    ),
}


async def serve(walk: Walk, folder: DataFolder, rules: tuple[Rule, ...]) -> None:
    """Makes these the rules of the model."""
    held = folder.read_plans(MODEL.name)
    assert held is not None
    assert held.active is not None
    plan = msgspec.structs.replace(held.active.plan, rules=rules, generation=held.active.plan.generation + 1)
    active = msgspec.structs.replace(held.active, plan=plan.completed())
    folder.write_plans(msgspec.structs.replace(held, active=active))
    await walk.refresher.refresh()
    serving = walk.plane.model(MODEL.name).serving.plan
    assert serving.generation == plan.generation


async def measure(rounds: int, requests: int) -> dict[str, dict[str, dict[str, float]]]:
    """Microseconds per request, by the load and the plan's rules."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "data"
        walk = Walk(root, requests)
        await walk.refresher.refresh()
        loads = {"distinct inputs": walk.requests, "cache hits": walk.requests[:1] * requests}
        times: dict[tuple[str, str], list[float]] = {}
        for turn in range(rounds + 1):
            for rules in RULES:
                await serve(walk, DataFolder(root), RULES[rules])
                for load, sent in loads.items():
                    walk.whole(TURN, sent[: TURN * 32])
                    taken = walk.whole(TURN, sent)
                    if turn:  # the first round warms
                        times.setdefault((load, rules), []).append(taken)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for (load, rules), taken in times.items():
        above = [one - none for one, none in zip(taken, times[load, "no rule"], strict=True)]
        found.setdefault(load, {})[rules] = {
            "us": round(statistics.median(taken), 1),
            "above_no_rule_us": round(statistics.median(above), 2),
        }
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--requests", type=int, default=6_000)
    given = options.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print(json.dumps(asyncio.run(measure(given.rounds, given.requests)), indent=2))


if __name__ == "__main__":
    main()
