"""Whether what came is of the reference's kind: an alarm is beyond chance, and large enough to matter.

Each field of each slice is asked several questions, and each question has an exact or a cautious test and an
effect in shares of rows, with a floor below which nobody need care:

- `moved-share`: the share of rows that would have to hold something else, everything that came counted: total
  variation over the bins that differ by more than two standard errors. Without that limit the noise of twenty
  bins, which is no effect, would be a third of the floor in a window of a thousand rows.
- `null-share`, `misfit-share`: by how much that share of rows changed. A surge of 2 % is sharp there, where
  the whole histogram hardly moves.
- `unseen-share` of categories nobody knew, `outside-share` of numbers beyond all that the reference held.

The p-values of all questions, fields and slices of one look are adjusted together (Benjamini & Hochberg
1995), and compared with a level that follows from how many false alarms a person wants (`level`). Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from fairlead.contracts.counts import Bins, FieldCounts, FieldKey
from fairlead.contracts.profile import NumberProfile
from fairlead.experiments.aggregates import Proportion
from fairlead.experiments.exact import fisher
from fairlead.experiments.multiplicity import benjamini_hochberg
from fairlead.monitoring.changes import changes
from fairlead.monitoring.distances import chi_square, distances, g_test, histogram
from fairlead.monitoring.lent import beyond, uncut

__all__ = ["Floors", "Pair", "Question", "Shift", "level", "shifts", "subject"]

Question = Literal["moved-share", "null-share", "misfit-share", "unseen-share", "outside-share"]

_LEAST_EXPECTED = 5.0
"""Bins that are expected to hold less than this in the smaller sample are tested as one (Cochran 1954)."""
_ERRORS = 2.0


class Floors(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What matters, in shares of rows: below it nothing is an alarm, however sure it is. `rows` are needed in
    both samples to tell anything."""

    moved: float = 0.05
    """Of rows that hold something else: as when all numbers grow by an eighth of their standard deviation."""
    share: float = 0.01
    """Of missing values, misfits and unseen categories."""
    outside: float = 0.02
    """Of numbers outside: a sample's extremes are no borders, so a little more than of what is clear-cut."""
    rows: int = 100


class Pair(NamedTuple):
    """One field of one slice: what the reference held, and what came, on the same bins.

    `units`: how many independent things both come from where they are fewer than the values, as lists are
    fewer than their numbers; None where each value is one. `lent`: the reference is of the sample that lent
    the bins, as training data are.
    """

    slice: str
    key: FieldKey
    bins: Bins
    reference: FieldCounts
    current: FieldCounts
    units: tuple[int, int] | None = None
    lent: bool = False


class Shift(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one question about one field of one slice.

    `effect` is a share of rows, for all questions but `moved-share` from `expected` to `seen`. `p` is
    adjusted for all that was asked in the same look and belongs beside the look's level. `distances` holds
    every distance by the name of its variant, `changes` the largest changes in words; both only of
    `moved-share`. `problem` says what could not be told, and why.
    """

    slice: str
    key: FieldKey
    question: Question
    status: Literal["ok", "alarm", "insufficient", "error"]
    n: int
    reference_n: int
    effect: float | None = None
    floor: float | None = None
    expected: float | None = None
    seen: float | None = None
    p: float | None = None
    distances: dict[str, float] = {}
    changes: tuple[str, ...] = ()
    problem: str = ""


def level(days: float, looks_a_day: float) -> float:
    """The chance of a false alarm that one look may have, so that there is one in so many days on average.

    It holds for the average number whether looks overlap or not, since averages add. Raises ValueError for
    days or looks that are not above 0. More than an even chance is never given.
    """
    if not days > 0.0 or not looks_a_day > 0.0:
        raise ValueError(f"{days:g} days and {looks_a_day:g} looks a day: must be above 0")
    return min(0.5, 1.0 / (days * looks_a_day))


def subject(key: FieldKey) -> str:
    """What a person calls it: a feature by its name, everything else in parentheses."""
    match key.part:
        case "feature":
            return key.name
        case "elements":
            return f"{key.name} (elements)"
        case "prediction":
            return "(prediction)"
        case "score":
            return f"(score {key.name})" if key.name else "(score)"


def shifts(pairs: Iterable[Pair], *, level: float, floors: Floors | None = None) -> list[Shift]:
    """What came of every question about every pair, in their order. What cannot be told has a status; no
    counts raise."""
    floors = floors or Floors()
    asked = [question for pair in pairs for question in _ask(pair, floors)]
    p_values = {str(place): one.p for place, one in enumerate(asked) if one.p is not None}
    adjusted = benjamini_hochberg(p_values)
    return [_decided(one, adjusted.get(str(place)), level) for place, one in enumerate(asked)]


def _ask(pair: Pair, floors: Floors) -> list[Shift]:
    """Every question of a pair, with its own p-value yet."""
    known: dict[str, Any] = {
        "slice": pair.slice,
        "key": pair.key,
        "n": pair.current.rows,
        "reference_n": pair.reference.rows,
    }
    questions: tuple[Question, ...] = ("moved-share", "null-share", "misfit-share", _beyond(pair.bins))
    problem = _problem(pair, floors)
    if problem is not None:
        status, why = problem
        return [Shift(**known, question=one, status=status, problem=why) for one in questions]
    scale_first, scale_second = _scales(pair)
    reference, current = pair.reference, pair.current
    if pair.lent:
        reference, current = uncut(pair.bins, reference, current)
    first, second = histogram(reference), histogram(current)
    found = [
        Shift(
            **known,
            question="moved-share",
            status="ok",
            effect=_moved(first, second, (scale_first, scale_second)),
            floor=floors.moved,
            p=_p(first * scale_first, second * scale_second),
            distances=distances(pair.bins, pair.reference, pair.current),
            changes=changes(pair.bins, pair.reference, pair.current),
        )
    ]
    for question in questions[1:]:
        one, other = _special(question, reference), _special(question, current)
        if pair.lent and question in ("unseen-share", "outside-share"):
            one = Proportion(reference.rows, beyond(pair.bins, reference))
        control, treated = _scaled(one, scale_first), _scaled(other, scale_second)
        expected, seen = one.mean or 0.0, other.mean or 0.0
        found.append(
            Shift(
                **known,
                question=question,
                status="ok",
                effect=abs(seen - expected),
                floor=floors.outside if question == "outside-share" else floors.share,
                expected=expected,
                seen=seen,
                p=fisher(control, treated),
            )
        )
    return found


def _decided(one: Shift, p: float | None, level: float) -> Shift:
    if p is None or one.effect is None or one.floor is None:
        return one
    alarm = p <= level and one.effect >= one.floor
    return msgspec.structs.replace(one, p=p, status="alarm" if alarm else "ok")


def _moved(
    first: npt.NDArray[np.float64], second: npt.NDArray[np.float64], scales: tuple[float, float]
) -> float:
    """Total variation over the bins whose shares differ by more than chance explains."""
    n, m = first.sum(), second.sum()
    both = (first + second) / (n + m)
    apart = np.abs(second / m - first / n)
    errors = np.sqrt(both * (1.0 - both) * (1.0 / (n * scales[0]) + 1.0 / (m * scales[1])))
    return float(apart[apart > _ERRORS * errors].sum() / 2.0)


def _problem(pair: Pair, floors: Floors) -> tuple[Literal["insufficient", "error"], str] | None:
    if not len(pair.reference.counts) == len(pair.current.counts) == len(pair.bins.counts):
        return "error", "The window was counted on other bins than the reference."
    there, here = pair.units or (pair.reference.rows, pair.current.rows)
    for name, rows in (
        ("The reference has", min(there, pair.reference.rows)),
        ("There were", min(here, pair.current.rows)),
    ):
        if rows < floors.rows:
            return "insufficient", f"{name} {rows:,} rows; {floors.rows:,} are needed."
    return None


def _beyond(bins: Bins) -> Question:
    return "outside-share" if isinstance(bins, NumberProfile) else "unseen-share"


def _special(question: Question, held: FieldCounts) -> Proportion:
    """How many of all rows are what the question is about."""
    match question:
        case "null-share":
            return Proportion(held.rows, held.nulls)
        case "misfit-share":
            return Proportion(held.rows, held.misfits)
        case "outside-share" if len(held.counts) > 1:
            return Proportion(held.rows, held.counts[0] + held.counts[-1])
        case _:
            return Proportion(held.rows, held.counts[-1])


def _scales(pair: Pair) -> tuple[float, float]:
    if pair.units is None:
        return 1.0, 1.0
    first, second = pair.units
    return min(1.0, first / pair.reference.rows), min(1.0, second / pair.current.rows)


def _scaled(held: Proportion, scale: float) -> Proportion:
    return held if scale == 1.0 else Proportion(round(held.n * scale), round(held.successes * scale))


def _p(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    """The larger p of chi-square's and the likelihood ratio's test: each errs where the other does not, and a
    budget of false alarms needs p-values that are right far in the tail."""
    one, other = _pooled(first, second)
    if one.size < 2:
        return 1.0
    return max(chi_square(one, other).p, g_test(one, other).p)


def _pooled(
    first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Both with their rare bins in one. Which are rare follows from the sum of both alone, so that choosing
    them takes nothing from the test."""
    both = first + second
    order = np.argsort(both)
    expected = both[order] * min(first.sum(), second.sum()) / both.sum()
    rare = int((expected < _LEAST_EXPECTED).sum())
    if rare and expected[:rare].sum() < _LEAST_EXPECTED:
        rare += 1
    if rare < 2:
        return first, second
    heap, kept = order[:rare], order[rare:]
    return np.append(first[kept], first[heap].sum()), np.append(second[kept], second[heap].sum())
