"""What each feature did: it sums up, ignores what the model ignores, and agrees with the definition."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.explanations.attribution import MOST_RUNS, Score, attribute

Numbers = list[float]
_VALUES = st.floats(-5, 5)


def each(model: Any) -> Score:
    return lambda rows: [model(row) for row in rows]


def curved(row: Sequence[float]) -> float:
    """Uses all features but the last, together."""
    return math.tanh(row[0] * row[1]) + sum(value * value for value in row[:-1]) - row[0]


def by_definition(row: Numbers, background: list[Numbers], model: Any) -> Numbers:
    """The mean gain over every order and every background row."""
    found = np.zeros(len(row))
    orders = list(permutations(range(len(row))))
    for other in background:
        for order in orders:
            mixed = list(other)
            for player in order:
                before = model(mixed)
                mixed[player] = row[player]
                found[player] += model(mixed) - before
    return list(found / len(orders) / len(background))


@st.composite
def games(draw: st.DrawFn, fewest: int = 2, most: int = 4, rows: int = 3) -> tuple[Numbers, list[Numbers]]:
    width = draw(st.integers(fewest, most))
    numbers = st.lists(_VALUES, min_size=width, max_size=width)
    return draw(numbers), draw(st.lists(numbers, min_size=2, max_size=rows))


@given(games())
@settings(max_examples=40, deadline=None)
def test_few_features_get_what_the_definition_says(game: tuple[Numbers, list[Numbers]]) -> None:
    row, background = game
    found = attribute(row, background, each(curved), np.random.default_rng(0))
    assert found is not None
    assert found.exact
    assert found.contributions == pytest.approx(by_definition(row, background, curved), abs=1e-9)


@given(games(9, 14, 6), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_contributions_sum_to_the_answer_less_the_mean_answer(
    game: tuple[Numbers, list[Numbers]], seed: int
) -> None:
    row, background = game
    found = attribute(row, background, each(curved), np.random.default_rng(seed), most_runs=300)
    assert found is not None
    mean = np.mean([curved(other) for other in background])
    assert found.value == curved(row)
    assert found.base == pytest.approx(mean, abs=1e-9)
    assert sum(found.contributions) == pytest.approx(found.value - mean, abs=1e-8)
    assert found.contributions[-1] == found.errors[-1] == 0.0  # the model ignores it


@given(st.lists(_VALUES, min_size=4, max_size=4), st.lists(_VALUES, min_size=4, max_size=4))
@settings(max_examples=30, deadline=None)
def test_features_that_do_the_same_get_the_same(one: Numbers, other: Numbers) -> None:
    row = [one[0], one[0], *one[2:]]
    background = [[other[0], other[1], *other[2:]], [other[1], other[0], *other[2:]]]
    found = attribute(row, background, each(curved_alike), np.random.default_rng(0))
    assert found is not None
    assert found.contributions[0] == pytest.approx(found.contributions[1], abs=1e-9)


def curved_alike(row: Sequence[float]) -> float:
    return math.sin(row[0] + row[1]) * row[2] + row[0] * row[1] - row[3]


def test_a_model_that_adds_is_explained_exactly_by_any_number_of_walks() -> None:
    generator = np.random.default_rng(3)
    weights, row = generator.normal(size=40), generator.normal(size=40).tolist()
    background = generator.normal(size=(50, 40)).tolist()
    found = attribute(
        row, background, each(lambda held: float(np.dot(held, weights))), generator, most_runs=1
    )
    assert found is not None
    used = np.array(background[: found.rows])
    assert found.contributions == pytest.approx(list(weights * (np.array(row) - used.mean(axis=0))), abs=1e-9)


def test_intervals_hold_the_true_contribution_about_as_often_as_they_say() -> None:
    row = [1.5, -0.5, 1.0]
    generator = np.random.default_rng(11)
    whole = attribute(row, generator.normal(size=(20_000, 3)).tolist(), each(curved_alike_3), generator)
    assert whole is not None
    inside = 0
    for _ in range(100):
        found = attribute(row, generator.normal(size=(60, 3)).tolist(), each(curved_alike_3), generator)
        assert found is not None
        pairs = zip(found.contributions, found.errors, whole.contributions, strict=True)
        inside += sum(abs(one - true) <= error for one, error, true in pairs)
    assert 270 <= inside <= 300


def curved_alike_3(row: Sequence[float]) -> float:
    return math.sin(row[0]) * row[1] + row[2] ** 2


def test_a_feature_that_never_differs_gets_nothing_and_costs_nothing() -> None:
    asked: list[Any] = []

    def score(rows: Sequence[Sequence[Any]]) -> list[float | None]:
        asked.extend(rows)
        return [float(row[0]) for row in rows]

    row = [3.0, None, "DE", [1.0, math.nan], math.nan]
    found = attribute(row, [[1.0, *row[1:]], [2.0, *row[1:]]], score, np.random.default_rng(0))
    assert found is not None
    assert found.contributions == (1.5, 0.0, 0.0, 0.0, 0.0)
    assert len(asked) == found.runs == 3


def test_nulls_texts_and_lists_are_players_like_any_other() -> None:
    def model(row: Sequence[Any]) -> Any:
        text, numbers, missing = row
        return len(text) + sum(numbers) + (10.0 if missing is None else missing)

    found = attribute(["größe", [1.0, 2.0], None], [["", [], 1.0]], each(model), np.random.default_rng(0))
    assert found is not None
    assert found.contributions == pytest.approx((5.0, 3.0, 9.0))


def test_background_rows_that_the_model_takes_no_mixture_with_are_left_out_and_counted() -> None:
    def picky(row: Sequence[float]) -> float | None:
        return None if row[0] == 7.0 and row[1] == 1.0 else row[0] + row[1]

    background = [[7.0, 0.0], [2.0, 2.0], [3.0, 3.0]]
    found = attribute([0.0, 1.0], background, each(picky), np.random.default_rng(0))
    assert found is not None
    assert (found.rows, found.failed) == (2, 1)
    assert sum(found.contributions) == pytest.approx(found.value - found.base)


def test_a_model_that_takes_most_mixtures_badly_is_not_explained() -> None:
    def picky(row: Sequence[float]) -> float | None:
        return None if row[0] != row[1] else row[0]

    assert attribute([1.0, 1.0], [[0.0, 0.0]] * 5, each(picky), np.random.default_rng(0)) is None
    assert attribute([1.0, 2.0], [[0.0, 0.0]] * 5, each(picky), np.random.default_rng(0)) is None
    with pytest.raises(ValueError, match="no background"):
        attribute([1.0], [], each(picky), np.random.default_rng(0))


def test_hundreds_of_features_stay_within_the_budget_and_still_have_twenty_rows_beside_them() -> None:
    generator = np.random.default_rng(5)
    background = generator.normal(size=(100, 600)).tolist()
    found = attribute(
        generator.normal(size=600).tolist(), background, each(lambda row: row[0] * row[1]), generator
    )
    assert found is not None
    assert found.rows == 20
    assert found.runs <= 20 * 2 * 600 + 1


def test_the_same_seed_gives_the_same_again() -> None:
    background = np.random.default_rng(1).normal(size=(30, 12)).tolist()
    row = [1.0] * 12
    first, second = (
        attribute(row, background, each(curved), np.random.default_rng(9), most_runs=500) for _ in range(2)
    )
    assert first == second


def test_one_explanation_of_a_wide_row_asks_no_more_rows_than_said() -> None:
    generator = np.random.default_rng(0)
    background = generator.normal(size=(100, 200)).tolist()
    found = attribute(background[0], background[1:], lambda rows: [sum(row) for row in rows], generator)
    assert found is not None
    assert found.runs <= MOST_RUNS
    assert found.rows == 50
