"""What verdicts on experiments are worth when one looks every day: false alarms, power, and time to decide.

    python bench/simulate.py [--runs 2000] [--seed 1]

Thirty days of 500 units per arm at a conversion of 10 %, judged after every day by `experiments.verdict`,
beside the plain z-test. Once both arms are alike, once the treated one converts 11.5 %; and the split between
arms of equal weight, judged by `experiments.sample_ratio` every day. Last, few events: a rate of 1 % with 5 %
of the traffic. Then whole reports with three goals and two guardrails (`simulated_experiments.py`), on a
quarter of the runs, and two phases of different shares, by phase and in one heap. Ends with 1 when a figure
is worse than promised. Prints JSON, and a table (on standard error).
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench import simulated_experiments
from fairlead.experiments.aggregates import Proportion
from fairlead.experiments.sample_ratio import sample_ratio
from fairlead.experiments.sequences import difference
from fairlead.experiments.verdict import verdict

LOOKS = 30
UNITS = 500
RATE = 0.10
BETTER = 0.115
FEW_RATE = 0.01
FEW_UNITS = 20
ALPHA = 0.05
FALSE_AT_MOST = 5.0
REPORTS_PART = 4
"""One in so many runs is one of whole reports, which take longer."""
POWER_AT_LEAST = 85.0
PLAIN_Z = 1.959964


def days(generator: np.random.Generator, runs: int, rate: float) -> NDArray[np.int64]:
    """Conversions so far, by run and day."""
    return np.cumsum(generator.binomial(UNITS, rate, size=(runs, LOOKS)), axis=1)


def decided(control: NDArray[np.int64], treated: NDArray[np.int64]) -> list[tuple[str, int]]:
    """For each run the first finding other than "not yet known", and its day; the last day where there was
    none."""
    found = []
    for before, after in zip(control.tolist(), treated.tolist(), strict=True):
        finding, day = "not yet known", LOOKS
        for look, (a, b) in enumerate(zip(before, after, strict=True), start=1):
            n = look * UNITS
            finding = verdict(Proportion(n, a), Proportion(n, b), alpha=ALPHA).finding
            if finding != "not yet known":
                day = look
                break
        found.append((finding, day))
    return found


def plain_z(control: NDArray[np.int64], treated: NDArray[np.int64]) -> float:
    """Percent of runs that a z-test at each look calls different at least once."""
    n = UNITS * np.arange(1, LOOKS + 1)
    a, b = control / n, treated / n
    se = np.sqrt((a * (1 - a) + b * (1 - b)) / n)
    return percent((np.abs(b - a) > PLAIN_Z * se).any(axis=1))


def split_alarms(generator: np.random.Generator, runs: int, share: float) -> float:
    """Percent of runs whose split the evidence calls wrong at least once, at alpha 0.05 and equal weights."""
    counts = np.cumsum(generator.binomial(2 * UNITS, share, size=(runs, LOOKS)), axis=1)
    alarms = []
    for run in counts.tolist():
        looks = ({"control": n, "treated": 2 * UNITS * day - n} for day, n in enumerate(run, start=1))
        weights = {"control": 1.0, "treated": 1.0}
        alarms.append(any(sample_ratio(look, weights, alpha=ALPHA).mismatch for look in looks))
    return percent(alarms)


def few_alarms(generator: np.random.Generator, runs: int) -> float:
    """Percent of runs in which the interval of the difference misses 0 at a look, where both arms fail at 1 %
    and the treated one has 5 % of the traffic: 20 units a look, hardly an event."""
    control = np.cumsum(generator.binomial(19 * FEW_UNITS, FEW_RATE, size=(runs, LOOKS)), axis=1)
    treated = np.cumsum(generator.binomial(FEW_UNITS, FEW_RATE, size=(runs, LOOKS)), axis=1)
    alarms = []
    for before, after in zip(control.tolist(), treated.tolist(), strict=True):
        found = (
            difference(Proportion(19 * n, a), Proportion(n, b), alpha=ALPHA)
            for n, a, b in zip(
                range(FEW_UNITS, (LOOKS + 1) * FEW_UNITS, FEW_UNITS), before, after, strict=True
            )
        )
        alarms.append(any(each.low > 0.0 or each.high < 0.0 for each in found))
    return percent(alarms)


def percent(found: Any) -> float:
    return round(100.0 * float(np.mean(found)), 2)


def simulate(runs: int, seed: int) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    control, same = days(generator, runs, RATE), days(generator, runs, RATE)
    better = days(generator, runs, BETTER)
    alike, unlike = decided(control, same), decided(control, better)
    middle = statistics.median(day if finding == "better" else math.inf for finding, day in unlike)
    return {
        "runs": runs,
        "seed": seed,
        "looks": LOOKS,
        "units_per_arm_and_look": UNITS,
        "alike": {
            "false_percent": percent([finding != "not yet known" for finding, _ in alike]),
            "plain_z_false_percent": plain_z(control, same),
        },
        "unlike": {
            "better_percent": percent([finding == "better" for finding, _ in unlike]),
            "worse_percent": percent([finding == "worse" for finding, _ in unlike]),
            "median_day": middle if math.isfinite(middle) else None,
        },
        "few_events": {"false_percent": few_alarms(generator, runs)},
        "split": {
            "false_percent": split_alarms(generator, runs, 0.5),
            "found_percent_at_48_to_52": split_alarms(generator, runs, 0.48),
        },
        "reports": simulated_experiments.alike(generator, max(1, runs // REPORTS_PART), LOOKS, UNITS, ALPHA),
        "phases": simulated_experiments.phases(generator, runs, ALPHA),
    }


def broken(found: dict[str, Any]) -> list[str]:
    """What is worse than promised."""
    faults = [
        f"{name}: {found[name]['false_percent']} % false, promised {FALSE_AT_MOST} % at most"
        for name in ("alike", "few_events", "split")
        if found[name]["false_percent"] > FALSE_AT_MOST
    ]
    for kind in ("goals", "guardrails", "split"):
        false = found["reports"][f"{kind}_false_percent"]
        if false > FALSE_AT_MOST:
            faults.append(f"reports: {kind} {false} % false, promised {FALSE_AT_MOST} % at most")
    if found["phases"]["stratified"]["false_percent"] > FALSE_AT_MOST:
        faults.append(f"phases: {found['phases']['stratified']['false_percent']} % false")
    if found["unlike"]["better_percent"] < POWER_AT_LEAST:
        faults.append(
            f"unlike: {found['unlike']['better_percent']} % found, promised {POWER_AT_LEAST} % at least"
        )
    return faults


def table(found: dict[str, Any]) -> str:
    unlike, reports, phases = found["unlike"], found["reports"], found["phases"]
    by_phase, heap = phases["stratified"], phases["pooled"]
    rows = (
        ("both arms 10 %: told apart by our verdict", f"{found['alike']['false_percent']} %"),
        ("both arms 10 %: told apart by a daily z-test", f"{found['alike']['plain_z_false_percent']} %"),
        ("10 % and 11.5 %: told better by day 30", f"{unlike['better_percent']} %"),
        ("10 % and 11.5 %: told worse by day 30", f"{unlike['worse_percent']} %"),
        ("10 % and 11.5 %: median day of telling better", str(unlike["median_day"])),
        ("1 % in 5 and 95 % of the traffic: told apart", f"{found['few_events']['false_percent']} %"),
        ("equal split: called wrong", f"{found['split']['false_percent']} %"),
        ("48 to 52 instead of equal: called wrong", f"{found['split']['found_percent_at_48_to_52']} %"),
        ("reports, 3 goals alike: one told apart", f"{reports['goals_false_percent']} %"),
        ("reports, 2 guardrails alike: one told broken", f"{reports['guardrails_false_percent']} %"),
        ("reports, all alike: anything wrong", f"{reports['any_false_percent']} %"),
        ("two phases, no difference: lift by phase", f"{by_phase['median_lift_percent']} %"),
        ("two phases, no difference: lift in one heap", f"{heap['median_lift_percent']} %"),
        ("two phases: told apart by phase", f"{by_phase['false_percent']} %"),
        ("two phases: told apart in one heap", f"{heap['false_percent']} %"),
    )
    return "\n".join(f"{name:<48}{value:>10}" for name, value in rows)


def main() -> int:
    parser = argparse.ArgumentParser(description="What the verdicts of experiments are worth.")
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    found = simulate(options.runs, options.seed)
    print(table(found), file=sys.stderr)
    print(json.dumps(found, indent=2))
    for fault in broken(found):
        print(f"simulate: {fault}", file=sys.stderr)
    return 1 if broken(found) else 0


if __name__ == "__main__":
    sys.exit(main())
