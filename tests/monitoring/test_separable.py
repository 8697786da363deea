"""Rows of two samples are told apart by all fields together, or not; nothing that comes raises."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from fairlead.monitoring.separable import Separated, separate
from tests.data.employment import employment

Columns = dict[str, list[Any]]


def told(reference: Columns, current: Columns) -> Separated:
    return separate(reference, current, level=1e-3, generator=np.random.default_rng(1))


def people(year: int, n: int, seed: int) -> Columns:
    one = employment().shuffled(np.random.default_rng(seed)).of(year)
    return {name: values[:n].tolist() for name, values in one.features.items()}


def together(n: int, seed: int, hangs: float) -> Columns:
    generator = np.random.default_rng(seed)
    first = generator.normal(0.0, 1.0, n)
    second = hangs * first + math.sqrt(1.0 - hangs**2) * generator.normal(0.0, 1.0, n)
    return {"height": first.tolist(), "weight": second.tolist()}


def test_people_of_one_year_cannot_be_told_apart() -> None:
    both = people(2015, 4000, 1)
    halves = [{name: values[at : at + 2000] for name, values in both.items()} for at in (0, 2000)]
    found = told(*halves)
    assert found.status == "ok"
    assert found.auc == pytest.approx(0.5, abs=0.04)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0.5 < found.high


def test_fields_that_no_longer_hang_together_are_seen_where_each_is_as_ever() -> None:
    found = told(together(2000, 1, 0.8), together(2000, 2, 0.0))
    assert found.status == "alarm"
    assert found.leading[0][0] == "height × weight"
    same = told(together(2000, 1, 0.8), together(2000, 2, 0.8))
    assert same.status == "ok"


def test_a_field_that_moved_leads() -> None:
    before, after = people(2015, 2000, 1), people(2015, 2000, 2)
    after["AGEP"] = [value + 12.0 for value in after["AGEP"]]
    found = told(before, after)
    assert found.status == "alarm"
    assert "AGEP" in found.leading[0][0]
    assert found.p is not None
    assert found.p < 1e-6


def test_the_area_is_that_of_scikit_learn_where_one_number_tells_all() -> None:
    generator = np.random.default_rng(3)
    before, after = generator.normal(0.0, 1.0, 3000), generator.normal(1.0, 1.0, 3000)
    found = told({"x": before.tolist()}, {"x": after.tolist()})
    theirs = roc_auc_score(np.repeat([0, 1], 3000), np.concatenate([before, after]))
    assert found.auc == pytest.approx(theirs, abs=0.01)
    assert found.low is not None
    assert found.low == pytest.approx(theirs - 0.0114, abs=0.01)


def test_false_alarms_are_as_rare_as_asked() -> None:
    alarms = 0
    for seed in range(40):
        generator = np.random.default_rng(seed)
        rows = generator.normal(0.0, 1.0, (2, 300, 6))
        first, second = ({str(place): part[:, place].tolist() for place in range(6)} for part in rows)
        p = separate(first, second, level=0.05, generator=generator).p
        assert p is not None
        alarms += p <= 0.05
    assert alarms <= 7


@pytest.mark.parametrize(
    "values",
    [
        [None] * 300,
        [5.0] * 300,
        [math.inf, -math.inf, math.nan] * 100,
        [1.7e308, -1.7e308] * 150,
        ["ä", None, "<b>"] * 100,
        [True, False, None] * 100,
        [[1.0], [2.0, 3.0], []] * 100,
        [1, "one", None] * 100,
    ],
)
def test_odd_columns_have_a_status(values: list[Any]) -> None:
    found = told({"x": values}, {"x": values})
    assert found.status in ("ok", "insufficient")


def test_few_rows_and_nothing_in_common_are_insufficient() -> None:
    assert told({"x": [1.0] * 300}, {"x": [1.0] * 7}).problem.startswith("There are 7 rows and 300")
    assert told({"x": [1.0] * 300}, {"y": [1.0] * 300}).status == "insufficient"
    assert told({}, {}).status == "insufficient"
