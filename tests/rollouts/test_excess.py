"""A rate above its limit shows in few events, and a rate at its limit almost never looks like it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.experiments.aggregates import Proportion
from fairlead.rollouts.excess import exceeds, log_excess

limits = st.floats(0.0005, 0.5)


@given(st.integers(0, 2000), st.integers(0, 2000), limits)
def test_another_failure_is_never_evidence_for_innocence(failures: int, others: int, limit: float) -> None:
    n = failures + others + 1
    fewer, more = Proportion(n, failures), Proportion(n, failures + 1)
    assert log_excess(more, limit) > log_excess(fewer, limit)


@given(st.integers(1, 50), st.floats(0.001, 0.3), st.floats(0.0, 1.0))
def test_under_the_limit_the_evidence_is_one_at_most_in_expectation(
    n: int, limit: float, below: float
) -> None:
    rate = limit * below
    expected = math.fsum(
        math.comb(n, s) * rate**s * (1 - rate) ** (n - s) * math.exp(log_excess(Proportion(n, s), limit))
        for s in range(n + 1)
    )
    assert expected <= 1 + 1e-9
    if below == 1.0:
        assert expected == pytest.approx(1)


def test_nobody_is_above_a_limit_without_a_request_or_with_a_limit_of_everything() -> None:
    assert log_excess(Proportion(), 0.01) == 0
    assert not exceeds(Proportion(10, 10), 1.0, 0.05)
    with pytest.raises(ValueError, match="between 0 and 1"):
        log_excess(Proportion(1, 1), 0.0)


def test_a_rate_at_its_limit_is_seldom_taken_for_one_above_however_often_one_looks() -> None:
    rng = np.random.default_rng(7)
    runs, alarms = 400, 0
    for _ in range(runs):
        failures = np.cumsum(rng.random(2000) < 0.01)
        alarms += any(exceeds(Proportion(n, int(failures[n - 1])), 0.01, 0.05) for n in range(20, 2001, 20))
    assert alarms <= 0.05 * runs


def test_five_times_the_limit_shows_within_five_hundred_requests() -> None:
    assert exceeds(Proportion(500, 25), 0.01, 0.001)
    assert not exceeds(Proportion(500, 8), 0.01, 0.05)
