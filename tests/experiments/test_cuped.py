"""What was foreseeable is taken out: the same effect, less noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.experiments.aggregates import Mean, Paired
from fairlead.experiments.cuped import adjusted, variance_removed
from fairlead.experiments.sequences import difference


def paired(y: np.ndarray, x: np.ndarray) -> Paired:
    sums = (y.sum(), x.sum(), (y * y).sum(), (x * x).sum(), (x * y).sum())
    return Paired(len(y), *map(float, sums))


def arm(seed: int, n: int, effect: float, correlation: float) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    x = generator.normal(10.0, 2.0, n)
    noise = generator.normal(0.0, 1.0, n)
    y = 50.0 + effect + correlation * (x - 10.0) / 2.0 + (1.0 - correlation**2) ** 0.5 * noise
    return y, x


def test_the_variance_falls_by_the_squared_correlation() -> None:
    control, treated = paired(*arm(1, 20_000, 0.0, 0.8)), paired(*arm(2, 20_000, 0.0, 0.8))
    assert variance_removed(control, treated) == pytest.approx(0.64, abs=0.01)
    narrow = difference(*adjusted(control, treated))
    wide = difference(*map(unadjusted, (control, treated)))
    assert narrow.se == pytest.approx(0.6 * wide.se, rel=0.02)


def test_the_sums_give_what_adjusting_every_unit_gives() -> None:
    (y0, x0), (y1, x1) = arm(1, 200, 0.0, 0.7), arm(2, 300, 0.5, 0.7)
    spread = sum(((x - x.mean()) ** 2).sum() for x in (x0, x1))
    theta = sum(((x - x.mean()) * (y - y.mean())).sum() for x, y in ((x0, y0), (x1, y1))) / spread
    centre = np.concatenate([x0, x1]).mean()
    for found, y, x in zip(adjusted(paired(y0, x0), paired(y1, x1)), (y0, y1), (x0, x1), strict=True):
        each = y - theta * (x - centre)
        assert found.mean == pytest.approx(each.mean())
        assert found.variance == pytest.approx(each.var(ddof=1))


def test_an_effect_is_found_that_the_noise_would_hide() -> None:
    control, treated = paired(*arm(1, 2000, 0.0, 0.95)), paired(*arm(2, 2000, 0.06, 0.95))
    assert difference(*adjusted(control, treated)).low > 0.0
    assert difference(*map(unadjusted, (control, treated))).low < 0.0


def unadjusted(sums: Paired) -> Mean:
    return Mean(sums.n, sums.outcome, sums.outcome_squares)


@given(st.integers(0, 100), st.integers(0, 3), st.integers(0, 3))
def test_a_covariate_that_tells_nothing_changes_nothing(seed: int, n: int, m: int) -> None:
    generator = np.random.default_rng(seed)
    arms = [paired(generator.normal(size=size), np.ones(size)) for size in (n, m)]
    for before, after in zip(arms, adjusted(*arms), strict=True):
        assert (after.n, after.total) == (before.n, pytest.approx(before.outcome))
        assert after.variance == pytest.approx(before.variance)
    assert variance_removed(*arms) == 0.0


def test_a_perfect_forecast_leaves_nothing() -> None:
    x = np.arange(10.0)
    assert variance_removed(paired(x, x), paired(x + 1.0, x)) == pytest.approx(1.0)
    assert variance_removed(Paired(), Paired()) == 0.0
