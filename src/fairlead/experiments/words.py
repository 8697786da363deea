"""A metric's verdict in a manager's words. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

from fairlead.experiments.question import Question
from fairlead.experiments.verdict import Verdict

__all__ = ["Told", "told"]

Finding = Literal["better", "worse", "no difference", "not yet known", "cannot be told"]

_CONVERSION = {"conversion", "conversions", "converted"}


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What the words are made of. `means` are control's and the treated arm's, `needed` how many more units
    and days, `problem` why there is nothing to compare, `mismatch` what is wrong with the split."""

    question: Question
    control: str
    treated: str
    shape: Literal["proportion", "mean", "ratio"]
    means: tuple[float | None, float | None]
    units: int
    days: float
    margin: float
    problem: str | None = None
    mismatch: str | None = None
    needed: tuple[int, int | None] | None = None


def told(words: Told, found: Verdict) -> tuple[Finding, str]:
    """The finding and its sentence."""
    why = words.problem or _nothing(words)
    if why:
        return "cannot be told", f"Whether {_better(words)} cannot be told because {why}."
    if words.mismatch and found.finding != "worse":
        doubt = words.mismatch[0].lower() + words.mismatch[1:].rstrip(".")
        return "cannot be told", f"Whether {_better(words)} cannot be told because {doubt}."
    facts = f"{_compared(words)}{_change(words, found)}, {_ground(words)}."
    if found.finding == "better":
        return "better", f"{_said(words, 'better')}: {facts}"
    if found.finding == "worse":
        doubt = f" But: {words.mismatch}" if words.mismatch else ""
        return "worse", f"{_said(words, 'worse')}: {facts}{doubt}"
    if found.finding == "no difference":
        within = f"less than the {_percent(words.margin)} that would matter"
        return "no difference", (
            f"There is no difference in {words.question.name} that matters: {facts[:-1]}; {within}."
        )
    return "not yet known", f"Not yet known whether {_better(words)}: {facts}{_outlook(words)}"


def _nothing(words: Told) -> str | None:
    if not words.units:
        return "no customer's time to respond is over yet" if words.question.window else "nobody was met yet"
    if None in words.means:
        return f"the outcomes {words.question.name!r} add up to nothing that could be compared"
    return None


def _said(words: Told, how: str) -> str:
    if words.question.name in _CONVERSION and words.shape == "proportion":
        return f"{words.treated} converts {how}"
    return f"{words.treated} is {how} in {words.question.name}"


def _better(words: Told) -> str:
    return _said(words, "better")


def _compared(words: Told) -> str:
    before, after = (_value(words, mean or 0.0) for mean in words.means)
    return f"{after} against {before}" if before != after else f"{after} in both"


def _change(words: Told, found: Verdict) -> str:
    """By how much: relative to control, or in the metric's unit where only that is known well enough to
    carry the finding (a ratio of two averages is known less well than their difference)."""
    lift, rise = found.lift, found.difference
    told = found.finding in ("better", "worse")
    if lift.known and not (told and lift.low <= 0.0 <= lift.high):
        return f", so {_signed(lift.estimate)} (between {_signed(lift.low)} and {_signed(lift.high)})"
    if not rise.known or (told and rise.low <= 0.0 <= rise.high):
        return ""
    factor, unit = (100.0, " points") if words.shape == "proportion" else (1.0, "")
    near, far = f"{factor * rise.low:+.3g}", f"{factor * rise.high:+.3g}"
    return f", so {factor * rise.estimate:+.3g}{unit} (between {near} and {far})"


def _ground(words: Told) -> str:
    return f"from {words.units:,} {'customer' if words.units == 1 else 'customers'} in {_span(words.days)}"


def _outlook(words: Told) -> str:
    if words.needed is None:
        return ""
    units, days = words.needed
    longer = "" if days is None else f", some {days:,} more {'day' if days == 1 else 'days'} at this pace"
    return f" If the difference is what it looks like, it takes about {units:,} more{longer}."


def _span(days: float) -> str:
    for size, name in ((1.0, "day"), (1 / 24, "hour"), (1 / 1440, "minute")):
        if days >= size:
            count = round(days / size)
            return f"{count:,} {name}{'' if count == 1 else 's'}"
    return "less than a minute"


def _value(words: Told, value: float) -> str:
    if words.shape == "proportion" or words.question.name == "accuracy":
        return _percent(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %" if abs(share) < 9.995 else f"{100 * share:,.0f} %"


def _signed(change: float) -> str:
    """A change in percent, by as many digits as say something."""
    percent = 100 * change
    shown = f"{percent:+.0f}" if abs(percent) >= 9.95 else f"{percent:+.1f}"
    return f"{shown} %"
