"""Fairlead beside other model servers, in interleaved rounds on one core: `make bench-peers`.

    python -m bench.peers [--only forest,heavy] [--peers triton,mlserver] [--rounds 5] [--seconds 3] [--quick]

Installs each peer into an environment of its own, makes the models, and measures. Prints a Markdown table for
each model; everything measured goes to bench/results/ as JSON. See bench/README.md for what is compared.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.peers.entrants import FAIRLEAD, Entrant, chosen
from bench.peers.environments import HERE, NotInstallable, install, versions
from bench.peers.measure import CONNECTIONS, Bench, NotMeasurable, PrepareFailed
from bench.peers.models import MODELS, make_models
from bench.peers.processes import NotReady, cores
from bench.peers.summary import medians, starved, summarise, table


def main() -> None:
    given = _options()
    started = time.monotonic()
    entrants, absent = _installed(chosen(given.peers))
    make_models(HERE / "made", given.only)
    print(f"bench: {len(entrants)} servers, {len(given.only)} models, {given.rounds} rounds", flush=True)
    path = HERE.parent / "results" / time.strftime("peers-%Y%m%d-%H%M%S.json")
    path.parent.mkdir(exist_ok=True)
    fixed = {
        "machine": _machine(),
        "options": {"rounds": given.rounds, "seconds": given.seconds, "connections": CONNECTIONS},
        "versions": {entrant.name: versions(entrant.environment) for entrant in entrants},
        "not_measured": absent,
    }
    with tempfile.TemporaryDirectory(prefix="peers-") as scratch:
        try:
            # Written after each round, so that a run which is stopped has not been for nothing.
            for results in _measured(given, entrants, Path(scratch)):
                minutes = round((time.monotonic() - started) / 60, 1)
                at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
                document = {"at": at, "minutes": minutes, **fixed, **results}
                path.write_text(json.dumps(document, indent=2))
        except (NotReady, NotMeasurable) as error:
            sys.exit(f"bench: {error}")
    _show(document, entrants)
    print(f"\n{minutes} minutes; written to {path.relative_to(HERE.parent.parent)}")


def _options() -> argparse.Namespace:
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    options.add_argument("--only", help="models, separated by commas: forest, recommender, heavy")
    options.add_argument("--peers", help="peers, separated by commas; Fairlead is always measured")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=int, default=3, help="of each load")
    options.add_argument(
        "--quick", action="store_true", help="one round of 2 s: does every server work here?"
    )
    given = options.parse_args()
    given.only = list(MODELS) if given.only is None else given.only.split(",")
    unknown = [name for name in given.only if name not in MODELS]
    if unknown:
        sys.exit(f"bench: no such model: {unknown[0]}; there are {', '.join(MODELS)}")
    if given.quick:
        given.rounds, given.seconds = 1, 2
    if given.rounds < 1 or given.seconds < 1:
        sys.exit("bench: --rounds and --seconds are at least 1")
    try:
        chosen(given.peers)
    except ValueError as error:
        sys.exit(f"bench: {error}")
    for program in ("wrk", "taskset"):
        if shutil.which(program) is None:
            sys.exit(f"bench: {program} is not installed; install it from the system's packages.")
    if cores()[0] == cores()[1]:
        sys.exit("bench: this needs two cores, one for the servers and one for the load.")
    return given


def _installed(entrants: list[Entrant]) -> tuple[list[Entrant], dict[str, str]]:
    """Those whose environment could be made, and for the others the reason."""
    absent: dict[str, str] = {}
    for name in dict.fromkeys(entrant.environment for entrant in entrants):
        if name is not None:
            print(f"bench: environment of {name} …", flush=True)
            try:
                install(name)
            except NotInstallable as error:
                absent |= {found.name: str(error) for found in entrants if found.environment == name}
                print(f"bench: {name} cannot be installed here: {error}", flush=True)
    return [entrant for entrant in entrants if entrant.name not in absent], absent


def _measured(given: argparse.Namespace, entrants: list[Entrant], scratch: Path) -> Iterator[dict[str, Any]]:
    """The results after each round."""
    benches = {name: Bench(MODELS[name], HERE / "made", scratch, given.seconds) for name in given.only}
    unprepared = {name: _prepare(bench, entrants) for name, bench in benches.items()}
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in benches}
    raw: dict[str, list[dict[str, float]]] = {name: [] for name in benches}
    hello: list[dict[str, dict[str, float]]] = []
    for number in range(given.rounds):
        hello.append(next(iter(benches.values())).hello())
        for name, bench in benches.items():
            raw[name].append(bench.raw())
            found: dict[str, Any] = {}
            # Each round begins with another server, so that none always follows the same one.
            turn = number % len(entrants)
            for entrant in entrants[turn:] + entrants[:turn]:
                reason = unprepared[name].get(entrant.name)
                found[entrant.name] = {"faults": [reason], "loads": {}} if reason else bench.measure(entrant)
                print(
                    f"bench: round {number + 1} {name} {entrant.name}: {_brief(found[entrant.name])}",
                    flush=True,
                )
            rounds[name].append(found)
        yield {
            "hello": medians(hello),
            "models": {name: summarise(rounds[name], raw[name]) for name in benches},
            "rounds": rounds,
        }


def _prepare(bench: Bench, entrants: list[Entrant]) -> dict[str, str]:
    failed: dict[str, str] = {}
    reasons: dict[str | None, str | None] = {}
    for entrant in entrants:
        # Rows of one environment share what is prepared.
        if entrant.environment not in reasons or entrant is FAIRLEAD:
            try:
                bench.prepare(entrant)
                reasons[entrant.environment] = None
            except PrepareFailed as error:
                reasons[entrant.environment] = f"its model could not be prepared: {error}"
        reason = reasons[entrant.environment]
        if reason is not None:
            failed[entrant.name] = reason
    return failed


def _brief(found: dict[str, Any]) -> str:
    rates = [f"c{count} {row['per_second']:,.0f}" for count, row in found["loads"].items()]
    return ", ".join([*rates, *(f"FAULT: {fault}" for fault in found["faults"])])


def _machine() -> dict[str, Any]:
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "processor": names[0].partition(":")[2].strip() if names else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def _show(document: dict[str, Any], entrants: list[Entrant]) -> None:
    titles = {entrant.name: entrant.title for entrant in entrants}
    hello = ", ".join(f"c{count} {row['per_second']:,.0f}" for count, row in document["hello"].items())
    print(f"\nFixed answer, no model (requests/s): {hello}")
    for name, summary in document["models"].items():
        raw = summary["raw"]
        print(f"\n## {name}: {MODELS[name].title}\n")
        print(f"session.run: {raw['rows_1']:,.0f} rows/s with 1 row, {raw['rows_32']:,.0f} with 32\n")
        print(table(summary, titles))
        if busy := starved(summary):
            print(f"\nNot alone on their core, so not to be quoted: {', '.join(busy)}")
    for name, reason in document["not_measured"].items():
        print(f"\nNot measured: {name}: {reason}")


if __name__ == "__main__":
    main()
