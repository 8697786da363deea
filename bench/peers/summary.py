"""Rounds to medians, ratios and a table. Pure: numbers in, numbers and text out."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["best", "medians", "starved", "summarise", "table"]

Loads = Mapping[str, Mapping[str, float]]
Round = Mapping[str, Any]
Summary = dict[str, Any]


def summarise(rounds: Sequence[Mapping[str, Round]], raw: Sequence[Mapping[str, float]]) -> Summary:
    """The medians of a model's rounds. Each round holds what each server did in it, by name, "fairlead" among
    them; `raw` holds each round's `session.run`.

    Each server gets `loads` (medians by number of connections), `start_s`, `memory_mib`, `faults` (of every
    round), `percent_of_raw` (its best requests per second against `session.run` with one row), and, beside
    Fairlead, `ratio`: Fairlead's best over its best, with the least and most of single rounds.
    """
    limit = {key: statistics.median(found[key] for found in raw) for key in raw[0]}
    names = list(dict.fromkeys(name for found in rounds for name in found))
    servers = {name: _server([found[name] for found in rounds if name in found]) for name in names}
    ours = servers.get("fairlead")
    for name, server in servers.items():
        if not server["loads"]:
            continue
        server["percent_of_raw"] = round(100 * best(server) / limit["rows_1"], 1)
        if ours is not None and name != "fairlead" and ours["loads"] and not ours["faults"]:
            server["ratio"] = _ratio(ours, server, rounds, name)
    return {"raw": limit, "servers": servers}


def best(server: Mapping[str, Any]) -> float:
    """Requests per second at the number of connections that suits it best; 0 for one without a load."""
    return max((float(row["per_second"]) for row in server["loads"].values()), default=0.0)


def medians(rounds: Sequence[Loads]) -> dict[str, dict[str, float]]:
    """The median of each figure by number of connections, and the least and most requests per second."""
    found = {
        count: {
            key: round(statistics.median(loads[count][key] for loads in rounds), 3)
            for key in rounds[0][count]
        }
        for count in rounds[0]
    }
    for count, row in found.items():
        rates = [loads[count]["per_second"] for loads in rounds]
        row["least"], row["most"] = min(rates), max(rates)
    return found


def table(summary: Summary, titles: Mapping[str, str]) -> str:
    """A Markdown table, the quickest first; servers with faults stand below, unranked, with the reason."""
    servers = summary["servers"]
    ranked = sorted(
        (name for name, server in servers.items() if not server["faults"]),
        key=lambda name: -best(servers[name]),
    )
    counts = list(dict.fromkeys(count for server in servers.values() for count in server["loads"]))
    heads = [
        "server",
        *(f"req/s c{count}" for count in counts),
        *(f"p50/p99 ms c{count}" for count in counts),
        "Fairlead is",
        "% of raw",
        "start s",
        "MiB",
    ]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for name in ranked:
        server = servers[name]
        loads = [server["loads"][count] for count in counts]
        cells = [
            titles.get(name, name),
            *(f"{row['per_second']:,.0f}" for row in loads),
            *(f"{row['p50_ms']:.2f}/{row['p99_ms']:.2f}" for row in loads),
            f"{server['ratio']['median']:.2f}×" if "ratio" in server else "–",
            f"{server['percent_of_raw']:.1f}",
            f"{server['start_s']:.2f}",
            f"{server['memory_mib']:.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    faulty = [name for name in servers if name not in ranked]
    lines += [
        f"\nNot ranked: {titles.get(name, name)}: {'; '.join(servers[name]['faults'])}" for name in faulty
    ]
    return "\n".join(lines)


def starved(summary: Summary) -> list[str]:
    """The servers that used less than nine tenths of their core under the most connections: somebody else was
    at work on it, or the load was too light. Their figures say less than the others'."""
    found = []
    for name, server in summary["servers"].items():
        loads = list(server["loads"].values())
        if loads and loads[-1]["cores"] < 0.9:
            found.append(name)
    return found


def _server(rounds: Sequence[Round]) -> Summary:
    faults = list(dict.fromkeys(fault for found in rounds for fault in found["faults"]))
    answered = [found for found in rounds if found["loads"]]
    if not answered:
        return {"loads": {}, "faults": faults}
    return {
        "loads": medians([found["loads"] for found in answered]),
        "start_s": round(statistics.median(found["start_s"] for found in answered), 2),
        "memory_mib": round(statistics.median(found["memory_mib"] for found in answered)),
        "faults": faults,
    }


def _ratio(ours: Summary, server: Summary, rounds: Sequence[Mapping[str, Round]], name: str) -> Summary:
    single = [
        best(found["fairlead"]) / best(found[name])
        for found in rounds
        if found.get("fairlead", {}).get("loads") and found.get(name, {}).get("loads")
    ]
    each = {
        count: round(ours["loads"][count]["per_second"] / row["per_second"], 2)
        for count, row in server["loads"].items()
    }
    return {
        "median": round(best(ours) / best(server), 2),
        "least": round(min(single), 2),
        "most": round(max(single), 2),
        "by_connections": each,
    }
