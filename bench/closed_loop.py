"""What triggered retraining is worth beside none, and beside one every week.

    python bench/closed_loop.py [--short] [--seed 0] [--write]

The stream is real and drifts: flights from New York in 2013 (`tests/data/flights.py`), asked before they
leave: by its schedule and the weather, will this one arrive late? What that takes changes with the seasons.
A model is trained on January and goes live; each day's answers are labelled by the next. The pieces that
decide are those that serve: risk monitoring (`monitoring/risk.py`) raises the finding, the trigger
(`retraining/triggers.py`) decides with cooldown and budget, `retraining/data.py` holds planes out, and the
gate's comparison (`gate/losses.py`) lets a candidate through that is shown to be better. Every candidate, by
clock or trigger, is trained on the four weeks before.

Beside them a clock of two weeks, which trains about as often as the trigger may: what the trigger adds to it.

Ends with 1 unless triggered retraining beats the static model, and is within 1 point of weekly retraining
with at most half of the retrainings. Prints JSON, and a table (on standard error); `--write` also writes the
plot `docs/images/closed-loop.svg`. `--short`, as `make simulate` runs it, follows the flights until the end
of June with models of a third of the trees; what the docs say is of the whole year.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.data.flights import flights

from fairlead.contracts.contract import Output
from fairlead.experiments.aggregates import Proportion
from fairlead.gate.answers import Answers
from fairlead.gate.losses import compare, losses
from fairlead.monitoring.findings import Finding
from fairlead.monitoring.risk import Step, limit_of, watch
from fairlead.retraining.data import is_held_out
from fairlead.retraining.policy import Policy
from fairlead.retraining.triggers import History, decide

MODEL = "late"
DAY = timedelta(days=1)
START = datetime(2013, 1, 1, tzinfo=UTC)
LIVE = 31
"""The first day on which the model answers: February 1."""
WINDOW = 28
YEAR, SHORT_DAYS = 365, 181
TREES = 60
WEEK = 7
TOLERANCE = 0.02
NEEDED = 365.0
"""Days between false alarms, on average."""
ALPHA = 0.05
CLOSE = 0.01
NUMBERS = (
    "distance", "sched_dep_time", "sched_arr_time", "temp", "dewp", "humid", "wind_speed", "precip",
    "pressure", "visib",
)  # fmt: skip
TEXTS = ("carrier", "origin", "dest")
OUTPUT = Output(kind="class", classes=(0, 1))
IMAGE = ROOT / "docs" / "images" / "closed-loop.svg"
POLICY = Policy(
    model=MODEL,
    trainer="flights",
    on=("performance",),
    cooldown=14 * 86_400.0,
    budget=2,
    window=WINDOW * 86_400.0,
)


class Stream(NamedTuple):
    """The flights in order: features, whether each came late, its day from 0, and which are held out."""

    features: NDArray[Any]
    late: NDArray[np.int64]
    day: NDArray[np.int64]
    held: NDArray[np.bool_]

    def days(self, first: int, last: int) -> NDArray[np.bool_]:
        """The rows of days first to last, the last left out."""
        return (self.day >= first) & (self.day < last)


class Run(NamedTuple):
    """How a policy fared: the share of errors of each day from `LIVE` on, the days on which a model was
    trained, and those on which one went live."""

    errors: NDArray[np.float64]
    rows: NDArray[np.int64]
    trained: list[int]
    live: list[int]

    @property
    def accuracy(self) -> float:
        """Share of right answers over all flights."""
        return float(1.0 - np.average(self.errors, weights=self.rows))


def stream(last: int) -> Stream:
    """Flights that arrived before that day, by day and hour; texts as numbers."""
    held = flights()
    known = np.isfinite(held["arr_delay"]) & np.isfinite(held["dep_delay"])
    day = np.array(
        [
            (datetime(2013, int(m), int(d), tzinfo=UTC) - START).days
            for m, d in zip(held["month"][known], held["day"][known], strict=True)
        ]
    )
    order = np.lexsort((held["sched_dep_time"][known], day))
    order = order[day[order] < last]
    columns = [held[name][known] for name in NUMBERS]
    columns += [
        np.unique(held[name][known].astype(str), return_inverse=True)[1].astype(float) for name in TEXTS
    ]
    tails = held["tailnum"][known].astype(str)
    outside = {tail: is_held_out(MODEL, tail, POLICY.held_out) for tail in np.unique(tails)}
    return Stream(
        features=np.column_stack(columns)[order],
        late=(held["arr_delay"][known] > 0).astype(np.int64)[order],
        day=day[order],
        held=np.array([outside[tail] for tail in tails])[order],
    )


class Fits:
    """Models of the four weeks before a day, without the held-out planes; whoever trains on a day that
    another has trained on gets the same."""

    def __init__(self, data: Stream, seed: int, trees: int) -> None:
        self._data = data
        self._seed = seed
        self._trees = trees
        self._made: dict[int, Any] = {}

    def at(self, today: int) -> Any:
        """The model that is trained on that day."""
        from sklearn.ensemble import HistGradientBoostingClassifier

        if today not in self._made:
            rows = self._data.days(today - WINDOW, today) & ~self._data.held
            model = HistGradientBoostingClassifier(max_iter=self._trees, random_state=self._seed)
            self._made[today] = model.fit(self._data.features[rows], self._data.late[rows])
        return self._made[today]


def wrong(model: Any, data: Stream, rows: NDArray[np.bool_]) -> NDArray[np.float64]:
    """1 for each flight of those that the model errs on, else 0."""
    return (model.predict(data.features[rows]) != data.late[rows]).astype(float)


def by_clock(data: Stream, fits: Fits, every: int | None) -> Run:
    """Retrained every so many days, each candidate live at once; or never."""
    model, trained, found, counts = fits.at(LIVE), [], [], []
    for today in range(LIVE, int(data.day.max()) + 1):
        if every is not None and today > LIVE and (today - LIVE) % every == 0:
            model = fits.at(today)
            trained.append(today)
        errors = wrong(model, data, data.days(today, today + 1))
        found.append(float(errors.mean()))
        counts.append(errors.size)
    return Run(np.array(found), np.array(counts), trained, list(trained))


def by_trigger(data: Stream, fits: Fits) -> Run:
    """Retrained when the trigger says so, live when the gate lets it through."""
    model = fits.at(LIVE)
    reference = _reference(model, data, LIVE)
    steps: list[Step] = []
    trained: list[int] = []
    live: list[int] = []
    found, counts = [], []
    ended: datetime | None = None
    for today in range(LIVE, int(data.day.max()) + 1):
        now = START + today * DAY
        finding = _finding(steps, reference, now)
        history = History(begun=tuple(START + day * DAY for day in trained), ended=ended)
        if finding is not None and decide(POLICY, history, [finding], now).cause is not None:
            trained.append(today)
            ended = now
            candidate = fits.at(today)
            rows = data.days(today - WINDOW, today) & data.held
            if _passes(candidate, model, data, rows):
                model, steps = candidate, []
                reference = _reference(model, data, today)
                live.append(today)
        errors = wrong(model, data, data.days(today, today + 1))
        steps.append(Step(n=errors.size, total=float(errors.sum())))
        found.append(float(errors.mean()))
        counts.append(errors.size)
    return Run(np.array(found), np.array(counts), trained, live)


def _reference(model: Any, data: Stream, today: int) -> Proportion:
    """How the model erred on the held-out planes of its four weeks."""
    errors = wrong(model, data, data.days(today - WINDOW, today) & data.held)
    return Proportion(n=errors.size, successes=int(errors.sum()))


def _finding(steps: list[Step], reference: Proportion, now: datetime) -> Finding | None:
    limit = limit_of(reference, tolerance=TOLERANCE)
    if limit is None or not steps:
        return None
    risk = watch(steps, limit, needed=NEEDED)
    return Finding(
        model=MODEL,
        kind="performance",
        subject="risk",
        status="alarm" if risk.rings else "ok",
        sentence=f"Evidence {risk.evidence:.3g} of {NEEDED:g} that more than {limit:.1%} are wrong.",
        start=now - DAY * (len(steps) - (risk.since or 0)),
        end=now,
        n=risk.n,
        value=risk.mean,
        threshold=limit,
    )


def _passes(candidate: Any, champion: Any, data: Stream, rows: NDArray[np.bool_]) -> bool:
    truth = data.late[rows].tolist()
    lost = []
    for model in (candidate, champion):
        values = model.predict(data.features[rows]).tolist()
        answers = Answers(values=values, probabilities=[None] * len(values), errors=[None] * len(values))
        lost.append(losses("accuracy", OUTPUT, truth, answers))
    return compare("accuracy", lost[0], lost[1], None, alpha=ALPHA).worse.high <= POLICY.margin


def plot(runs: dict[str, Run]) -> str:
    """Accuracy by week as an SVG, a line for each run, and marks where the trigger brought a model live."""
    colours = {"never": "#888888", "triggered": "#c2410c", "weekly": "#1d4ed8"}
    names = {"never": "never retrained", "triggered": "triggered", "weekly": "every week"}
    left, right, top, bottom = 52.0, 760.0, 24.0, 300.0
    by_week = {name: _weekly(run) for name, run in runs.items()}
    low = np.floor(min(map(min, by_week.values())) * 20) / 20
    high = np.ceil(max(map(max, by_week.values())) * 20) / 20
    weeks = len(by_week["never"])

    def place(week: float, value: float) -> tuple[float, float]:
        return left + week / (weeks - 1) * (right - left), bottom - (value - low) / (high - low) * (
            bottom - top
        )

    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 350" font-size="12" '
        'font-family="sans-serif">',
        "<title>Share of right answers by week: never retrained, triggered, every week</title>",
        '<rect width="800" height="350" fill="#ffffff"/>',
    ]
    for value in np.arange(low, high + 0.001, 0.05):
        _, y = place(0, value)
        parts.append(f'<path d="M{left} {y:.1f}H{right}" stroke="#e5e5e5"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{value:.0%}</text>')
    for month in range(2, 13):
        x, _ = place(((datetime(2013, month, 1, tzinfo=UTC) - START).days - LIVE) / WEEK, low)
        label = datetime(2013, month, 1, tzinfo=UTC).strftime("%b")
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{label}</text>')
    for name, values in by_week.items():
        points = " ".join(
            f"{x:.1f},{y:.1f}" for x, y in (place(week, value) for week, value in enumerate(values))
        )
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colours[name]}" stroke-width="2"/>')
    for day in runs["triggered"].live:
        x, _ = place((day - LIVE) / WEEK, low)
        parts.append(f'<path d="M{x:.1f} {bottom}v-8" stroke="{colours["triggered"]}" stroke-width="3"/>')
    for index, (name, run) in enumerate(runs.items()):
        x = left + 20 + 240 * index
        parts.append(f'<path d="M{x} 335h24" stroke="{colours[name]}" stroke-width="3"/>')
        parts.append(f'<text x="{x + 30}" y="339">{names[name]}: {run.accuracy:.1%}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _weekly(run: Run) -> list[float]:
    starts = range(0, len(run.errors) - WEEK + 1, WEEK)
    return [
        float(1.0 - np.average(run.errors[at : at + WEEK], weights=run.rows[at : at + WEEK])) for at in starts
    ]


def main() -> int:
    """Runs the three, says how they fared, and whether what is promised holds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true", help="until the end of June, with fewer trees")
    parser.add_argument("--write", action="store_true", help="write the plot, too")
    asked = parser.parse_args()
    if asked.write and asked.short:
        parser.error("The plot is of the whole year: --write goes without --short.")
    data = stream(SHORT_DAYS if asked.short else YEAR)
    fits = Fits(data, asked.seed, TREES // 3 if asked.short else TREES)
    runs = {
        "never": by_clock(data, fits, None),
        "triggered": by_trigger(data, fits),
        "weekly": by_clock(data, fits, WEEK),
        "fortnight": by_clock(data, fits, 2 * WEEK),
    }
    never, triggered, weekly = runs["never"], runs["triggered"], runs["weekly"]
    holds = (
        triggered.accuracy > never.accuracy
        and triggered.accuracy > weekly.accuracy - CLOSE
        and 2 * len(triggered.trained) <= len(weekly.trained)
    )
    rows = f"{weekly.rows.sum():,} flights, {'February to June' if asked.short else 'February to December'}"
    print(f"{rows:<38}{'right answers':>14}{'trained':>9}{'went live':>11}", file=sys.stderr)
    for name, run in runs.items():
        share = f"{100.0 * run.accuracy:.2f} %"
        print(f"{name:<38}{share:>14}{len(run.trained):>9}{len(run.live):>11}", file=sys.stderr)
    if asked.write:
        IMAGE.write_text(plot({name: runs[name] for name in ("never", "triggered", "weekly")}), "utf-8")
    told = {
        name: {"accuracy": run.accuracy, "trained": run.trained, "live": run.live}
        for name, run in runs.items()
    }
    print(json.dumps({"rows": int(weekly.rows.sum()), "holds": holds, **told}))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
