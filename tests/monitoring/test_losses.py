"""How large errors are before labels come: back-tested on cars whose mix changes, and the nasty cases."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fairlead.monitoring.losses import expected_loss, learn_loss
from tests.data.car_prices import cars


def test_errors_of_cars_are_estimated_before_and_after_the_mix_changes() -> None:
    reference, analysis = cars("reference").take(slice(8_000)), cars("analysis")
    model = learn_loss(reference.columns, reference.size.tolist())
    assert model is not None
    as_before = float(reference.size.mean())
    for start in range(0, 60_000, 12_000):
        chunk = analysis.take(slice(start, start + 4_000))
        real = float(chunk.size.mean())
        told = expected_loss(model, chunk.columns)
        assert told is not None
        found, unseen = told
        shifted = start >= 30_000
        assert abs(found.value - real) / real < (0.1 if shifted else 0.03)
        if shifted:
            assert abs(found.value - real) < abs(as_before - real) / 2
        assert unseen < 0.05


def rows(n: int, seed: int = 1) -> tuple[dict[str, list[object]], list[float]]:
    generator = np.random.default_rng(seed)
    first, kind = generator.random(n), generator.integers(0, 3, n)
    size = np.where((first > 0.5) & (kind == 1), 10.0, 1.0)
    return {"x": first.tolist(), "kind": [f"k{one}" for one in kind]}, size.tolist()


def test_what_hangs_on_two_features_together_is_learned() -> None:
    columns, size = rows(3_000)
    model = learn_loss(columns, size)
    assert model is not None
    for x, kind, expected in ((0.9, "k1", 10.0), (0.9, "k2", 1.0), (0.1, "k1", 1.0)):
        told = expected_loss(model, {"x": [x] * 50, "kind": [kind] * 50})
        assert told is not None
        assert told[0].value == pytest.approx(expected, abs=0.3)


def test_values_that_no_labelled_row_had_are_counted() -> None:
    columns, size = rows(1_000)
    model = learn_loss(columns, size)
    assert model is not None
    told = expected_loss(model, {"x": [0.5, 5.0, -1.0, 0.2], "kind": ["k0", "k1", "new", "k2"]})
    assert told is not None
    assert told[1] == 0.5


def test_too_few_rows_teach_nothing_and_no_rows_have_no_estimate() -> None:
    columns, size = rows(299)
    assert learn_loss(columns, size) is None
    columns, size = rows(400)
    assert learn_loss(columns, [math.inf] * 200 + size[200:]) is None
    model = learn_loss(columns, size)
    assert model is not None
    assert expected_loss(model, {}) is None
    assert expected_loss(model, {"x": [], "kind": []}) is None


def test_empty_constant_missing_and_infinite_columns_are_no_exception() -> None:
    _, size = rows(400)
    columns: dict[str, list[object]] = {
        "empty": [None] * 400,
        "constant": [1.0] * 400,
        "mixed": [None, 1.0, "a", True] * 100,
        "infinite": [math.inf, -math.inf, math.nan, 1.0] * 100,
        "list": [[1.0]] * 400,
    }
    model = learn_loss(columns, size)
    assert model is not None
    told = expected_loss(model, {"empty": [None, 1.0], "constant": [None, "x"], "infinite": [math.nan, 2.0]})
    assert told is not None
    assert told[0].value == pytest.approx(np.mean(size), abs=1.0)
    assert learn_loss({}, size) is not None
