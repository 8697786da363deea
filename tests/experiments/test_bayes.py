"""Beliefs from counts: beside quadrature and sampling, in the limit, and at the edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from fairlead.experiments.aggregates import Proportion
from fairlead.experiments.bayes import belief

counts = st.integers(0, 300).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))


@settings(max_examples=25)
@given(counts, counts)
def test_the_probability_is_that_of_the_integral(one: tuple[int, int], other: tuple[int, int]) -> None:
    control, treated = (stats.beta(1 + k, 1 + n - k) for n, k in (one, other))
    points = sorted({arm.mean() for arm in (control, treated)})
    theirs = integrate.quad(lambda p: treated.pdf(p) * control.cdf(p), 0, 1, points=points, limit=200)[0]
    assert belief(Proportion(*one), Proportion(*other)).better == pytest.approx(theirs, abs=1e-6)


def test_the_losses_are_those_of_a_million_draws() -> None:
    generator = np.random.default_rng(1)
    a, b = generator.beta(101, 901, 1_000_000), generator.beta(121, 881, 1_000_000)
    found = belief(Proportion(1000, 100), Proportion(1000, 120))
    assert found.loss_if_shipped == pytest.approx(np.maximum(a - b, 0).mean(), rel=0.02)
    assert found.loss_if_kept == pytest.approx(np.maximum(b - a, 0).mean(), rel=0.02)


@given(counts, counts)
def test_the_losses_differ_by_the_difference_of_the_means(
    one: tuple[int, int], other: tuple[int, int]
) -> None:
    found = belief(Proportion(*one), Proportion(*other))
    before, after = ((1 + k) / (2 + n) for n, k in (one, other))
    assert found.loss_if_kept - found.loss_if_shipped == pytest.approx(after - before, abs=1e-9)
    assert 0.0 <= found.better <= 1.0


@given(counts, counts)
def test_swapping_the_arms_swaps_the_belief(one: tuple[int, int], other: tuple[int, int]) -> None:
    there, back = (belief(Proportion(*a), Proportion(*b)) for a, b in ((one, other), (other, one)))
    assert there.better == pytest.approx(1.0 - back.better, abs=1e-9)
    assert there.loss_if_shipped == pytest.approx(back.loss_if_kept, abs=1e-9)


def test_where_the_sum_gives_way_to_the_normal_both_agree() -> None:
    # The last count that is summed, and the first that is not.
    below = belief(Proportion(1_000_000, 99_900), Proportion(1_000_000, 99_999))
    above = belief(Proportion(1_000_000, 99_901), Proportion(1_000_000, 100_000))
    assert below.better == pytest.approx(above.better, abs=1e-5)
    assert below.loss_if_shipped == pytest.approx(above.loss_if_shipped, rel=1e-4)


def test_without_units_nobody_is_better() -> None:
    found = belief(Proportion(), Proportion())
    assert found.better == pytest.approx(0.5)
    # E[(x - y)+] of two uniforms
    assert found.loss_if_shipped == pytest.approx(1.0 / 6.0)
