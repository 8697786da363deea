"""What one look may spend: alarms of slices, calibration and fairness beside how often they may be false."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from bench.quiet_looks import drawn

from fairlead.monitoring.measured import Seen
from fairlead.monitoring.verdicts import Rules, alpha_of, findings_of
from tests.data.employment import employment


@pytest.fixture
def seen() -> Seen:
    """A week of right scores, 50 an hour, whose slices are dealt at random."""
    return drawn(employment().probability, 50, np.random.default_rng(3))


def status(seen: Seen, kind: str, subject: str, slice: str, **rules: Any) -> str:
    (found,) = [
        one.status
        for one in findings_of(seen, Rules(**rules))
        if (one.kind, one.subject, one.slice) == (kind, subject, slice)
    ]
    return found


def test_looks_share_what_the_days_allow_and_three_kinds_share_a_look() -> None:
    assert alpha_of(30.0, 144.0) == pytest.approx(1 / (30 * 144 * 3))
    assert 3 * 144 * 30 * Rules().alpha == pytest.approx(1.0)
    assert alpha_of(30.0, 24.0) > alpha_of(30.0, 144.0) > alpha_of(90.0, 144.0)


def test_nothing_alarms_where_nothing_changed(seen: Seen) -> None:
    found = findings_of(seen, Rules())
    assert {one.kind for one in found if one.status == "ok"} >= {"performance", "calibration", "fairness"}
    assert "alarm" not in {one.status for one in found}


def test_a_gap_that_one_look_would_call_sure_is_no_alarm_for_one_of_many(seen: Seen) -> None:
    def fewer(rows: Any) -> Any:
        """One in thirty of the chosen is chosen no more."""
        cells = []
        for cell in rows.classes:
            lost = cell.n // 30 if cell.answered == "1" else 0
            cells.append(msgspec.structs.replace(cell, n=cell.n - lost))
            cells.append(msgspec.structs.replace(cell, n=lost, answered="0"))
        return msgspec.structs.replace(rows, classes=tuple(cells))

    parts = tuple(fewer(one) if one.part == "1" and one.feature == "sex" else one for one in seen.parts)
    treated = msgspec.structs.replace(seen, parts=parts)
    asked = ("fairness", "demographic parity", "sex")
    assert status(treated, *asked, gap=0.0, alpha=0.2) == "alarm"
    assert status(treated, *asked, gap=0.0) == "ok"
    assert status(treated, *asked, gap=0.1, alpha=0.2) == "ok"


def test_a_miscalibration_that_is_large_and_sure_alarms_at_any_level(seen: Seen) -> None:
    cells = tuple(
        msgspec.structs.replace(cell, score=min(1.3 * cell.score, float(cell.n)))
        for cell in seen.window.classes
    )
    window = msgspec.structs.replace(seen.window, classes=cells)
    off = msgspec.structs.replace(seen, window=window)
    for subject in ("scores", "scores in the large"):
        assert status(off, "calibration", subject, "", alpha=1e-9) == "alarm"
        assert status(off, "calibration", subject, "", alpha=1e-9, miscalibrated=0.5) == "ok"
