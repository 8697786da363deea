"""Intervals and sets that follow their labels: off unless asked for, each label once, whoever looks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fairlead.contracts.adaptive import thinned
from fairlead.contracts.contract import Contract, Output
from fairlead.contracts.uncertainty import Uncertainty, conformal_quantile
from fairlead.errors import StoreUnavailable
from fairlead.monitoring.adapting import AdaptingLooker
from fairlead.monitoring.findings import Finding
from fairlead.registry import levels
from fairlead.registry.levels import Level
from tests.monitoring.served import CLASSES, START, Served

HOUR = timedelta(hours=1)
ERRORS = np.abs(np.random.default_rng(0).normal(0.0, 1.0, 2_000))
SAID = Uncertainty(kind="interval", quantile=conformal_quantile(ERRORS), n=2_000)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path, contract=Contract(inputs=CLASSES.inputs, output=Output(kind="number")))
    yield made
    made.close()


def serve(served: Served, hour: int, spread: float, n: int = 300) -> None:
    generator = np.random.default_rng(hour)
    label = generator.normal(100.0, 20.0, n)
    value = label + generator.normal(0.0, spread, n)
    served.serve(value.tolist(), label.tolist(), at=hour * HOUR, every=3_000 / n, quantile=SAID.quantile)


def look(served: Served, hours: float) -> list[Finding]:
    return AdaptingLooker(served.registry, served.client).look(START + hours * HOUR)


def level(served: Served) -> Level:
    with served.database.read() as connection:
        held = levels.level_of(connection, "shop", "v1")
    assert held is not None
    return held


def quantile(served: Served) -> float:
    said = served.registry.spec("shop", "v1").uncertainty
    assert said is not None
    return said.quantile


def test_nothing_follows_unless_it_is_asked_for(served: Served) -> None:
    served.register(uncertainty=SAID, scores=thinned(ERRORS))
    serve(served, 0, 3.0)
    assert look(served, 2) == []
    assert level(served).labels == 0
    assert quantile(served) == SAID.quantile


def test_errors_that_grow_widen_the_intervals_and_errors_that_shrink_narrow_them(served: Served) -> None:
    served.register(uncertainty=SAID, scores=thinned(ERRORS))
    served.registry.configure("shop", None, {"adaptive_coverage": 0.02}, who="ann")
    serve(served, 0, 1.0)
    (calm,) = look(served, 1)
    assert (calm.status, calm.n) == ("ok", 300)
    assert quantile(served) == pytest.approx(1.645, rel=0.5)
    for hour in range(1, 4):
        serve(served, hour, 3.0)
    (wide,) = look(served, 4)
    assert wide.n == 1_200
    assert quantile(served) == wide.value == pytest.approx(3 * 1.645, rel=0.6)
    for hour in range(4, 7):
        serve(served, hour, 0.3)
    look(served, 7)
    assert quantile(served) < 1.0


def test_labels_teach_once_however_often_and_by_whomever_is_looked(served: Served) -> None:
    served.register(uncertainty=SAID, scores=thinned(ERRORS))
    served.registry.configure("shop", None, {"adaptive_coverage": 0.01}, who="ann")
    serve(served, 0, 2.0)
    looker = AdaptingLooker(served.registry, served.client)
    before = level(served)
    first = looker.look(START + 1.5 * HOUR)
    after = level(served)
    assert (after.labels, after.revision) == (300, 1)
    assert look(served, 1.5) == first
    with served.database.write() as connection:  # a control that saw the level before it moved
        assert not levels.teach(
            connection, "shop", "v1", before, outside=0.5, quantile=9.0, labels=1,
            through=START, at=START,
        )  # fmt: skip
    assert level(served) == after


def test_labels_of_answers_that_are_not_due_yet_wait(served: Served) -> None:
    served.register(uncertainty=SAID, scores=thinned(ERRORS))
    served.registry.configure("shop", None, {"adaptive_coverage": 0.01, "label_delay_hours": 1}, who="ann")
    serve(served, 0, 1.0)
    (waiting,) = look(served, 0.99)
    assert (waiting.status, level(served).labels) == ("insufficient", 0)
    look(served, 1.5)
    assert 100 < level(served).labels < 300
    look(served, 2)
    assert level(served).labels == 300


def test_a_version_from_before_scores_were_kept_says_what_to_do(served: Served) -> None:
    served.register(uncertainty=SAID)
    served.registry.configure("shop", None, {"adaptive_coverage": 0.01}, who="ann")
    serve(served, 0, 1.0)
    (found,) = look(served, 2)
    assert found.status == "insufficient"
    assert "register it anew" in found.sentence
    assert quantile(served) == SAID.quantile


def test_errors_beyond_all_measure_end_at_a_finite_width_and_say_so(served: Served) -> None:
    served.register(uncertainty=SAID, scores=thinned(ERRORS))
    served.registry.configure("shop", None, {"adaptive_coverage": 0.1}, who="ann")
    serve(served, 0, 1e9)
    (found,) = look(served, 2)
    assert found.status == "alarm"
    assert "grows no further" in found.sentence
    assert np.isfinite(quantile(served))


def test_a_log_that_cannot_be_asked_is_a_finding_and_moves_nothing(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.register(uncertainty=SAID, scores=thinned(ERRORS))
    served.registry.configure("shop", None, {"adaptive_coverage": 0.01}, who="ann")

    def away(op: str, **_: Any) -> None:
        raise StoreUnavailable("ingest is away")

    monkeypatch.setattr(served.client, "call", away)
    (found,) = look(served, 2)
    assert (found.status, found.version) == ("error", None)
    assert level(served).labels == 0


def test_sets_of_classes_follow_the_probability_of_the_labels_class(tmp_path: Path) -> None:
    served = Served(tmp_path)
    try:
        scores = [0.1] * 90 + [0.6] * 10
        said = Uncertainty(kind="set", quantile=0.1, n=100)
        served.register(uncertainty=said, scores=thinned(scores))
        served.registry.configure("shop", None, {"adaptive_coverage": 0.05}, who="ann")
        served.serve([1] * 60, [0, 1] * 30, at=0 * HOUR, scores=[0.9] * 60, quantile=0.1)
        look(served, 1)
        assert quantile(served) == 1.0  # half of all labels had a tenth of the probability: every class
    finally:
        served.close()
