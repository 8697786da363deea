"""Several questions of the same data."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fairlead.experiments.multiplicity import benjamini_hochberg, holm, share_of_alpha

tests = st.dictionaries(st.text(max_size=3), st.floats(0, 1), max_size=8)


def test_holm_multiplies_the_least_by_all_and_never_falls() -> None:
    # Holm 1979, the step-down of four p-values
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert found == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})


@given(tests.filter(bool))
def test_benjamini_and_hochberg_are_scipys(p_values: dict[str, float]) -> None:
    theirs = stats.false_discovery_control(list(p_values.values()))
    assert list(benjamini_hochberg(p_values).values()) == pytest.approx(list(theirs))


@given(tests)
def test_holm_is_the_stricter_and_neither_makes_a_p_value_smaller(p_values: dict[str, float]) -> None:
    strict, mild = holm(p_values), benjamini_hochberg(p_values)
    for name, p in p_values.items():
        assert p <= mild[name] * (1 + 1e-12) <= strict[name] * (1 + 1e-9) + 1e-300
    assert list(strict) == list(mild) == list(p_values)


def test_alpha_is_divided_among_the_guardrails() -> None:
    assert share_of_alpha(0.05, 5) == pytest.approx(0.01)
    with pytest.raises(ValueError, match="0 questions"):
        share_of_alpha(0.05, 0)


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_what_is_no_p_value_is_refused_by_name(p: float) -> None:
    for adjust in (holm, benjamini_hochberg):
        with pytest.raises(ValueError, match="p-value of 'x'"):
            adjust({"x": p})
