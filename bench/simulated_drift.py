"""What alarms of drift are worth, on real rows: how often they are false, and how soon they come.

    python bench/simulated_drift.py [--windows 1000] [--runs 20] [--seed 1]

Flights from New York, with their weather and planes, in shuffled order: 30 fields, among them one constant,
one that is nearly always null and one of 4,000 categories. First 1,000 windows of 1,000 rows without drift,
sliced by airport, judged by `monitoring.drift` for at most one false alarm in 30 days of hourly looks; beside
it the thresholds that common tools ship, on the same windows. Then drifts that are seeded into the stream,
and after how many rows they are found, beside detectors that always and never fire; and drifts so gross that
the alert is to fire at its first look, as soon as half of a window has drifted. Ends with 1 when a figure is
worse than promised. Prints JSON, and tables (on standard error).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.delays import told
from bench.seeded_drifts import ANSWER, GROSS, SEEDED, Seeded, Values
from bench.shipped_thresholds import NAMES, Shipped
from tests.data.flights import flights

from fairlead.alerts.rules import DEFAULTS
from fairlead.contracts.columns import Column
from fairlead.contracts.contract import Contract, Field, Output
from fairlead.contracts.counts import Bins, FieldCounts, FieldKey, bins_of, reference_counts, tally
from fairlead.contracts.profile import NumberProfile, profile
from fairlead.contracts.table import Table
from fairlead.monitoring.drift import Pair, Shift, level, shifts

__all__ = ["broken", "simulate", "tables"]

Rows = dict[FieldKey, Values]

DAYS = 30
HOURLY = 24
REFERENCE = 20_000
WINDOW = 1_000
LOOK_EVERY = 250
TRAILING = (250, 1_000, 5_000)
_LEFT_OUT = {"hour", "minute", "flight", "arr_time", "plane_model", "plane_engines"}
GROSS_AT = next(rule.gross for rule in DEFAULTS if rule.name == "drift") or math.inf
"""The effect at which one look is enough for the alert (`alerts/rules.py`)."""


def rows() -> Rows:
    """29 features of every flight, and as the answer of a model whether it left more than 15 minutes late."""
    held = {FieldKey("feature", name): values for name, values in flights().items() if name not in _LEFT_OUT}
    late = flights()["dep_delay"] > 15.0
    return held | {ANSWER: np.where(late, "late", "in time").astype(object)}


def simulate(windows: int, runs: int, seed: int) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    held = rows()
    return {
        "seed": seed,
        "fields": len(held),
        "reference_rows": REFERENCE,
        "no_drift": no_drift(held, generator, windows),
        "detection": [detection(held, one, generator, runs) for one in SEEDED],
        "gross": [at_first_look(held, one, generator, runs) for one in GROSS],
    }


# --- no drift -----------------------------------------------------------------------------------------------


def no_drift(held: Rows, generator: np.random.Generator, windows: int) -> dict[str, Any]:
    """Windows with any alarm, and alarms, by each rule."""
    budget = level(DAYS, HOURLY)
    counts = dict.fromkeys(("alarm", "gross", "significant", "one_in_twenty", *NAMES), 0)
    largest = 0.0
    fields = dict.fromkeys(NAMES, 0)
    for reference, window in _streams(held, generator, windows):
        pairs = list(_sliced(reference, window))
        told = shifts(pairs, level=budget)
        counts["alarm"] += any(one.status == "alarm" for one in told)
        counts["gross"] += any(_is_gross(one) for one in told)
        largest = max(largest, *(one.effect for one in told if one.effect is not None))
        # The first stage alone: how honest the p-values are, here and at a level that is met more often.
        least = min(one.p for one in told if one.p is not None)
        counts["significant"] += least <= budget
        counts["one_in_twenty"] += least <= 0.05
        for name, found in _shipped(reference, window).items():
            counts[name] += found > 0
            fields[name] += found
    return {
        "windows": windows,
        "rows": WINDOW,
        "days": round(windows / HOURLY, 1),
        "budget_windows": round(windows * budget, 2),
        "alarm_windows": counts["alarm"],
        "gross_windows": counts["gross"],
        "largest_effect": round(largest, 3),
        "significant_windows": counts["significant"],
        "one_in_twenty_percent": round(100.0 * counts["one_in_twenty"] / windows, 2),
        "fixed": {name: {"windows": counts[name], "alarms": fields[name]} for name in NAMES},
    }


class Reference(NamedTuple):
    """A reference of one shuffle: what it lends and holds."""

    shipped: dict[FieldKey, Shipped]
    bins: dict[FieldKey, Bins]
    counts: dict[FieldKey, FieldCounts]
    slices: dict[str, dict[FieldKey, FieldCounts]]


def _streams(held: Rows, generator: np.random.Generator, windows: int) -> Iterator[tuple[Reference, Rows]]:
    """So many windows, each with its reference: all rows of a shuffle are used once, then they are shuffled
    anew."""
    size = len(held[ANSWER])
    done = 0
    while True:
        order = generator.permutation(size)
        reference = _reference(_taken(held, order[:REFERENCE]))
        for at in range(REFERENCE, size - WINDOW, WINDOW):
            if done == windows:
                return
            done += 1
            yield reference, _taken(held, order[at : at + WINDOW])


def _reference(taken: Rows) -> Reference:
    bins = {key: _bins(values) for key, values in taken.items()}
    slices = {name: _counts(bins, part) for name, part in _parts(taken).items()}
    shipped = {key: Shipped(_present(values)) for key, values in taken.items()}
    return Reference(shipped, bins, {key: reference_counts(one) for key, one in bins.items()}, slices)


def _sliced(reference: Reference, window: Rows) -> Iterator[Pair]:
    """Every field of all traffic, and of each airport's."""
    held = {"": reference.counts} | reference.slices
    parts = {"": window} | _parts(window)
    for name, part in parts.items():
        current = _counts(reference.bins, part)
        for key, bins in reference.bins.items():
            yield Pair(name, key, bins, held[name][key], current[key], lent=True)


def _parts(taken: Rows) -> dict[str, Rows]:
    origin = taken[FieldKey("feature", "origin")]
    return {f"origin={name}": _taken(taken, np.flatnonzero(origin == name)) for name in ("EWR", "JFK", "LGA")}


def _shipped(reference: Reference, window: Rows) -> dict[str, int]:
    """How many fields alarm by each of the thresholds that common tools ship."""
    found = dict.fromkeys(NAMES, 0)
    for key, values in window.items():
        for name, alarm in reference.shipped[key].alarms(_present(values)).items():
            found[name] += alarm
    return found


# --- drifts that are seeded ---------------------------------------------------------------------------------


def detection(held: Rows, one: Seeded, generator: np.random.Generator, runs: int) -> dict[str, Any]:
    """After how many rows since it began a drift is found, looking every 250 rows at the last 250, 1,000 and
    5,000; before it there are rows without drift. Where it is not found in twice the promised rows, it is
    missed."""
    size = len(held[ANSWER])
    allowed = level(DAYS, HOURLY * len(TRAILING))
    delays: dict[str, list[float]] = {"fairlead": [], "psi above 0.1": []}
    for _ in range(runs):
        order = generator.permutation(size)
        reference = _reference(_taken(held, order[:REFERENCE]))
        length = TRAILING[-1] + 2 * one.within
        stream = _taken(held, order[REFERENCE : REFERENCE + length])
        onset = TRAILING[-1]
        stream[one.key] = np.concatenate(
            [stream[one.key][:onset], one.drift(stream[one.key][onset:], generator)]
        )
        first = dict.fromkeys(delays, math.inf)
        for end in range(onset + LOOK_EVERY, length + 1, LOOK_EVERY):
            if first["fairlead"] == math.inf and _found(reference, stream, end, one.key, allowed):
                first["fairlead"] = end - onset
            last = _present(stream[one.key][end - LOOK_EVERY : end])
            if first["psi above 0.1"] == math.inf and reference.shipped[one.key].alarms(last)["psi"]:
                first["psi above 0.1"] = end - onset
        for name, delay in first.items():
            delays[name].append(delay)
    return {
        "drift": one.name,
        "within": one.within,
        "runs": runs,
        **{name: told(found) for name, found in delays.items()},
        "always": {"median": LOOK_EVERY, "worst": LOOK_EVERY, "missed": 0},
        "never": {"median": None, "worst": None, "missed": runs},
    }


def at_first_look(held: Rows, one: Seeded, generator: np.random.Generator, runs: int) -> dict[str, Any]:
    """In how many runs the alert fires at once when half of the last 1,000 rows have drifted, and the
    smallest effect seen there."""
    allowed = level(DAYS, HOURLY * len(TRAILING))
    effects = []
    for _ in range(runs):
        order = generator.permutation(len(held[ANSWER]))
        reference = _reference(_taken(held, order[:REFERENCE]))
        stream = _taken(held, order[REFERENCE : REFERENCE + WINDOW])
        half = WINDOW // 2
        stream[one.key] = np.concatenate(
            [stream[one.key][:half], one.drift(stream[one.key][half:], generator)]
        )
        told = [shift for shift in shifts(_pairs(reference, stream), level=allowed) if shift.key == one.key]
        effects.append(max((shift.effect or 0.0 for shift in told if shift.status == "alarm"), default=0.0))
    fired = sum(effect >= GROSS_AT for effect in effects)
    return {"drift": one.name, "runs": runs, "fired": fired, "least_effect": round(min(effects), 3)}


def _is_gross(one: Shift) -> bool:
    return one.status == "alarm" and one.effect is not None and one.effect >= GROSS_AT


def _pairs(reference: Reference, rows: Rows) -> list[Pair]:
    """Every field of all traffic."""
    current = _counts(reference.bins, rows)
    return [
        Pair("", name, reference.bins[name], reference.counts[name], current[name], lent=True)
        for name in current
    ]


def _found(reference: Reference, stream: Rows, end: int, key: FieldKey, allowed: float) -> bool:
    for rows_back in TRAILING:
        pairs = _pairs(reference, _taken(stream, slice(end - rows_back, end)))
        if any(one.status == "alarm" and one.key == key for one in shifts(pairs, level=allowed)):
            return True
    return False


# --- rows and counts ----------------------------------------------------------------------------------------


def _taken(held: Rows, places: NDArray[np.int64] | slice) -> Rows:
    return {key: values[places] for key, values in held.items()}


def _absent(values: Values) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = np.isnan(values) if values.dtype == np.float64 else np.equal(values, None)
    return found


def _present(values: Values) -> Values:
    return values[~_absent(values)]


def _counts(bins: dict[FieldKey, Bins], taken: Rows) -> dict[FieldKey, FieldCounts]:
    found = {}
    for key, values in taken.items():
        absent = _absent(values)
        present = values[~absent]
        listed = present if isinstance(bins[key], NumberProfile) else present.tolist()
        found[key] = tally(bins[key], listed, nulls=int(absent.sum()))
    return found


def _bins(values: Values) -> Bins:
    kind: Any = "float" if values.dtype == np.float64 else "string"
    contract = Contract(inputs=(Field(name="x", type=kind, nullable=True),), output=Output(kind="number"))
    column = Column(name="x", type=kind, values=values, null=_absent(values))
    held = profile(Table(columns=(column,), rows=len(values)), contract)
    return bins_of(held)[FieldKey("feature", "x")]


# --- what is said of it -------------------------------------------------------------------------------------


def broken(found: dict[str, Any]) -> list[str]:
    """What is worse than promised."""
    calm = found["no_drift"]
    faults = []
    if calm["alarm_windows"] > calm["budget_windows"]:
        faults.append(f"no drift: {calm['alarm_windows']} alarms, promised {calm['budget_windows']} at most")
    if calm["gross_windows"]:
        faults.append(f"no drift: {calm['gross_windows']} windows are called gross")
    luck = 300.0 * math.sqrt(0.05 * 0.95 / calm["windows"])
    if calm["one_in_twenty_percent"] > 5.0 + luck:
        faults.append(f"no drift: {calm['one_in_twenty_percent']} % significant at 5 %")
    for one in found["detection"]:
        worst = one["fairlead"]["worst"]
        if worst is None or worst > one["within"]:
            faults.append(f"{one['drift']}: found after {worst} rows, promised {one['within']}")
    faults += [
        f"{one['drift']}: the alert fired at its first look in {one['fired']} of {one['runs']} runs"
        for one in found["gross"]
        if one["fired"] < one["runs"]
    ]
    return faults


def tables(found: dict[str, Any]) -> str:
    calm = found["no_drift"]
    of = f"of {calm['windows']:,} windows of {calm['rows']:,} rows without drift, {found['fields']} fields"
    lines = [
        f"{of} and 3 slices, {calm['days']:g} days of hourly looks",
        f"{'':<58}{'windows':>8}{'alarms':>8}",
        f"{f'allowed: one in {DAYS} days':<58}{calm['budget_windows']:>8}",
        f"{'alarmed by Fairlead':<58}{calm['alarm_windows']:>8}",
        f"{'significant at that level, however small the effect':<58}{calm['significant_windows']:>8}",
        f"{'significant at 5 %, in percent':<58}{calm['one_in_twenty_percent']:>8}",
    ]
    for name, rule in NAMES.items():
        one = calm["fixed"][name]
        lines.append(f"{f'alarmed by {rule}, no slices':<58}{one['windows']:>8}{one['alarms']:>8}")
    lines += [
        "",
        f"{'rows until it is found: median (worst)':<34}{'promised':>9}{'Fairlead':>15}{'PSI > 0.1':>18}",
    ]
    lines[-1] += f"{'always fires':>14}{'never':>7}"
    for one in found["detection"]:
        cells = [_cell(one[name], one["runs"]) for name in ("fairlead", "psi above 0.1", "always", "never")]
        lines.append(
            f"{one['drift']:<38}{one['within']:>9,}{cells[0]:>15}{cells[1]:>24}{cells[2]:>14}{cells[3]:>7}"
        )
    size = calm["windows"]
    psi = calm["fixed"]["psi"]["windows"]
    lines.append(
        f"{'windows without drift that alarm':<38}{calm['budget_windows']:>9}{calm['alarm_windows']:>15}"
        f"{psi:>24}{size:>14}{0:>7}"
    )
    lines += ["", f"half of a window of {WINDOW:,} rows has drifted: the alert fires at its first look"]
    for one in found["gross"]:
        seen = f"(effect {one['least_effect']:.2f} at least, {GROSS_AT:g} is enough)"
        lines.append(f"{one['drift']:<38}{one['fired']:>4} of {one['runs']} {seen}")
    lines.append(
        f"{'without drift':<38}{calm['gross_windows']:>4} of {calm['windows']} (effect "
        f"{calm['largest_effect']:.2f} at most)"
    )
    return "\n".join(lines)


def _cell(one: dict[str, Any], runs: int) -> str:
    if one["missed"] == runs:
        return "–"
    missed = f", {one['missed']} missed" if one["missed"] else ""
    middle = "–" if one["median"] is None else f"{one['median']:,.0f}"
    return f"{middle} ({'–' if one['worst'] is None else format(one['worst'], ',.0f')}{missed})"


def main() -> int:
    parser = argparse.ArgumentParser(description="What alarms of drift are worth.")
    parser.add_argument("--windows", type=int, default=1_000)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    found = simulate(options.windows, options.runs, options.seed)
    print(tables(found), file=sys.stderr)
    print(json.dumps(found, indent=2))
    for fault in broken(found):
        print(f"simulated drift: {fault}", file=sys.stderr)
    return 1 if broken(found) else 0


if __name__ == "__main__":
    sys.exit(main())
