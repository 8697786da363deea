"""What a model goes by over many rows, and whether that has changed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.contracts.contract import Output
from fairlead.evaluation.scored import Scored
from fairlead.explanations.importance import Ask, Importance, Share, changes, importance, ndcg, sample_size

Model = Callable[[Sequence[Any]], float]
NUMBER = Output(kind="number")


def asked(model: Model) -> Ask:
    return lambda rows: [Scored("ok", model(row)) for row in rows]


def found(
    model: Callable[[Sequence[Any]], float], *, seed: int = 0, shift: float = 0.0, rows: int = 100
) -> Importance:
    generator = np.random.default_rng(seed)
    background = np.random.default_rng(0).normal(size=(100, 3)).tolist()
    live = generator.normal((0.0, 0.0, shift), size=(rows, 3))
    made = importance(live.tolist(), background, asked(model), NUMBER, ("a", "b", "c"), generator)
    assert made is not None
    return made


def weighted(row: Sequence[float]) -> float:
    return 3.0 * row[0] + row[1]


def shares(**values: float) -> dict[str, Share]:
    return {name: Share(mean=value, share=value, error=0.01) for name, value in values.items()}


def test_shares_follow_the_weights_and_what_is_ignored_has_none() -> None:
    made = found(weighted)
    assert sum(one.share for one in made.features.values()) == pytest.approx(1.0)
    assert made.features["a"].share == pytest.approx(0.75, abs=0.08)
    assert made.features["c"] == Share(mean=0.0, share=0.0, error=0.0)


def test_the_error_of_a_share_is_about_how_far_samples_differ() -> None:
    many = [found(weighted, seed=seed).features["a"] for seed in range(25)]
    spread = float(np.std([one.share for one in many]))
    assert np.mean([one.error for one in many]) == pytest.approx(spread, rel=0.5)


def test_a_model_that_nothing_moves_has_shares_of_nothing() -> None:
    made = found(lambda row: 4.2)
    assert {one.share for one in made.features.values()} == {0.0}
    assert ndcg(made.features, made.features) is None


def test_rows_that_are_not_answered_are_counted_and_too_few_are_no_importance() -> None:
    def picky(rows: Sequence[Sequence[float]]) -> list[Scored]:
        return [Scored("failed") if row[0] > 1.0 else Scored("ok", row[0]) for row in rows]

    background = [[0.0], [0.5]]
    rows = [[float(number % 2) * 1.5] for number in range(80)]
    made = importance(rows, background, picky, NUMBER, ("a",), np.random.default_rng(0))
    assert made is not None
    assert (made.rows, made.failed) == (40, 40)
    assert importance(rows[:50], background, picky, NUMBER, ("a",), np.random.default_rng(0)) is None


def test_when_time_is_up_the_rows_so_far_count() -> None:
    left = iter([True] * 35 + [False] * 100)
    rows, background = [[float(number)] for number in range(90)], [[0.0]]
    made = importance(
        rows, background, asked(lambda row: row[0]), NUMBER, ("a",), np.random.default_rng(0),
        goes_on=lambda: next(left),
    )  # fmt: skip
    assert made is not None
    assert made.rows == 35


def test_wide_models_are_explained_on_fewer_rows() -> None:
    assert [sample_size(count) for count in (0, 3, 10, 1_000)] == [100, 100, 50, 30]


def test_the_ranking_is_one_while_the_order_is_kept_and_falls_when_the_first_comes_last() -> None:
    before = shares(a=0.6, b=0.3, c=0.1)
    assert ndcg(before, shares(a=0.5, b=0.4, c=0.1)) == pytest.approx(1.0)
    turned = ndcg(before, shares(a=0.1, b=0.3, c=0.6))
    ideal = 0.6 + 0.3 / math.log2(3) + 0.1 / 2
    assert turned == pytest.approx((0.1 + 0.3 / math.log2(3) + 0.6 / 2) / ideal)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.randoms())
def test_no_ranking_is_better_than_that_of_the_reference(values: list[float], random: Any) -> None:
    other = values[:]
    random.shuffle(other)
    before = shares(**{f"f{index}": value for index, value in enumerate(values)})
    found = ndcg(before, shares(**{f"f{index}": value for index, value in enumerate(other)}))
    assert found is None or -1e-9 <= found <= 1 + 1e-9


def test_changes_say_by_how_much_and_how_surely_the_largest_first() -> None:
    told = changes(shares(a=0.6, b=0.3, c=0.1), shares(a=0.3, b=0.59, c=0.11))
    assert [one.feature for one in told] == ["a", "b", "c"]
    assert told[0].change == pytest.approx(-0.3)
    assert told[0].low == pytest.approx(-0.3 - 1.96 * math.hypot(0.01, 0.01), abs=1e-4)
    assert told[0].p < 1e-6
    assert told[2].p == pytest.approx(0.4795, abs=1e-3)


def test_samples_of_the_same_traffic_hardly_ever_differ_beyond_chance() -> None:
    reference = found(weighted, seed=1_000).features
    alarms = sum(
        any(one.p <= 0.01 for one in changes(reference, found(weighted, seed=seed).features))
        for seed in range(30)
    )
    assert alarms <= 2


def test_traffic_that_reaches_where_another_feature_matters_is_seen() -> None:
    def bent(row: Sequence[float]) -> float:
        return 3.0 * row[0] + max(row[2] - 2.0, 0.0) * 10

    told = changes(found(bent).features, found(bent, seed=1, shift=3.0).features)
    gained = next(one for one in told if one.feature == "c")
    assert gained.change > 0.3
    assert gained.p < 1e-6


@pytest.mark.parametrize("features", [200, 400])
def test_importance_of_a_wide_model_asks_no_more_rows_than_a_bound_that_grows_with_its_features(
    features: int,
) -> None:
    generator = np.random.default_rng(0)
    weights = np.zeros(features)
    weights[7] = 5.0
    asked_rows = 0

    def ask(rows: Sequence[Sequence[float]]) -> list[Scored]:
        nonlocal asked_rows
        asked_rows += len(rows)
        return [Scored("ok", value) for value in (np.array(rows) @ weights).tolist()]

    rows = generator.normal(size=(sample_size(features), features)).tolist()
    background = generator.normal(size=(100, features)).tolist()
    names = tuple(f"f{number}" for number in range(features))
    made = importance(rows, background, ask, NUMBER, names, generator)
    assert made is not None
    assert made.features["f7"].share == 1.0
    # 30 rows, each beside two others, along one order and its reverse.
    assert len(rows) == 30
    assert asked_rows <= 30 + 30 * (1 + 2 * 2 * features)


def test_importance_ends_between_rows_when_its_time_is_over() -> None:
    left = iter([True] * 40 + [False] * 100)
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(100, 3)).tolist()
    made = importance(
        rows, rows, asked(weighted), NUMBER, ("a", "b", "c"), generator, goes_on=lambda: next(left)
    )
    assert made is not None
    assert made.rows == 40
