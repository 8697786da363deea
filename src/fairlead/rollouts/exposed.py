"""What the prediction log says of an experiment: whom each arm met first, and what became of them.

Texts of SQL over the tables of `predictions/views.py`, and how their answers are read. A unit belongs to the
arm and the phase of its first exposure, whatever it met later. Where it was seen in an earlier phase without
being exposed (as one of the rest), that phase is part of its stratum, too: it says by which chance the arm
was drawn, for units that come back differ from units that are new.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from fairlead.experiments.aggregates import Paired
from fairlead.experiments.cuped import adjusted, variance_removed
from fairlead.experiments.question import Evidence, Question
from fairlead.experiments.strata import Stratum
from fairlead.predictions.effective import SPLIT_ONLY
from fairlead.rollouts.moves import CANARY, CONTROL, STABLE
from fairlead.rollouts.outcome_sums import QUALITY, Ask, Whom, arm_of, names_told, quoted, sums_of

__all__ = ["Came", "Exposed", "evidence_of", "exposed"]

LOOKBACK_DAYS = 28
"""So far before a unit's first exposure its outcomes foretell those after it."""

Came = tuple[int, int]
"""A stratum: the generation of the first exposure, and the latest one before it in which the unit was one of
the rest; 0 for a unit that was not seen before."""

Shares = Callable[[Came], float]
"""The treated arm's part of a stratum, as drawn."""

_EXPOSED = """
met AS (
  SELECT unit, arm, generation, first_exposure_at AS first, arms FROM exposures
  WHERE model = {model} AND experiment = {experiment} AND arm IN ('{control}', '{canary}')
), rest AS (
  SELECT m.unit, max(p.generation) AS came FROM met m
  JOIN predictions p ON p.model = {model} AND p.experiment = {experiment} AND p.unit = m.unit
  WHERE p.arm = '{stable}' AND p.generation < m.generation AND p."at" < m.first AND {split}
  GROUP BY m.unit
), exposed AS (
  SELECT m.*, coalesce(r.came, 0) AS came FROM met m LEFT JOIN rest r ON r.unit = m.unit
)
"""
_UNITS = """
WITH {exposed}
SELECT arm, generation, came, count(*) AS units, min(first) AS first, max(first) AS last,
  count(*) FILTER (arms > 1) AS switched
FROM exposed GROUP BY arm, generation, came
"""


class Exposed(msgspec.Struct, frozen=True, kw_only=True):
    """The units of an experiment by stratum: control's, and the treated arm's. `switched` of them met the
    other arm later."""

    units: dict[Came, tuple[int, int]] = {}
    switched: int = 0
    first: datetime | None = None
    last: datetime | None = None

    @property
    def days(self) -> float:
        """From the first to the last first exposure."""
        if self.first is None or self.last is None:
            return 0.0
        return (self.last - self.first).total_seconds() / 86_400


def exposed(ask: Ask, model: str, experiment: str) -> Exposed:
    """The units that have met an arm of the experiment so far."""
    rows = ask(_UNITS.format(exposed=_exposed(model, experiment)))
    units: dict[Came, tuple[int, int]] = {}
    for row in rows:
        came = (int(row["generation"]), int(row["came"]))
        control, treated = units.get(came, (0, 0))
        count = int(row["units"])
        units[came] = (control + count, treated) if row["arm"] == CONTROL else (control, treated + count)
    return Exposed(
        units=dict(sorted(units.items())),
        switched=sum(int(row["switched"]) for row in rows),
        first=min((_moment(row["first"]) for row in rows), default=None),
        last=max((_moment(row["last"]) for row in rows), default=None),
    )


def evidence_of(
    ask: Ask, model: str, experiment: str, question: Question, shares: Shares, now: datetime
) -> Evidence:
    """What became of the units by one question.

    A unit counts once its window is over; its outcomes are summed from its first exposure to the end of the
    window, and what it did in the four weeks before foretells them.
    """
    top, slash, bottom = question.name, False, question.name
    if "/" in question.name and question.name not in names_told(ask, model):
        top, _, bottom = question.name.partition("/")
        slash = True
    whom = Whom(
        model=model,
        exposed=_exposed(model, experiment),
        by=("arm", "generation", "came"),
        asked=SPLIT_ONLY,
        records=f"model = {quoted(model)} AND experiment = {quoted(experiment)} AND {SPLIT_ONLY}",
    )
    rows = sums_of(ask, whom, top, bottom, question.window, now, lookback=LOOKBACK_DAYS)
    silent = not any(row["y"] or row["d"] or row["known"] for row in rows)
    if silent and question.name not in QUALITY and not {top, bottom} <= names_told(ask, model):
        missing = " or ".join(repr(name) for name in sorted({top, bottom}))
        return Evidence(question=question, problem=f"no outcome {missing} of {model!r} has come yet")
    return _evidence(question, rows, shares, ratio=slash or question.name in QUALITY)


def _evidence(
    question: Question, rows: Sequence[Mapping[str, Any]], shares: Shares, *, ratio: bool
) -> Evidence:
    by_stratum: dict[Came, dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        by_stratum.setdefault((int(row["generation"]), int(row["came"])), {})[str(row["arm"])] = row
    yes_or_no = all(row["yes_or_no"] for row in rows)
    foreseen = 0 if ratio else sum(int(row["known"]) for row in rows)
    strata, pairs = [], []
    for came, arms in sorted(by_stratum.items()):
        if not 0.0 < shares(came) < 1.0:
            continue  # only one arm grew: these units have nobody to be compared with
        control, treated = (
            arm_of(arms.get(arm), ratio=ratio, yes_or_no=yes_or_no) for arm in (CONTROL, CANARY)
        )
        pair = _paired(arms.get(CONTROL)), _paired(arms.get(CANARY))
        pairs.append(pair)
        strata.append(
            Stratum(
                control=control,
                treated=treated,
                share=shares(came),
                adjusted=adjusted(*pair) if foreseen else None,
            )
        )
    return Evidence(
        question=question,
        strata=tuple(strata),
        foreseen=foreseen,
        removed=_removed(pairs) if foreseen else 0.0,
    )


def _removed(pairs: Iterable[tuple[Paired, Paired]]) -> float:
    """The part of the variance within arms and strata that was foreseeable."""
    removed, units = 0.0, 0
    for control, treated in pairs:
        n = control.n + treated.n
        removed += n * variance_removed(control, treated)
        units += n
    return removed / units if units else 0.0


def _paired(row: Mapping[str, Any] | None) -> Paired:
    if row is None:
        return Paired()
    return Paired(int(row["n"]), *(float(row[name]) for name in ("y", "x", "yy", "xx", "yx")))


def _exposed(model: str, experiment: str) -> str:
    return _EXPOSED.format(
        model=quoted(model),
        experiment=quoted(experiment),
        control=CONTROL,
        canary=CANARY,
        stable=STABLE,
        split=SPLIT_ONLY,
    )


def _moment(value: Any) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
