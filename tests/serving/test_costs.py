"""What a run costs, learnt from runs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.serving.costs import RunCosts

_SECONDS = st.floats(1e-6, 1.0)


@given(
    _SECONDS, _SECONDS, st.lists(st.integers(1, 500), min_size=3, max_size=30).filter(lambda n: len({*n}) > 1)
)
def test_the_line_that_runs_follow_is_found(a: float, b: float, sizes: list[int]) -> None:
    costs = RunCosts()
    for rows in sizes:
        costs.observe(rows, a * rows + b)
    assert costs.known
    assert costs.seconds(100, 1_000) == pytest.approx(a * 100 + b, rel=0.02)
    assert costs.seconds(100, 10) == pytest.approx(a * 100 + 10 * b, rel=0.1)


@given(st.lists(st.tuples(st.integers(1, 1_000), _SECONDS), min_size=1, max_size=30))
def test_nothing_is_ever_cheaper_than_nothing(runs: list[tuple[int, float]]) -> None:
    costs = RunCosts()
    for rows, seconds in runs:
        costs.observe(rows, seconds)
    assert costs.a >= 0
    assert costs.b >= 0
    assert 1 <= costs.rows_within(0.5, 100) <= 100


def test_runs_of_one_size_split_their_time_between_the_parts_until_another_size_comes() -> None:
    costs = RunCosts()
    for _ in range(10):
        costs.observe(4, 0.008)
    assert (costs.a, costs.b) == (pytest.approx(0.001), pytest.approx(0.004))
    costs.observe(8, 0.008)
    assert costs.a == pytest.approx(0.0, abs=1e-9)


def test_a_machine_that_becomes_slow_is_noticed() -> None:
    costs = RunCosts()
    for rows in range(1, 100):
        costs.observe(rows, 0.001 * rows)
    for _ in range(5):
        for rows in (10, 20, 30, 40):
            costs.observe(rows, 0.01 * rows)
    assert costs.seconds(30, 100) == pytest.approx(0.3, rel=0.5)


def test_the_rows_that_fit_into_a_time_are_found() -> None:
    costs = RunCosts()
    for rows in (1, 10, 20):
        costs.observe(rows, 0.001 * rows + 0.005)
    assert costs.rows_within(0.025, 1_000) == pytest.approx(20, abs=1)
    assert costs.rows_within(0.025, 7) == 7
    assert costs.rows_within(0.001, 7) == 1


def test_rows_that_wait_longer_than_expected_make_every_expectation_longer_and_no_shorter() -> None:
    costs = RunCosts()
    for _ in range(200):
        costs.waited(0.1, 0.01)
    assert costs.slip == 1
    for _ in range(200):
        costs.waited(0.1, 0.15)
    assert costs.slip == pytest.approx(1.5, rel=0.01)
    for _ in range(200):
        costs.waited(0.1, 99.0)
    assert costs.slip == pytest.approx(4, rel=0.01)
