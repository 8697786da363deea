"""How far labels lay from answers, in the order of the answers."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from fairlead.predictions.offs import offs
from tests.predictions.test_labelled import START, Log, log

__all__ = ["log"]

HOUR = timedelta(hours=1)


def found(log: Log, kind: Any, limit: int = 100, **options: Any) -> list[float | None]:
    return offs(log.queries, "shop", "v1", START, START + HOUR, kind=kind, limit=limit, **options)


def test_numbers_are_off_by_their_size_in_order_of_time_and_only_with_a_label(log: Log) -> None:
    for second, (request, label) in enumerate([("a", 12.0), ("b", None), ("c", 9.5), ("d", 10.0)]):
        log.answer(request, 10.0, float(10 - second))
        if label is not None:
            log.label(request, label, 20.0)
    log.answer("e", 10.0, 5.0, degraded="fallback_version")
    log.label("e", 0.0)
    log.answer("f", 10.0, 5.0, served_version="v2")
    log.label("f", 0.0)
    assert found(log, "number") == [0.0, 0.5, 2.0]
    assert found(log, "number", limit=2) == [0.5, 2.0]


def test_classes_are_off_by_what_the_labels_class_was_not_given(log: Log) -> None:
    log.answer("a", 1, 1.0, probabilities='{"0":0.25,"1":0.75}')
    log.label("a", 1)
    log.answer("b", 1, 2.0, probabilities='{"0":0.25,"1":0.75}')
    log.label("b", "0")
    log.answer("c", 1, 3.0, probabilities='{"0":0.25,"1":0.75}')
    log.label("c", "another")
    log.answer("d", 1, 4.0, probabilities=None)
    log.label("d", 1)
    assert found(log, "class", classes=["0", "1"]) == [pytest.approx(0.25), pytest.approx(0.75), None]


def test_classes_that_are_true_and_false_are_met_by_ones_and_zeros(log: Log) -> None:
    log.answer("a", True, probabilities='{"false":0.25,"true":0.75}')
    log.label("a", 0)
    assert found(log, "class", classes=["false", "true"]) == [0.75]


def test_an_empty_time_has_none(log: Log) -> None:
    assert found(log, "number") == []
