"""Distances of counts: equal to published and to SciPy's numbers, and defined where one would divide by 0."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon

from fairlead.contracts.counts import FieldCounts, reference_counts, tally
from fairlead.contracts.profile import CategoryProfile
from fairlead.monitoring.distances import (
    MEASURES,
    chi_square,
    distances,
    g_test,
    hellinger,
    histogram,
    js_distance,
    js_divergence,
    l_infinity,
    psi,
    total_variation,
    wasserstein,
)
from tests.monitoring.made import numbers

# Evidently (Apache-2.0), tests/stattests/test_stattests.py: its reference and its current counts. It
# publishes Hellinger's distance of them as 0.06812; the others were computed by hand from the formulas.
REFERENCE = [16, 18, 16, 14, 12, 12]
CURRENT = [16, 16, 16, 16, 16, 8]

counts = st.integers(2, 12).flatmap(
    lambda bins: st.tuples(
        *(st.lists(st.integers(0, 10_000), min_size=bins, max_size=bins).filter(any) for _ in range(2))
    )
)


def test_the_distances_are_those_of_evidentlys_example() -> None:
    assert hellinger(REFERENCE, CURRENT) == pytest.approx(0.06812, abs=1e-5)
    assert psi(REFERENCE, CURRENT) == pytest.approx(0.0372184, abs=1e-7)
    assert js_divergence(REFERENCE, CURRENT, base=math.e) == pytest.approx(0.00463056, abs=1e-8)
    assert js_distance(REFERENCE, CURRENT, base=math.e) == pytest.approx(0.0680482, abs=1e-7)
    assert js_distance(REFERENCE, CURRENT) == pytest.approx(0.0817342, abs=1e-7)
    assert total_variation(REFERENCE, CURRENT) == pytest.approx(0.0681818, abs=1e-7)
    assert l_infinity(REFERENCE, CURRENT) == pytest.approx(0.0454545, abs=1e-7)


def test_chi_square_takes_the_reference_for_a_sample_and_not_for_the_truth() -> None:
    found = chi_square(REFERENCE, CURRENT)
    assert (found.statistic, found.freedom, found.p) == pytest.approx((1.622409, 5, 0.898526), abs=1e-6)
    # The test of one sample, which Evidently publishes for the same counts as p = 0.67309, overstates.
    assert stats.chisquare(CURRENT, REFERENCE).pvalue == pytest.approx(0.67309, abs=1e-5)


def test_the_g_test_is_that_of_the_same_table() -> None:
    # Evidently publishes p = 0.8176 for these counts, of one sample; of two it is SciPy's.
    theirs = stats.chi2_contingency([[5, 5, 8], [4, 6, 8]], correction=False, lambda_="log-likelihood")
    found = g_test([5, 5, 8], [4, 6, 8])
    assert (found.statistic, found.p) == pytest.approx((theirs.statistic, theirs.pvalue))


def test_psi_of_the_example_of_credit_scoring() -> None:
    # KAscore's documentation: equal quarters become 10, 20, 30 and 40 %.
    assert psi([25, 25, 25, 25], [10, 20, 30, 40]) == pytest.approx(0.2282174, abs=1e-7)


def test_an_empty_bin_does_not_make_psi_a_hundred() -> None:
    # Frouros floors shares at the least float and gets 134.95 for two normals one deviation apart.
    generator = np.random.default_rng(31)
    edges = np.linspace(-4.0, 5.0, 21)
    first, second = (np.histogram(generator.normal(mean, 1.0, 1000), edges)[0] for mean in (0.0, 1.0))
    assert not (first.all() and second.all())
    assert 0.8 < psi(first, second) < 1.4  # of the distributions themselves it is 1


@given(counts)
def test_distances_are_scipys_and_within_their_bounds(pair: tuple[list[int], list[int]]) -> None:
    first, second = pair
    scipys = float(jensenshannon(first, second, 2.0))
    assert js_distance(first, second) == pytest.approx(0.0 if math.isnan(scipys) else scipys, abs=1e-6)
    seen = [(a, b) for a, b in zip(first, second, strict=True) if a + b]
    if len(seen) > 1:
        for mine, how in ((chi_square, "pearson"), (g_test, "log-likelihood")):
            table = np.array(seen).T
            expected = stats.chi2_contingency(table, correction=False, lambda_=how)
            found = mine(first, second)
            assert (found.statistic, found.p) == pytest.approx(
                (expected.statistic, expected.pvalue), abs=1e-6
            )
    for name, measure in MEASURES.items():
        value = measure(first, second)
        assert math.isfinite(value)
        assert value >= 0.0
        assert measure(first, first) == pytest.approx(0.0, abs=1e-7)
        if name != "psi":
            assert value <= 1.0 + 1e-9
    assert l_infinity(first, second) <= total_variation(first, second) + 1e-12


@pytest.mark.parametrize("name", MEASURES)
def test_counts_of_other_bins_and_empty_samples_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="counts of 3 bins are compared with counts of 2"):
        MEASURES[name]([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="without any value"):
        MEASURES[name]([0, 0], [1, 2])


def test_nulls_and_misfits_are_bins_of_the_same_histogram() -> None:
    bins = CategoryProfile(n=2, nulls=0, categories=("a",), counts=(2, 0))
    found = tally(bins, ["a", "b"], nulls=3, misfits=4)
    assert histogram(found).tolist() == [1.0, 1.0, 3.0, 4.0]
    apart = distances(bins, FieldCounts(counts=(100, 0)), FieldCounts(counts=(95, 0), nulls=5))
    assert (apart["l-infinity"], apart["total-variation"]) == pytest.approx((0.05, 0.05))
    assert "wasserstein-1-over-std" not in apart


@given(st.floats(-1.5, 1.5), st.integers(0, 2**31))
def test_a_shift_is_measured_in_standard_deviations(shift: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    sample, moved = generator.normal(40.0, 10.0, 4000), generator.normal(40.0 + 10.0 * shift, 10.0, 4000)
    bins = numbers(sample)
    found = wasserstein(bins, reference_counts(bins), tally(bins, moved))
    exact = stats.wasserstein_distance(sample, moved) / float(np.std(sample))
    assert found == pytest.approx(exact, rel=0.05, abs=0.03)


def test_one_absurd_value_is_no_shift_of_all() -> None:
    bins = numbers(np.linspace(0.0, 1.0, 1000))
    usual = np.linspace(0.0, 1.0, 999)
    found = wasserstein(bins, reference_counts(bins), tally(bins, [*usual, 1e300]))
    assert found is not None
    assert found < 0.02
    hundredfold = wasserstein(bins, reference_counts(bins), tally(bins, 100.0 * usual))
    assert hundredfold is not None
    assert hundredfold > 2.0


@pytest.mark.parametrize("sample", [[], [5.0], [5.0, 5.0, 5.0], [-1.7e308, 1.7e308], [math.inf, 1.0, 2.0]])
def test_samples_that_do_not_spread_have_no_wasserstein_distance(sample: list[float]) -> None:
    bins = numbers(np.array(sample))
    assert wasserstein(bins, reference_counts(bins), tally(bins, [1.0, 2.0])) is None
