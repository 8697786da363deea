"""How the outputs of candidate and control are spread, from the prediction log.

A unit counts once, by the first answer that its arm gave it since the step began: so units are drawn
independently, and one that asks a thousand times weighs no more than another. The classes are settled by what
the version in production answered on the day before the rollout, from all over it, since an hour's customers
are not a day's; where that is little, by what it answers first. They do not depend on what is compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import msgspec

from fairlead.rollouts.logged import seen_of
from fairlead.rollouts.moves import CANARY, CONTROL
from fairlead.rollouts.observation import Outputs
from fairlead.rollouts.outcome_sums import Ask, quoted
from fairlead.rollouts.states import Rollout

__all__ = ["Classes", "classes_of", "outputs_of"]

_LEAST, _MOST = 64, 1024
"""So many answers of the version in production settle the classes."""
_NAMED, _CUTS = 7, 7
_BACK = timedelta(days=1)
_OTHERS = "others"

_SAID = "coalesce(try_cast({column} AS DOUBLE)::VARCHAR, {column})"
_ANSWERED = "status = 'ok' AND degraded IS NULL AND prediction IS NOT NULL"
_OF_STABLE = """
SELECT {said} AS said FROM predictions
WHERE model = {model} AND source = 'online' AND served_version = {stable} AND {answered} AND {when}
LIMIT {most}
"""
_BEFORE = "\"at\" >= TIMESTAMPTZ '{start}' AND \"at\" < TIMESTAMPTZ '{end}' ORDER BY hash(prediction_id)"
_FIRST = '"at" >= TIMESTAMPTZ \'{start}\' ORDER BY "at", prediction_id'
_COUNTS = """
WITH met AS (
  SELECT arm, arg_min(prediction, "at") AS first, count(*) AS answers FROM predictions
  WHERE {seen} AND {answered} GROUP BY arm, unit
), told AS (SELECT arm, {said} AS said, answers FROM met)
SELECT arm, {place} AS place, count(*) AS units, sum(answers) AS answers FROM told GROUP BY ALL
"""


class Classes(msgspec.Struct, frozen=True, kw_only=True):
    """What outputs are sorted into: those that are named, or where numbers are cut; all else are others."""

    names: tuple[str, ...] = ()
    cuts: tuple[float, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """Each class in words, the others last."""
        if self.names:
            return (*self.names, _OTHERS)
        inner = [f"{low:.6g} to {high:.6g}" for low, high in zip(self.cuts, self.cuts[1:], strict=False)]
        return (f"below {self.cuts[0]:.6g}", *inner, f"{self.cuts[-1]:.6g} and more", _OTHERS)

    def place(self) -> str:
        """SQL that answers the index in `labels` of an output in the column `said`."""
        if self.names:
            whens = [f"WHEN said = {quoted(name)} THEN {index}" for index, name in enumerate(self.names)]
            return f"CASE {' '.join(whens)} ELSE {len(self.names)} END"
        number, last = "try_cast(said AS DOUBLE)", len(self.cuts)
        whens = [f"WHEN {number} < {cut!r} THEN {index}" for index, cut in enumerate(self.cuts)]
        return (
            f"CASE WHEN {number} IS NULL OR isnan({number}) THEN {last + 1} {' '.join(whens)} ELSE {last} END"
        )


def classes_of(ask: Ask, rollout: Rollout) -> Classes | None:
    """The classes for a rollout's outputs; None while too few answers are known. Without any class where
    outputs are neither labels nor numbers, as rankings are."""
    start, end = rollout.started_at - _BACK, rollout.started_at
    for when in (_BEFORE, _FIRST):
        rows = ask(
            _OF_STABLE.format(
                said=_SAID.format(column="prediction"),
                model=quoted(rollout.model),
                stable=quoted(rollout.stable or ""),
                answered=_ANSWERED,
                when=when.format(start=start.isoformat(), end=end.isoformat()),
                most=_MOST,
            )
        )
        if len(rows) >= _LEAST:
            return _settled([str(row["said"]) for row in rows])
    return None


def outputs_of(ask: Ask, rollout: Rollout, classes: Classes) -> Outputs:
    """How many units of each arm were first answered with an output of each class."""
    rows = ask(
        _COUNTS.format(
            seen=seen_of(rollout),
            answered=_ANSWERED,
            said=_SAID.format(column="first"),
            place=classes.place(),
        )
    )
    return Outputs(
        classes=classes.labels,
        control=_counts(rows, CONTROL, len(classes.labels)),
        canary=_counts(rows, CANARY, len(classes.labels)),
        answers=min(_answers(rows, CONTROL), _answers(rows, CANARY)),
    )


def _settled(said: Sequence[str]) -> Classes:
    often = Counter(said).most_common()
    numbers = sorted(found for text in said if (found := _number(text)) is not None)
    if len(often) > _NAMED and len(numbers) == len(said):
        cuts = [numbers[(index + 1) * len(numbers) // (_CUTS + 1)] for index in range(_CUTS)]
        return Classes(cuts=tuple(sorted(set(cuts))))
    named = [text for text, _ in often[:_NAMED]]
    covered = sum(count for _, count in often[:_NAMED])
    return Classes(names=tuple(named) if 2 * covered >= len(said) else ())


def _number(text: str) -> float | None:
    try:
        found = float(text)
    except ValueError:
        return None
    return found if found - found == 0.0 else None


def _counts(rows: Sequence[Mapping[str, Any]], arm: str, classes: int) -> tuple[int, ...]:
    found = [0] * classes
    for row in rows:
        if row["arm"] == arm:
            found[int(row["place"])] += int(row["units"])
    return tuple(found)


def _answers(rows: Sequence[Mapping[str, Any]], arm: str) -> int:
    return sum(int(row["answers"]) for row in rows if row["arm"] == arm)
