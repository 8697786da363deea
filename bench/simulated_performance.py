"""What the alarm of performance is worth, on real labels: how often it is false, and how soon it comes.

    python bench/simulated_performance.py [--quiet 1000] [--runs 200] [--looks 1000] [--seed 1]

People of Massachusetts in shuffled order, with what a model said of each and whether it was right: 100
labels an hour, the first 1,000 of them the reference. First months without drift, and months whose risk is
exactly as high as it may be, watched by `monitoring.risk` for at most one false alarm in 30 days; beside it
a z-test of the last 1,000 labels at every look, and a fixed drop of 5 points in them. Then answers that go
wrong after ten good days, and after how many labels that is found, beside detectors that always and never
fire; last, looks at all else that labels tell (`quiet_looks.py`). Ends with 1 when a figure is worse than
promised. Prints JSON, and tables (on standard error).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.delays import told
from bench.quiet_looks import broken_looks, looks, looks_table
from tests.data.employment import employment

from fairlead.experiments.aggregates import Proportion
from fairlead.monitoring.answered import LEAST_REFERENCE
from fairlead.monitoring.detectors import Follower
from fairlead.monitoring.risk import TOLERANCE, Step, limit_of, watch
from fairlead.registry.versions import DetectorName

__all__ = ["broken", "simulate", "tables"]

Wrong = NDArray[np.bool_]
"""Of answers in order of time, which were wrong."""

DAYS, HOURS = 30, 24
NEEDED = float(DAYS * HOURS)
AN_HOUR = 100
GOOD = 10 * HOURS
"""So many hours go well before something goes wrong."""
LONGEST = 30 * HOURS
"""What is not found in so many hours is missed."""
BACK = LEAST_REFERENCE // AN_HOUR
SOON = 3
"""Days within which a tenth of all false alarms of 30 days may come, at most."""
NARROW = 0.02
FLIPPED = "concept flips"
WITHIN = 5_000

RULES = {
    "fairlead": f"Fairlead, {100 * TOLERANCE:g} points may be lost",
    "narrow": f"Fairlead, performance_tolerance={NARROW:g}",
    "stated": "the same, and accuracy stated at registration",
    "z": "z-test of the last 1,000 at every look, p < 0.05",
    "drop": "5 points below the reference in the last 1,000",
    "adwin": "ADWIN (river), as performance_detector=adwin",
    "page-hinkley": "Page-Hinkley (river), likewise",
}
DETECTORS: tuple[DetectorName, ...] = ("adwin", "page-hinkley")
ONE_IN = 10
"""Of months and runs those detectors, which take every label by itself, see one in so many."""


class Change(NamedTuple):
    """What goes wrong with the answers."""

    name: str
    change: Callable[[Wrong, np.random.Generator], Wrong]


def _more(points: float) -> Callable[[Wrong, np.random.Generator], Wrong]:
    def change(wrong: Wrong, generator: np.random.Generator) -> Wrong:
        return raised(wrong, float(wrong.mean()) + points / 100.0, generator)

    return change


CHANGES = (
    Change(FLIPPED, lambda wrong, _: ~wrong),
    Change("20 points of accuracy lost", _more(20.0)),
    Change("10 points of accuracy lost", _more(10.0)),
    Change("5 points of accuracy lost", _more(5.0)),
)


def raised(wrong: Wrong, share: float, generator: np.random.Generator) -> Wrong:
    """The answers with so many right ones gone wrong that this share is, on average."""
    before = float(wrong.mean())
    return wrong | (generator.random(len(wrong)) < (share - before) / (1.0 - before))


def simulate(quiet: int, runs: int, looked: int, seed: int) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    people = employment()
    held: Wrong = people.prediction != people.label
    return {
        "seed": seed,
        "people": len(held),
        "wrong": round(float(held.mean()), 4),
        "no_drift": calm(held, generator, quiet, at_the_limit=False),
        "at_the_limit": calm(held, generator, quiet, at_the_limit=True),
        "detection": [detection(held, one, generator, runs) for one in CHANGES],
        "nothing_changed": looks(looked, AN_HOUR, np.random.default_rng((seed, 1))),
    }


# --- without drift ------------------------------------------------------------------------------------------


def calm(held: Wrong, generator: np.random.Generator, runs: int, *, at_the_limit: bool) -> dict[str, Any]:
    """In how many of so many months each rule rings at all, and within three days. `at_the_limit` the risk is
    what each of our rules lets it be, and no other rule is asked."""
    names = [name for name in RULES if not at_the_limit or name in _limits(held, held)]
    months, soon = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
    for run in range(runs):
        reference, month = _drawn(held, generator, DAYS * HOURS)
        for name in names:
            if name in DETECTORS and run % ONE_IN:
                continue
            stream = month
            if at_the_limit:
                stream = raised(month, _limits(held, reference)[name], generator)
            first = first_alarm(name, held, reference, stream, 0)
            months[name] += first is not None
            soon[name] += first is not None and first < SOON * HOURS
    return {"months": runs, "rang": months, "rang_soon": soon}


def _drawn(held: Wrong, generator: np.random.Generator, hours: int) -> tuple[Wrong, Wrong]:
    order = generator.permutation(len(held))[: LEAST_REFERENCE + hours * AN_HOUR]
    drawn = held[order]
    return drawn[:LEAST_REFERENCE], drawn[LEAST_REFERENCE:]


# --- something goes wrong -----------------------------------------------------------------------------------


def detection(held: Wrong, one: Change, generator: np.random.Generator, runs: int) -> dict[str, Any]:
    """After how many labels of what goes wrong each rule rings."""
    delays: dict[str, list[float]] = {name: [] for name in RULES}
    for run in range(runs):
        reference, stream = _drawn(held, generator, GOOD + LONGEST)
        onset = GOOD * AN_HOUR
        stream = np.concatenate([stream[:onset], one.change(stream[onset:], generator)])
        for name in RULES:
            if name in DETECTORS and run % ONE_IN:
                continue
            first = first_alarm(name, held, reference, stream, GOOD)
            delays[name].append(math.inf if first is None else (first + 1 - GOOD) * AN_HOUR)
    return {
        "change": one.name,
        "runs": runs,
        **{name: told(found) for name, found in delays.items()},
        "always": {"median": AN_HOUR, "worst": AN_HOUR, "missed": 0},
        "never": {"median": None, "worst": None, "missed": runs},
    }


# --- the rules ----------------------------------------------------------------------------------------------


def first_alarm(name: str, held: Wrong, reference: Wrong, stream: Wrong, since: int) -> int | None:
    """The first hour from `since` on at whose end the rule rings."""
    hours = stream.reshape(-1, AN_HOUR).sum(axis=1)
    for detector in DETECTORS:
        if name == detector:
            return _followed(hours, detector, reference, since)
    limit = _limits(held, reference).get(name)
    if limit is not None:
        return _watched(hours, limit, since)
    # Of the last 1,000 labels; in the first hours those of the reference are among them.
    known = np.concatenate([reference.reshape(-1, AN_HOUR).sum(axis=1), hours]).cumsum()
    last = (known[BACK:] - known[:-BACK]) / LEAST_REFERENCE
    before = reference.mean()
    if name == "drop":
        rings = last - before >= 0.05
    else:
        pooled = (last + before) / 2.0
        rings = (last - before) / np.sqrt(2.0 * pooled * (1.0 - pooled) / LEAST_REFERENCE) > 1.6449
    found = np.flatnonzero(rings[since:])
    return since + int(found[0]) if len(found) else None


def _limits(held: Wrong, reference: Wrong) -> dict[str, float]:
    """The risks above which our rules may ring."""
    began = Proportion(len(reference), float(reference.sum()))
    own = {"fairlead": limit_of(began), "narrow": limit_of(began, tolerance=NARROW)}
    stated = {"stated": float(held.mean()) + NARROW}
    return {name: limit for name, limit in own.items() if limit is not None} | stated


def _watched(hours: NDArray[np.int64], limit: float, since: int) -> int | None:
    steps = [Step(n=AN_HOUR, total=float(wrong)) for wrong in hours]
    first = watch(steps, limit, needed=NEEDED).alarmed
    if first is None or first >= since:
        return first
    # It rang before: the alarm may still be on.
    ends = range(since + 1, len(steps) + 1)
    return next((end - 1 for end in ends if watch(steps[:end], limit, needed=NEEDED).rings), None)


def _followed(hours: NDArray[np.int64], detector: DetectorName, reference: Wrong, since: int) -> int | None:
    limit = limit_of(Proportion(len(reference), float(reference.sum())))
    follower = Follower(detector, 1.0 if limit is None else limit)
    for hour, wrong in enumerate(hours):
        follower.add(Step(n=AN_HOUR, total=float(wrong)))
        if hour >= since and follower.now.rings:
            return hour
    return None


# --- what is said of it -------------------------------------------------------------------------------------


def broken(found: dict[str, Any]) -> list[str]:
    """What is worse than promised."""
    faults = []
    share = SOON / DAYS
    for key in ("no_drift", "at_the_limit"):
        one = found[key]
        allowed = one["months"] * share + 3.0 * math.sqrt(one["months"] * share * (1.0 - share))
        for name, rang in one["rang_soon"].items():
            if name in ("fairlead", "narrow", "stated") and rang > allowed:
                faults.append(f"{key}: {rang} rang within {SOON} days ({RULES[name]}), {allowed:.0f} may")
    flip = next(one for one in found["detection"] if one["change"] == FLIPPED)
    for name in ("fairlead", "narrow", "stated"):
        worst = flip[name]["worst"]
        if worst is None or worst > WITHIN:
            faults.append(f"{FLIPPED}: found after {worst} labels, promised {WITHIN}")
    return faults + broken_looks(found["nothing_changed"])


def tables(found: dict[str, Any]) -> str:
    calm_, edge = found["no_drift"], found["at_the_limit"]
    months = calm_["months"]
    lines = [
        f"of {months:,} months of {AN_HOUR} labels an hour, {100 * found['wrong']:.1f} % of them wrong: "
        "those that ring",
        f"{'':<52}{'no drift':>19}{'risk at the limit':>21}",
        f"{'':<52}{'3 days':>10}{'30 days':>9}{'3 days':>12}{'30 days':>9}",
        f"{'allowed: one alarm in 30 days':<52}{months * SOON // DAYS:>10,}{months:>9,}"
        f"{months * SOON // DAYS:>12,}{months:>9,}",
    ]
    for name, rule in RULES.items():
        if name in DETECTORS:
            rule += f", of {-(-months // ONE_IN):,}"
        line = f"{rule:<52}{calm_['rang_soon'][name]:>10,}{calm_['rang'][name]:>9,}"
        if name in edge["rang"]:
            line += f"{edge['rang_soon'][name]:>12,}{edge['rang'][name]:>9,}"
        lines.append(line)
    lines.append(f"{'always fires':<52}{months:>10,}{months:>9,}{months:>12,}{months:>9,}")
    lines.append(f"{'never fires':<52}{0:>10}{0:>9}{0:>12}{0:>9}")
    lines += ["", "labels until it is found: median (worst)"]
    for name, rule in {**RULES, "always": "always fires", "never": "never fires"}.items():
        lines.append(rule)
        few = ONE_IN if name in DETECTORS else 1
        lines += [
            f"    {one['change']:<48}{_cell(one[name], -(-one['runs'] // few)):>30}"
            for one in found["detection"]
        ]
    return "\n".join([*lines, "", *looks_table(found["nothing_changed"])])


def _cell(one: dict[str, Any], runs: int) -> str:
    if one["missed"] == runs:
        return "–"
    middle = "–" if one["median"] is None else f"{one['median']:,.0f}"
    if one["missed"]:
        return f"{middle} ({one['missed']} of {runs} missed)"
    return f"{middle} ({one['worst']:,.0f})"


def main() -> int:
    parser = argparse.ArgumentParser(description="What the alarm of performance is worth.")
    parser.add_argument("--quiet", type=int, default=1_000, help="months without drift")
    parser.add_argument("--runs", type=int, default=200, help="runs of each change")
    parser.add_argument("--looks", type=int, default=1_000, help="looks at weeks in which nothing changed")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    found = simulate(options.quiet, options.runs, options.looks, options.seed)
    print(tables(found), file=sys.stderr)
    print(json.dumps(found, indent=2))
    for fault in broken(found):
        print(f"simulated performance: {fault}", file=sys.stderr)
    return 1 if broken(found) else 0


if __name__ == "__main__":
    sys.exit(main())
