"""What intervals hold when the world changes: as they were calibrated, and following their labels.

    python bench/simulated_coverage.py [--runs 5] [--months 300] [--seed 1]

What a model said of used cars and what they cost, 100 labels an hour, which come an hour after their answers.
2,000 rows calibrate it. Then 20 days in shuffled order, the same with errors that grow twofold at once or
threefold in time, and later cars in their own order, whose mix changes. Each is told by split
conformal prediction, and by levels that follow the labels at two speeds (`contracts/adaptive.py`). Of each
the share that lay within, the least in any 1,000 labels, the width, and when the alarm of coverage rings
(`monitoring/covering.py`). Last, what that alarm is worth: months in which the promise is kept, with what a
draw of the calibration rows makes of it, and how soon a lower share is found. Ends with 1 when a figure is
worse than promised. Prints JSON, and a table (on standard error).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.delays import told as delay_told
from tests.data.car_prices import cars

from fairlead.contracts.adaptive import learnt, quantile_at, thinned
from fairlead.contracts.uncertainty import COVERAGE, Uncertainty, conformal_quantile
from fairlead.monitoring.covering import most_outside
from fairlead.monitoring.risk import TOLERANCE, Step, watch

__all__ = ["broken", "simulate", "table"]

Errors = NDArray[np.float64]

CALIBRATED, AN_HOUR, HOURS = 2_000, 100, 480
CHANGES_AT = 240
"""The hour in which something changes."""
USUAL = 0.005
RATES = (0.0, USUAL, 0.02)
NEEDED = 720.0
NARROW = 0.02
_LAST = 1_000

_SHUFFLED = "nothing changes"
_REAL = "later cars, in their order"
_BROKEN = "errors twice as large at once"
STREAMS: dict[str, Callable[[Errors], Errors]] = {
    _SHUFFLED: lambda errors: errors,
    _BROKEN: lambda errors: errors * np.where(np.arange(len(errors)) < CHANGES_AT * AN_HOUR, 1.0, 2.0),
    "errors three times as large in time": lambda errors: errors * np.linspace(1.0, 3.0, len(errors)),
    _REAL: lambda errors: errors,
}


def simulate(runs: int, seed: int, hours: int = HOURS, months: int = 300) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    before, later = cars("reference").size, cars("analysis").size
    found: dict[str, dict[float, list[dict[str, Any]]]] = {
        name: {rate: [] for rate in RATES} for name in STREAMS
    }
    for _ in range(runs):
        order = generator.permutation(len(before))
        said, scores = calibrated(before[order[:CALIBRATED]])
        rest = before[order[CALIBRATED:]][: hours * AN_HOUR]
        for name, change in STREAMS.items():
            stream = change(later[: hours * AN_HOUR] if name == _REAL else rest)
            for rate in RATES:
                found[name][rate].append(told(said, scores, stream, rate))
    return {
        "seed": seed,
        "runs": runs,
        "labels": hours * AN_HOUR,
        "promised": COVERAGE,
        "streams": {
            name: [{"rate": rate, **_together(each)} for rate, each in by_rate.items()]
            for name, by_rate in found.items()
        },
        "kept": [kept(generator, rows, months) for rows in (100, 1_000, 10_000)],
        "lost": [
            lost(generator, share, tolerance, max(months // 5, 1))
            for tolerance in (TOLERANCE, NARROW)
            for share in (0.85, 0.8, 0.7)
        ],
    }


# --- what the alarm is worth --------------------------------------------------------------------------------


def kept(generator: np.random.Generator, rows: int, months: int) -> dict[str, Any]:
    """In how many of so many months the alarm rings though rows to come are like those of calibration. What
    lies within then is Beta-distributed over draws of the calibration rows (Vovk 2012)."""
    rank = math.ceil((rows + 1) * COVERAGE - 1e-9)
    shares = generator.beta(rank, rows + 1 - rank, months)
    rang = sum(_alarmed(generator, [share], rows) is not None for share in shares)
    return {"rows": rows, "months": months, "rang": rang}


def lost(generator: np.random.Generator, share: float, tolerance: float, runs: int) -> dict[str, Any]:
    """After how many labels it is found that after ten good days only that share lies within."""
    delays = []
    for _ in range(runs):
        first = _alarmed(generator, [COVERAGE, share], 1_000, tolerance)
        delays.append(math.inf if first is None else (first + 1 - CHANGES_AT) * AN_HOUR)
    return {"share": share, "tolerance": tolerance, "runs": runs, **delay_told(delays)}


def _alarmed(
    generator: np.random.Generator, shares: Sequence[float], rows: int, tolerance: float = TOLERANCE
) -> int | None:
    """The first hour that rings: 30 days of the last share, after ten of each before it."""
    hours = [CHANGES_AT] * (len(shares) - 1) + [int(NEEDED)]
    outside = np.concatenate([
        generator.binomial(AN_HOUR, 1.0 - share, count) for share, count in zip(shares, hours, strict=True)
    ])  # fmt: skip
    said = Uncertainty(kind="interval", quantile=1.0, n=rows)
    steps = (Step(n=AN_HOUR, total=float(one)) for one in outside)
    return watch(steps, most_outside(said, tolerance), needed=NEEDED).alarmed


# --- what intervals hold ------------------------------------------------------------------------------------


def calibrated(errors: Errors) -> tuple[Uncertainty, tuple[float, ...]]:
    said = Uncertainty(kind="interval", quantile=conformal_quantile(errors), n=len(errors))
    return said, thinned(errors)


def told(said: Uncertainty, scores: tuple[float, ...], stream: Errors, rate: float) -> dict[str, Any]:
    """What answers were told hour by hour, by what the labels of the hours before had taught."""
    outside, quantile = 1.0 - said.coverage, said.quantile
    within, widths = [], []
    for hour in stream.reshape(-1, AN_HOUR):
        within.append(hour <= quantile)
        widths.append(quantile)
        if rate:
            outside = learnt(said, scores, outside, hour.tolist(), rate)
            quantile = quantile_at(said, scores, outside)
    held = np.concatenate(within)
    steps = [Step(n=AN_HOUR, total=float(AN_HOUR - hour.sum())) for hour in within]
    sums, last = np.concatenate([[0], held.cumsum()]), min(_LAST, len(held))
    return {
        "within": float(held.mean()),
        "least": float(((sums[last:] - sums[:-last]) / last).min()),
        "width": float(np.mean(widths) / said.quantile),
        "rings": watch(steps, most_outside(said), needed=NEEDED).alarmed,
    }


def _together(each: list[dict[str, Any]]) -> dict[str, Any]:
    rang = [one["rings"] for one in each if one["rings"] is not None]
    return {
        "within": round(float(np.mean([one["within"] for one in each])), 4),
        "least": round(min(one["least"] for one in each), 4),
        "width": round(float(np.mean([one["width"] for one in each])), 3),
        "rang": len(rang),
        "rang_at": float(np.median(rang)) if rang else None,
    }


def broken(found: dict[str, Any]) -> list[str]:
    """What is worse than promised: at a usual rate the share within is off by more than a point in the long
    run; the alarm rings where nothing changes, or not within a day of what breaks the promise."""
    faults = []
    for name, rates in found["streams"].items():
        usual = next(one for one in rates if one["rate"] == USUAL)
        if abs(usual["within"] - COVERAGE) > 0.01:
            faults.append(f"{name}: {usual['within']:.1%} within at {USUAL:g}")
    still = found["streams"][_SHUFFLED][0]
    if still["rang"] > found["runs"] // 4:
        faults.append(f"{_SHUFFLED}: {still['rang']} of {found['runs']} rang")
    split = found["streams"][_BROKEN][0]
    if split["rang"] < found["runs"] or not CHANGES_AT <= split["rang_at"] < CHANGES_AT + 24:
        faults.append(f"{_BROKEN}: {split['rang']} of {found['runs']} rang, at hour {split['rang_at']}")
    faults += [
        f"kept, on {one['rows']} rows: {one['rang']} of {one['months']} months rang"
        for one in found["kept"]
        if one["rang"] > 0.05 * one["months"]
    ]
    return faults


def table(found: dict[str, Any]) -> str:
    lines = [
        f"{found['labels']:,} labels, {found['promised']:.0%} promised, {found['runs']} runs",
        f"{'':<38}{'rate':>7}{'within':>9}{'least in 1,000':>16}{'width':>8}  rings",
    ]
    for name, rates in found["streams"].items():
        for one in rates:
            rings = "–" if not one["rang"] else f"{one['rang']} of {found['runs']}, hour {one['rang_at']:.0f}"
            lines.append(
                f"{name:<38}{one['rate'] or 'split':>7}{one['within']:>9.1%}{one['least']:>16.1%}"
                f"{one['width']:>8.2f}  {rings}"
            )
            name = ""
    lines += ["", "months of 100 labels an hour in which the promise is kept: those that ring"]
    for one in found["kept"]:
        lines.append(f"    calibrated on {one['rows']:>6,} rows{one['rang']:>8,} of {one['months']:,}")
    lines.append("labels until it is found that less lies within: median (worst)")
    for one in found["lost"]:
        middle, worst = ("–" if one[key] is None else f"{one[key]:,.0f}" for key in ("median", "worst"))
        place = f"    {one['share']:.0%}, {100 * one['tolerance']:g} points may be missing"
        lines.append(f"{place:<40}{middle:>8} ({worst}), {one['missed']} of {one['runs']} missed")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="What intervals hold when the world changes.")
    parser.add_argument("--runs", type=int, default=5, help="draws of the calibration and of the order")
    parser.add_argument("--months", type=int, default=300, help="months in which the promise is kept")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    found = simulate(options.runs, options.seed, months=options.months)
    print(table(found), file=sys.stderr)
    print(json.dumps(found, indent=2))
    for fault in broken(found):
        print(f"simulated coverage: {fault}", file=sys.stderr)
    return 1 if broken(found) else 0


if __name__ == "__main__":
    sys.exit(main())
