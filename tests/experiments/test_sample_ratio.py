"""Whether units reached the arms in their shares: published numbers, arms of weight 0, and refusals."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fairlead.experiments.sample_ratio import chi_square_survival, log_evidence, sample_ratio

EVEN = {"a": 1.0, "b": 1.0}


@pytest.mark.parametrize(
    ("counts", "k", "p"),
    [
        ((500, 600), 100.0, 0.053384012),
        ((500, 600), 10_000.0, 0.671450726),
        ((821_588, 815_482), 100.0, 0.0014555555),
        ((821_588, 815_482), 10_000.0, 0.0001559504),
    ],
)
def test_the_evidence_is_that_of_lindon_and_malek(counts: tuple[int, int], k: float, p: float) -> None:
    # By the formula of growthbook/growthbook packages/stats/gbstats/ssrm.py at c76a1b14, computed apart.
    found = log_evidence(dict(zip("ab", counts, strict=True)), EVEN, k=k)
    assert math.exp(-found) == pytest.approx(p, rel=5e-7)


def test_an_even_split_is_no_evidence() -> None:
    assert log_evidence({"a": 500, "b": 500}, EVEN) < 0.0


@pytest.mark.parametrize(
    ("counts", "p"),
    [
        ((502, 498), 0.8993),  # lukasvermeer.nl/srm/docs/faq
        (
            (821_588, 815_482),
            1.82e-6,
        ),  # the pair of Kohavi, Tang, Xu, "Trustworthy Online Controlled Experiments"
        ((1_003_000, 997_000), 2.21e-5),
        ((500, 600), 0.0025688),
        ((9463, 7681), 3.50e-42),  # the pair of the same FAQ, which prints R's floor instead
    ],
)
def test_chi_square_gives_the_published_p(counts: tuple[int, int], p: float) -> None:
    found = sample_ratio(dict(zip("ab", counts, strict=True)), EVEN)
    assert found.p == pytest.approx(p, rel=2e-3)
    assert found.freedom == 1


def test_the_statistic_of_a_split_of_millions_is_18() -> None:
    assert sample_ratio({"a": 1_003_000, "b": 997_000}, EVEN).statistic == pytest.approx(18.0)


@given(st.floats(0.01, 200), st.integers(1, 20))
def test_the_survival_function_is_scipys(statistic: float, freedom: int) -> None:
    assert chi_square_survival(statistic, freedom) == pytest.approx(
        float(stats.chi2.sf(statistic, freedom)), rel=1e-10
    )


def test_arms_of_weight_0_take_no_degree_of_freedom() -> None:
    counts = {"a": 500, "b": 600}
    with_idle = sample_ratio(counts, {**EVEN, "idle": 0.0, "paused": 0.0})
    assert with_idle == sample_ratio(counts, EVEN)


def test_a_unit_where_nobody_should_be_is_proof() -> None:
    found = sample_ratio({"a": 500, "b": 500, "idle": 1}, {**EVEN, "idle": 0.0})
    assert found.mismatch
    assert (found.p, found.arm) == (0.0, "idle")
    assert found.sentence.startswith("The split is not the one that was configured: idle has")


def test_uneven_weights_that_are_met_are_no_mismatch() -> None:
    found = sample_ratio({"stable": 95_100, "canary": 4_900}, {"stable": 95, "canary": 5})
    assert not found.mismatch
    assert found.arm == "canary"
    assert found.deviation == pytest.approx(-0.02)
    assert "as configured" in found.sentence


def test_a_lost_tenth_of_an_arm_is_found_and_named() -> None:
    found = sample_ratio({"stable": 10_000, "canary": 9_000}, {"stable": 1, "canary": 1})
    assert found.mismatch
    assert "canary has 5.3% fewer units than its share" in found.sentence


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), max_size=8))
def test_looking_often_changes_nothing_of_the_evidence(batches: list[tuple[int, int]]) -> None:
    prior, total, k = {"a": 50.0, "b": 50.0}, 0.0, 100.0
    for batch in batches:  # the update of Lindon & Malek, batch by batch
        strength, n = sum(prior.values()), sum(batch)
        total += math.lgamma(strength) - math.lgamma(strength + n) + n * math.log(2.0)
        for name, count in zip("ab", batch, strict=True):
            total += math.lgamma(prior[name] + count) - math.lgamma(prior[name])
            prior[name] += count
    sums = {"a": sum(a for a, _ in batches), "b": sum(b for _, b in batches)}
    assert log_evidence(sums, EVEN, k=k) == pytest.approx(total, abs=1e-7)


@given(st.dictionaries(st.sampled_from("abc"), st.integers(0, 1000)), st.floats(0.1, 100))
def test_only_the_proportions_of_weights_count(counts: dict[str, int], by: float) -> None:
    weights = {"a": 1.0, "b": 2.0, "c": 3.0}
    scaled = {name: weight * by for name, weight in weights.items()}
    assert sample_ratio(counts, scaled).log_e == pytest.approx(sample_ratio(counts, weights).log_e, abs=1e-6)


def test_no_units_and_a_single_arm_are_no_mismatch() -> None:
    assert not sample_ratio({}, EVEN).mismatch
    assert sample_ratio({}, EVEN).sentence == "No unit was counted yet."
    alone = sample_ratio({"a": 1000}, {"a": 1.0})
    assert (alone.mismatch, alone.p, alone.freedom) == (False, 1.0, 0)


@pytest.mark.parametrize(
    ("counts", "weights", "words"),
    [
        ({"c": 1}, EVEN, "'c', which has no weight"),
        ({"a": 1}, {"a": -1.0, "b": 2.0}, "weight of 'a'"),
        ({"a": 1}, {"a": math.nan}, "weight of 'a'"),
        ({"a": -1}, EVEN, "-1 units of 'a'"),
        ({"a": 1}, {"a": 0.0, "b": 0.0}, "no arm has a weight"),
    ],
)
def test_bad_weights_and_counts_are_refused_in_words(counts: dict, weights: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        sample_ratio(counts, weights)
    with pytest.raises(ValueError, match="k is 0"):
        log_evidence({"a": 1}, EVEN, k=0.0)
