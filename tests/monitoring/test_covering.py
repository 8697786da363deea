"""Whether labels lie within what was said as often as promised: figures, and an alarm that is seldom without
cause."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.contracts.uncertainty import Uncertainty
from fairlead.monitoring.covering import Coverage, coverage_figures, coverage_of, most_outside
from fairlead.predictions.labelled_counts import Sure, sure_together

SAID = Uncertainty(kind="interval", quantile=1.0, n=1_000)
BUDGET = 720.0


def hours(generator: np.random.Generator, within: float, count: int, rows: int = 50) -> list[Sure]:
    return [Sure(rows, 2.0 * rows, rows, int(one)) for one in generator.binomial(rows, within, count)]


def looked(held: list[Sure], said: Uncertainty = SAID) -> Coverage:
    found = coverage_of(said, sure_together(held), held, tolerance=0.05, needed=BUDGET)
    assert found is not None
    return found


def test_a_version_that_says_nothing_has_no_coverage() -> None:
    assert coverage_of(None, Sure(5, 1.0, 5, 5), [], tolerance=0.05, needed=BUDGET) is None
    assert coverage_figures(None, Sure(5, 1.0, 5, 5)) == ()


def test_the_share_within_has_wilsons_interval_and_the_mean_width_beside_it() -> None:
    share, width = coverage_figures(SAID, Sure(200, 500.0, 100, 90))
    assert (share.name, share.value, share.n) == ("coverage", 0.9, 100)
    # statsmodels.stats.proportion.proportion_confint(90, 100, method="wilson")
    assert (share.low, share.high) == (pytest.approx(0.82563, abs=1e-5), pytest.approx(0.94477, abs=1e-5))
    assert (width.name, width.value, width.n) == ("interval_width", 2.5, 200)
    (size,) = coverage_figures(Uncertainty(kind="set", quantile=0.5, n=50), Sure(4, 6.0, 0, 0))
    assert (size.name, size.value) == ("set_size", 1.5)


def test_how_far_below_the_promise_counts_the_chance_in_the_rows_of_the_promise() -> None:
    found = looked([Sure(1_000, 2_000.0, 1_000, 850)])
    assert found.z == pytest.approx(0.05 / math.sqrt(0.09 * (1 / 1_000 + 1 / 1_002)))
    few = looked([Sure(1_000, 2_000.0, 1_000, 850)], Uncertainty(kind="interval", quantile=1.0, n=20))
    assert few.z is not None
    assert few.z < 1.0
    assert most_outside(Uncertainty(kind="interval", quantile=1.0, n=20)) > most_outside(SAID)


def test_a_promise_that_is_kept_rings_no_sooner_than_was_agreed() -> None:
    generator = np.random.default_rng(1)
    alarmed = []
    for _ in range(100):
        # What split conformal truly covers, over draws of the rows that it was calibrated on.
        within = generator.beta(901, 100)
        risk = looked(hours(generator, within, 720)).risk
        assert risk is not None
        alarmed.append(risk.alarmed is not None)
    assert np.mean(alarmed) < 0.05


@pytest.mark.parametrize("calm", [10, 1_500])
def test_a_promise_that_breaks_rings_soon_however_long_it_was_kept(calm: int) -> None:
    generator = np.random.default_rng(2)
    found = looked([*hours(generator, 0.9, calm), *hours(generator, 0.7, 24)])
    assert found.risk is not None
    assert found.risk.rings
    assert found.risk.since is not None
    assert abs(found.risk.since - calm) <= 2


def test_too_few_labels_of_a_bad_hour_and_hours_without_labels_do_not_ring() -> None:
    for held in ([Sure(3, 6.0, 3, 0)], [Sure(500, 1_000.0, 0, 0)] * 100):
        risk = looked(held).risk
        assert risk is None or not risk.rings


def test_a_promise_that_is_so_loose_that_no_share_could_break_it_is_not_followed() -> None:
    loose = Uncertainty(kind="interval", quantile=1.0, n=1, coverage=0.05)
    assert looked([Sure(9, 9.0, 9, 0)], loose).risk is None


@given(st.lists(st.tuples(*[st.integers(0, 50)] * 3), max_size=20))
def test_counts_of_hours_add_up_to_those_of_the_window(cells: list[tuple[int, int, int]]) -> None:
    held = [Sure(sum(cell), 2.0 * sum(cell), cell[0] + cell[1], cell[0]) for cell in cells]
    whole = sure_together(held)
    assert (whole.n, whole.labelled) == (sum(map(sum, cells)), sum(a + b for a, b, _ in cells))
    assert (whole.size, whole.covered) == (2.0 * whole.n, sum(a for a, _, _ in cells))
    assert sure_together([sure_together(held[:3]), sure_together(held[3:])]) == whole
