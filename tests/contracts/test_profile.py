"""The reference profile: bins that contain their sample, and counts that add up."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.contracts.contract import Contract, Field, Output
from fairlead.contracts.infer import infer_contract
from fairlead.contracts.profile import (
    CategoryProfile,
    ListProfile,
    NumberProfile,
    ReferenceProfile,
    count,
    profile,
)
from fairlead.contracts.table import read_table
from fairlead.errors import InvalidReference


def profile_of(sample: Any, **options: Any) -> ReferenceProfile:
    table = read_table(sample)
    return profile(table, infer_contract(table, output=options.pop("output", None)), **options)


def numbers(values: Any) -> NumberProfile:
    held = profile_of({"x": np.asarray(values, dtype=np.float64)}).fields["x"]
    assert isinstance(held, NumberProfile)
    return held


def test_many_numbers_fall_into_twenty_bins_of_equal_mass() -> None:
    held = numbers(np.arange(1000.0))
    assert len(held.edges) == 21
    assert held.counts == (0, *[50] * 20, 0)
    assert (held.n, held.nulls, held.min, held.max, held.mean) == (1000, 0, 0.0, 999.0, 499.5)
    assert held.std == pytest.approx(np.arange(1000).std())
    assert held.quantiles == {
        "p1": 9.0,
        "p5": 49.0,
        "p25": 249.0,
        "p50": 499.0,
        "p75": 749.0,
        "p95": 949.0,
        "p99": 989.0,
    }


def test_few_distinct_numbers_have_a_bin_each() -> None:
    held = numbers([0.0, 0.0, 0.0, 1.0, 5.0])
    assert held.edges == (0.0, 1.0, 5.0, math.nextafter(5.0, math.inf))
    assert held.counts == (0, 3, 1, 1, 0)


def test_an_edge_belongs_to_the_bin_on_its_right() -> None:
    held = numbers([0.0, 1.0, 2.0])
    assert count(held, [-0.1]).tolist() == [1, 0, 0, 0, 0]
    assert count(held, [0.0, 0.9, 1.0]).tolist() == [0, 2, 1, 0, 0]
    assert count(held, [2.0, 2.1, math.inf]).tolist() == [0, 0, 0, 1, 2]


def test_a_constant_column_has_one_bin_and_sees_any_change() -> None:
    held = numbers([7.0] * 5)
    assert held.counts == (0, 5, 0)
    assert count(held, [6.999, 7.0, 7.001]).tolist() == [1, 1, 1]
    assert held.std == 0.0


def test_a_heavy_value_does_not_make_empty_bins() -> None:
    held = numbers([0.0] * 900 + list(range(1, 101)))
    assert all(held.counts[1:-1])
    assert sum(held.counts) == 1000


def test_nulls_are_counted_apart() -> None:
    held = profile_of({"x": [1.5, None, float("nan"), 2.5]}).fields["x"]
    assert (held.n, held.nulls, sum(held.counts if isinstance(held, NumberProfile) else ())) == (2, 2, 2)
    assert count(held, [1.5, float("nan")]).sum() == 1
    assert count(held, np.array([1.5, 9.0]), np.array([False, True])).sum() == 1


def test_a_column_of_nulls_alone_has_one_bin_and_no_moments() -> None:
    held = numbers([np.nan, np.nan])
    assert (held.n, held.nulls, held.edges, held.counts) == (0, 2, (), (0,))
    assert (held.mean, held.std, held.min, held.max, held.quantiles) == (None, None, None, None, {})
    assert count(held, [3.0]).tolist() == [1]


def test_numbers_at_the_end_of_the_scale_leave_no_infinity_behind() -> None:
    held = numbers([1.7e308, -1.7e308, 1.7976931348623157e308] * 9)
    assert all(math.isfinite(edge) for edge in held.edges)
    again = msgspec.json.decode(msgspec.json.encode(held), type=NumberProfile)
    assert again == held


def test_text_and_booleans_are_counted_by_category_the_most_frequent_first() -> None:
    held = profile_of({"c": ["b", "a", "b", None], "t": [True, False, True, True]}).fields
    assert held["c"] == CategoryProfile(n=3, nulls=1, categories=("b", "a"), counts=(2, 1, 0))
    assert held["t"] == CategoryProfile(n=4, nulls=0, categories=(True, False), counts=(3, 1, 0))
    assert count(held["c"], ["a", "x", None, "y"]).tolist() == [0, 1, 2]


def test_all_but_the_hundred_most_frequent_categories_are_others() -> None:
    held = profile_of({"c": [f"c{i:03}" for i in range(150) for _ in range(2 + (i < 5))]}).fields["c"]
    assert isinstance(held, CategoryProfile)
    assert len(held.categories) == 100
    assert held.categories[:6] == ("c000", "c001", "c002", "c003", "c004", "c005")
    assert held.counts[-1] == 100
    assert sum(held.counts) == held.n


def test_categories_that_a_person_stated_have_a_count_even_when_the_sample_lacks_them() -> None:
    field = Field(name="n", type="int", categories=(1, 2, 3))
    contract = Contract(inputs=(field,), output=Output(kind="number"))
    held = profile(read_table({"n": [3, 3, 1]}), contract).fields["n"]
    assert held == CategoryProfile(n=3, nulls=0, categories=(1, 2, 3), counts=(1, 0, 2, 0))


def test_lists_are_counted_by_length_and_by_their_numbers() -> None:
    held = profile_of({"v": [[1.0, 2.0], [3.0], None, []]}).fields["v"]
    assert isinstance(held, ListProfile)
    assert (held.n, held.nulls, held.elements.n, held.lengths.max) == (3, 1, 3, 2.0)
    assert count(held, [[9.0], [1.0, 2.0, 3.0]]).tolist() == count(held.lengths, [1, 3]).tolist()


def test_the_models_own_answers_are_profiled() -> None:
    contract = infer_contract({"x": [0.0, 1.0, 2.0]}, target=["a", "b", "b"])
    table = read_table({"x": [0.0, 1.0, 2.0]})
    held = profile(table, contract, predictions=["b", "b", "b"], probabilities=[[0.1, 0.9]] * 3).prediction
    assert held is not None
    assert held.values == CategoryProfile(n=3, nulls=0, categories=("a", "b"), counts=(0, 3, 0))
    assert [score.mean for score in held.scores] == pytest.approx([0.1, 0.9])


@pytest.mark.parametrize(
    ("output", "predictions", "expected"),
    [
        (Output(kind="number"), [1.0, 2.0, 3.0], NumberProfile),
        (Output(kind="vector", length=2), [[1.0, 2.0]] * 3, ListProfile),
        (
            Output(kind="ranking"),
            [[{"id": "a", "score": 0.5}], [{"id": "b", "score": 1.0}], []],
            CategoryProfile,
        ),
    ],
)
def test_every_kind_of_answer_has_a_profile(output: Output, predictions: list[Any], expected: type) -> None:
    held = profile_of({"x": [0.0, 1.0, 2.0]}, output=output, predictions=predictions).prediction
    assert held is not None
    assert isinstance(held.values, expected)
    if output.kind == "ranking":
        assert (held.values.n, held.values.nulls) == (2, 1)
        assert held.scores[0].max == 1.0


def test_another_sample_can_be_counted_on_the_same_bins() -> None:
    first = profile_of({"x": np.arange(100.0), "c": ["a", "b"] * 50})
    later = profile_of({"x": np.arange(100.0) + 50, "c": ["b", "z"] * 50}, like=first)
    old, new = first.fields["x"], later.fields["x"]
    assert isinstance(old, NumberProfile)
    assert isinstance(new, NumberProfile)
    assert new.edges == old.edges
    assert new.counts[-1] == 50
    assert later.fields["c"] == CategoryProfile(n=100, nulls=0, categories=("a", "b"), counts=(0, 50, 50))


def test_a_table_that_does_not_fit_the_contract_is_refused() -> None:
    contract = infer_contract({"x": [1.0, 2.0]})
    with pytest.raises(InvalidReference, match="no column 'x'"):
        profile(read_table({"y": [1.0]}), contract)
    with pytest.raises(InvalidReference, match="'x' is string and the contract says float"):
        profile(read_table({"x": ["a"]}), contract)
    with pytest.raises(InvalidReference, match="'x' is a list of float and"):
        profile(read_table({"x": [[1.0]]}), contract)
    with pytest.raises(InvalidReference, match="1 predictions were given for 2 rows"):
        profile(read_table({"x": [1.0, 2.0]}), contract, predictions=[1.0])


def test_a_profile_survives_json() -> None:
    frame = pd.DataFrame({"x": [0.1, 0.2, None], "c": ["a", "b", "a"], "t": [True, False, True]})
    held = profile_of(frame.assign(v=[[1.0], [], [2.0]]), predictions=[0.1, 0.2, 0.3])
    assert msgspec.json.decode(msgspec.json.encode(held), type=ReferenceProfile) == held


_SAMPLES = st.lists(st.floats(allow_infinity=False) | st.integers(-5, 5).map(float), min_size=1, max_size=80)


@given(_SAMPLES)
def test_the_sample_fills_its_own_bins_and_neither_of_the_outer_ones(values: list[float]) -> None:
    held = numbers(values)
    assert count(held, values).tolist() == list(held.counts)
    assert sum(held.counts) == held.n == len(values) - held.nulls
    assert list(held.edges) == sorted(set(held.edges))
    assert len(held.edges) <= 21
    assert held.counts[0] == 0
    if held.max is not None and held.max < 1.7e308 and held.edges:
        assert held.counts[-1] == 0


@given(_SAMPLES, _SAMPLES, st.integers(0, 80))
def test_counts_add_up_over_any_split_of_the_rows(sample: list[float], rows: list[float], cut: int) -> None:
    held = numbers(sample)
    parts = count(held, rows[:cut]) + count(held, rows[cut:])
    assert parts.tolist() == count(held, rows).tolist()
    assert parts.sum() == sum(not math.isnan(value) for value in rows)


@given(
    st.lists(st.none() | st.text(max_size=2), min_size=2),
    st.lists(st.none() | st.text(max_size=2)),
    st.integers(0),
)
def test_category_counts_add_up_over_any_split(sample: list[Any], rows: list[Any], cut: int) -> None:
    if all(value is None for value in sample):
        sample = [*sample, "a"]
    held = profile_of({"c": sample}).fields["c"]
    parts = count(held, rows[:cut]) + count(held, rows[cut:])
    assert parts.tolist() == count(held, rows).tolist()
    assert parts.sum() == sum(value is not None for value in rows)
