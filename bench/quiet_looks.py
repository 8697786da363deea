"""Looks at a version of which nothing has changed: how often each kind of finding alarms all the same.

People of Massachusetts in shuffled order, with the scores that a model gave them. Labels are drawn by the
scores, which are so exactly right, and slices are dealt at random, so that no part is treated or answered
otherwise than another: whatever alarms is false. Each look has a reference and a week of its own, and is
judged by `monitoring.verdicts` three times: as it ships; with no tolerance, so that chance alone holds it
back; and the same for a chance of 1 % a look, which is seen in fewer looks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tests.data.employment import employment

from fairlead.contracts.contract import Output
from fairlead.monitoring.answered import LEAST_REFERENCE, STEP
from fairlead.monitoring.findings import Finding
from fairlead.monitoring.measured import Seen
from fairlead.monitoring.verdicts import Rules, findings_of
from fairlead.predictions.labelled_counts import SCORE_BINS, Cell, Labelled

__all__ = ["KINDS", "broken_looks", "drawn", "looks", "looks_table"]

KINDS = ("slices", "calibration", "fairness")
ASKED = 0.01
"""A chance of a false alarm in one look that a thousand looks can show."""
RULES = {
    "as it ships": Rules(),
    "no tolerance": Rules(tolerance=0.0, miscalibrated=0.0, gap=0.0),
    "no tolerance, 1 %": Rules(tolerance=0.0, miscalibrated=0.0, gap=0.0, alpha=ASKED),
}
_START = datetime(2026, 3, 2, tzinfo=UTC)
_WEEK = 7 * 24
_PARTS = {"sex": (0.52, 0.48), "land": (0.6, 0.2, 0.1, 0.06, 0.04)}
"""The shares of the parts of each slice."""

Array = NDArray[Any]


def looks(count: int, an_hour: int, generator: np.random.Generator) -> dict[str, Any]:
    """In how many of so many looks each kind alarms, by each of the rules."""
    score = employment().probability
    alarms = {name: dict.fromkeys(KINDS, 0) for name in RULES}
    for _ in range(count):
        seen = drawn(score, an_hour, generator)
        for name, rules in RULES.items():
            rang = {_kind(one) for one in findings_of(seen, rules) if one.status == "alarm"}
            for kind in rang & set(KINDS):
                alarms[name][kind] += 1
    allowed = {name: round(count * rules.alpha, 3) for name, rules in RULES.items()}
    return {"looks": count, "allowed": allowed, "alarms": alarms}


def broken_looks(found: dict[str, Any]) -> list[str]:
    """What alarms more often than chance lets the budget do."""
    faults = []
    for name, by_kind in found["alarms"].items():
        allowed = found["allowed"][name]
        most = max(allowed + 3.0 * math.sqrt(allowed), 1.0)
        faults += [
            f"nothing changed, {name}: {alarms} of {found['looks']} looks alarm of {kind}, {allowed:g} may"
            for kind, alarms in by_kind.items()
            if alarms > most
        ]
    return faults


def looks_table(found: dict[str, Any]) -> list[str]:
    lines = [f"of {found['looks']:,} looks at a week in which nothing changed: those that alarm"]
    lines.append(f"{'':<36}" + "".join(f"{name:>20}" for name in RULES))
    lines.append(f"{'allowed of each':<36}" + "".join(f"{found['allowed'][name]:>20,}" for name in RULES))
    return lines + [
        f"{kind:<36}" + "".join(f"{found['alarms'][name][kind]:>20,}" for name in RULES) for kind in KINDS
    ]


def _kind(one: Finding) -> str:
    return "slices" if one.kind == "performance" and one.slice else one.kind


def drawn(score: Array, an_hour: int, generator: np.random.Generator) -> Seen:
    """A reference and a week of answers whose scores are right, of some of these scores."""
    rows = LEAST_REFERENCE + _WEEK * an_hour
    scores = generator.choice(score, rows, replace=False)
    label = generator.random(rows) < scores
    parts = {
        feature: generator.choice(len(shares), rows, p=shares).astype(np.int64)
        for feature, shares in _PARTS.items()
    }
    first, week = slice(0, LEAST_REFERENCE), slice(LEAST_REFERENCE, rows)
    end = _START + _WEEK * STEP
    hours = scores[week].reshape(_WEEK, an_hour), label[week].reshape(_WEEK, an_hour)
    return Seen(
        model="shop",
        version="v1",
        output=Output(kind="class", classes=(0, 1)),
        start=_START,
        end=end,
        mature=end,
        step=timedelta(hours=24),
        window=_counted(scores[week], label[week], bins=True),
        parts=tuple(_by_part(scores[week], label[week], {name: of[week] for name, of in parts.items()})),
        reference=_counted(scores[first], label[first], bins=True),
        reference_parts=tuple(
            _by_part(scores[first], label[first], {name: of[first] for name, of in parts.items()})
        ),
        steps=tuple(_counted(*hour) for hour in zip(*hours, strict=True)),
    )


def _by_part(score: Array, label: Array, parts: dict[str, Array]) -> Iterator[Labelled]:
    for feature, of in parts.items():
        for part in range(len(_PARTS[feature])):
            chosen = of == part
            yield _counted(score[chosen], label[chosen], feature=feature, part=str(part))


def _counted(
    score: Array, label: Array, *, bins: bool = False, feature: str = "", part: str = ""
) -> Labelled:
    """What ingest counts of such answers (`predictions/labelled.py`)."""
    answered = score >= 0.5
    place = np.minimum((score * SCORE_BINS).astype(np.int64), SCORE_BINS - 1) if bins else 0
    code = (answered * 2 + label) * SCORE_BINS + place
    n = np.bincount(code, minlength=4 * SCORE_BINS)
    total = np.bincount(code, weights=score, minlength=4 * SCORE_BINS)
    return Labelled(
        start=_START,
        version="v1",
        arm="stable",
        feature=feature,
        part=part,
        answers=len(score),
        labelled=len(score),
        classes=tuple(
            Cell(
                str(one // SCORE_BINS // 2),
                str(one // SCORE_BINS % 2),
                one % SCORE_BINS,
                int(n[one]),
                float(total[one]),
            )
            for one in np.flatnonzero(n).tolist()
        ),
    )
