"""Losses, beside what one reckons by hand and what scikit-learn says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn import metrics

from fairlead.contracts.contract import Output
from fairlead.errors import InvalidGate
from fairlead.gate.losses import compare, losses, value_of, verify_metric
from fairlead.gate.spec import MetricName
from tests.gate.made import answers

BINARY = Output(kind="class", classes=(0, 1))
NUMBER = Output(kind="number")


def draw(seed: int = 1, count: int = 300) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    chances = rng.uniform(0.01, 0.99, count)
    return (rng.uniform(size=count) < chances).astype(int), chances


def by_scikit_learn(name: str, truth: np.ndarray, chances: np.ndarray, weights: np.ndarray | None) -> float:
    if name == "accuracy":
        return float(metrics.accuracy_score(truth, chances > 0.5, sample_weight=weights))
    peer = metrics.log_loss if name == "log_loss" else metrics.brier_score_loss
    return float(peer(truth, chances, sample_weight=weights))


@pytest.mark.parametrize("name", ["accuracy", "log_loss", "brier"])
def test_metrics_of_classes_are_those_of_scikit_learn(name: MetricName) -> None:
    truth, chances = draw()
    weights = np.random.default_rng(2).uniform(0, 3, len(truth))
    given = answers((chances > 0.5).astype(int).tolist(), chances.tolist())
    loss = losses(name, BINARY, truth.tolist(), given)
    assert value_of(name, loss, None) == pytest.approx(by_scikit_learn(name, truth, chances, None))
    weighted = by_scikit_learn(name, truth, chances, weights)
    assert value_of(name, loss, weights) == pytest.approx(weighted)


def test_metrics_of_numbers_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    truth = rng.normal(size=200)
    given = truth + rng.normal(size=200)
    for name, peer in (("mae", metrics.mean_absolute_error), ("rmse", metrics.root_mean_squared_error)):
        loss = losses(name, NUMBER, truth.tolist(), answers(given.tolist()))  # type: ignore[arg-type]
        assert value_of(name, loss, None) == pytest.approx(peer(truth, given))  # type: ignore[arg-type]


def test_brier_of_three_classes_counts_every_class() -> None:
    output = Output(kind="class", classes=("a", "b", "c"))
    given = answers(["a"])
    given.probabilities[0] = {"a": 0.5, "b": 0.3, "c": 0.2}
    assert losses("brier", output, ["b"], given)[0] == pytest.approx(0.25 + 0.49 + 0.04)


def test_a_certain_and_wrong_answer_costs_much_and_not_infinitely_much() -> None:
    loss = losses("log_loss", BINARY, [1], answers([0], [0.0]))
    assert loss[0] == pytest.approx(-math.log(1e-15))


def test_probabilities_that_are_not_there_are_asked_for() -> None:
    with pytest.raises(InvalidGate, match="needs probabilities"):
        losses("brier", BINARY, [1], answers([1]))


@pytest.mark.parametrize(("name", "kind"), [("mae", "class"), ("accuracy", "number"), ("rmse", "ranking")])
def test_a_metric_of_another_kind_of_answer_is_refused(name: MetricName, kind: str) -> None:
    with pytest.raises(InvalidGate, match=f"the model answers a {kind}"):
        verify_metric(name, Output(kind=kind))  # type: ignore[arg-type]


def test_a_root_mean_square_is_compared_as_such() -> None:
    """Beside the bootstrap, which takes the root of every resample's mean."""
    rng = np.random.default_rng(5)
    ours, theirs = rng.normal(0, 1.2, 800) ** 2, rng.normal(0, 1.0, 800) ** 2
    found = compare("rmse", ours, theirs, None, alpha=0.05)
    picks = rng.integers(0, 800, (4_000, 800))
    drawn = np.sqrt(ours[picks].mean(1)) - np.sqrt(theirs[picks].mean(1))
    assert found.worse.estimate == pytest.approx(np.sqrt(ours.mean()) - np.sqrt(theirs.mean()))
    assert found.worse.low == pytest.approx(np.quantile(drawn, 0.025), abs=0.01)
    assert found.worse.high == pytest.approx(np.quantile(drawn, 0.975), abs=0.01)


def test_two_versions_without_any_error_are_alike() -> None:
    found = compare("rmse", np.zeros(50), np.zeros(50), None, alpha=0.05)
    assert (found.worse.low, found.worse.high) == (0.0, 0.0)
