"""The primary alarm: seldom without cause, soon with one, and not delayed by a good past."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.experiments.aggregates import Proportion
from fairlead.monitoring.risk import Step, limit_of, watch

BUDGET = 720.0


def steps(generator: np.random.Generator, rate: float, count: int, rows: int = 50) -> list[Step]:
    return [Step(n=rows, total=float(lost)) for lost in generator.binomial(rows, rate, count)]


def test_at_the_limit_itself_a_false_alarm_comes_no_sooner_than_was_agreed() -> None:
    generator = np.random.default_rng(5)
    alarmed = [watch(steps(generator, 0.2, 720), 0.2, needed=BUDGET).alarmed is not None for _ in range(150)]
    # Were the time to an alarm geometric with the agreed mean, 63 % would have one within it.
    assert np.mean(alarmed) < 0.4


@pytest.mark.parametrize(("rate", "most"), [(0.3, 3_000), (0.4, 600), (0.8, 100)])
def test_a_risk_above_the_limit_rings_soon_however_long_all_was_well(rate: float, most: int) -> None:
    generator = np.random.default_rng(6)
    for quiet in (10, 2_000):
        found = watch([*steps(generator, 0.15, quiet), *steps(generator, rate, 200)], 0.2, needed=BUDGET)
        assert found.alarmed is not None
        assert 0 <= found.alarmed - quiet < most / 50
        assert found.rings
        assert found.since is not None
        assert abs(found.since - quiet) <= 2


def test_a_flipped_concept_rings_within_five_thousand_labels() -> None:
    generator = np.random.default_rng(8)
    found = watch([*steps(generator, 0.17, 500), *steps(generator, 0.83, 100)], 0.22, needed=BUDGET)
    assert found.alarmed is not None
    assert (found.alarmed - 499) * 50 <= 5_000


def test_the_alarm_ends_when_the_risk_is_low_again() -> None:
    generator = np.random.default_rng(9)
    found = watch([*steps(generator, 0.5, 30), *steps(generator, 0.1, 300)], 0.2, needed=BUDGET)
    assert found.alarmed is not None
    assert not found.rings


@given(st.lists(st.tuples(st.integers(0, 30), st.floats(0, 1)), max_size=30), st.floats(0.01, 0.99))
def test_evidence_is_finite_and_steps_without_rows_add_nothing(
    drawn: list[tuple[int, float]], limit: float
) -> None:
    held = [Step(n=n, total=n * share) for n, share in drawn]
    found = watch(held, limit, needed=BUDGET)
    assert math.isfinite(found.evidence)
    assert found.highest >= found.evidence >= 0.0
    idle = watch([*held, Step(n=0, total=0.0)], limit, needed=BUDGET)
    assert idle.evidence == found.evidence


def test_a_version_that_is_idle_for_a_year_does_not_ring() -> None:
    held = [Step(n=100, total=10.0)] * 50
    assert not watch([*held, *[Step(n=0, total=0.0)] * 8_760], 0.2, needed=BUDGET).rings


def test_the_expected_wager_of_a_risk_at_the_limit_is_one_at_most() -> None:
    for limit in (0.05, 0.3, 0.9):
        won = [watch([Step(n=4, total=k)], limit, needed=BUDGET).evidence for k in range(5)]
        chance = [math.comb(4, k) * limit**k * (1 - limit) ** (4 - k) for k in range(5)]
        assert sum(a * b for a, b in zip(won, chance, strict=True)) <= 1.0 + 1e-9


def test_the_limit_is_above_what_the_reference_can_be_and_none_without_one() -> None:
    found = limit_of(Proportion(10_000, 2_000), tolerance=0.05)
    assert found is not None
    assert 0.25 < found < 0.26
    assert limit_of(Proportion()) is None
    assert limit_of(Proportion(100, 100)) is None


def test_limits_that_mean_nothing_are_refused() -> None:
    for limit, needed in ((0.0, 10.0), (1.0, 10.0), (0.5, 1.0)):
        with pytest.raises(ValueError, match="limit"):
            watch([], limit, needed=needed)
