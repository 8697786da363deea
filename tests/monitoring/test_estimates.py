"""How well a model does before labels come: published estimates, real people, and when not to believe."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.monitoring.estimates import calibrator_of, estimated, isotonic, validity
from fairlead.monitoring.scored import Scored, scored
from fairlead.predictions.labelled_counts import SCORE_BINS
from tests.data.car_loan import loans
from tests.data.employment import REFERENCE_YEAR, Employment, employment

# NannyML/nannyml, docs/example_notebooks/"Tutorial - Estimating Standard Performance Metrics - Binary
# Classification.ipynb", the result of CBPE with chunks of 5,000: estimated roc_auc and f1 of the first eight.
PUBLISHED = [
    (0.970744, 0.943030), (0.971011, 0.941324), (0.971407, 0.943574), (0.971091, 0.943159),
    (0.971123, 0.944204), (0.961090, 0.911753), (0.961825, 0.911766), (0.961073, 0.911661),
]  # fmt: skip


def test_estimates_of_loans_are_the_published_ones_to_six_digits() -> None:
    reference, analysis = loans("reference"), loans("analysis")
    calibrator = calibrator_of(scored(reference.probability, reference.prediction == 1, reference.label))
    assert calibrator is not None
    for index, (area, f1) in enumerate(PUBLISHED):
        chunk = slice(5_000 * index, 5_000 * (index + 1))
        cells = scored(analysis.probability[chunk], analysis.prediction[chunk] == 1)
        found = {one.name: one.value for one in estimated(cells, calibrator)}
        assert found["auc"] == pytest.approx(area, abs=6e-7)
        assert found["f1"] == pytest.approx(f1, abs=6e-7)


@pytest.mark.parametrize("year", [2016, 2017, 2018])
def test_real_peoples_accuracy_is_estimated_within_two_thousandths_without_labels(year: int) -> None:
    reference, people = employment().of(REFERENCE_YEAR), employment().of(year)
    calibrator = calibrator_of(scored(reference.probability, reference.prediction == 1, reference.label))
    assert calibrator is not None
    cells = scored(people.probability, people.prediction == 1)
    found = {one.name: one for one in estimated(cells, calibrator)}["accuracy"]
    real = float((people.prediction == people.label).mean())
    assert abs(found.value - real) < 0.002
    assert found.low is not None
    assert found.high is not None
    assert found.low < real < found.high
    assert validity(cells, calibrator).valid


@given(
    st.lists(st.tuples(st.floats(0, 1, allow_subnormal=False), st.integers(1, 5)), min_size=1, max_size=30)
)
def test_the_isotonic_fit_never_falls_and_keeps_the_mean(drawn: list[tuple[float, int]]) -> None:
    score = np.arange(len(drawn), dtype=float)
    mean, weight = np.array([one[0] for one in drawn]), np.array([one[1] for one in drawn], float)
    points, level = isotonic(score, mean, weight)
    fitted = np.interp(score, points, level)
    assert (np.diff(fitted) >= -1e-12).all()
    assert (fitted * weight).sum() == pytest.approx((mean * weight).sum())
    if (np.diff(mean) > 0).all():
        assert fitted == pytest.approx(mean)


def labelled(n: int, seed: int = 1) -> Scored:
    generator = np.random.default_rng(seed)
    score = generator.random(n)
    return scored(score, score > 0.5, generator.random(n) < score)


def test_too_few_labels_or_one_class_teach_nothing() -> None:
    assert calibrator_of(labelled(299)) is None
    assert calibrator_of(labelled(300)) is not None
    assert calibrator_of(scored([0.5] * 900, [True] * 900, [1.0] * 900)) is None
    assert calibrator_of(scored([], [])) is None


def test_scores_where_no_labels_were_are_not_believed() -> None:
    calibrator = calibrator_of(scored(*_low_scores()))
    assert calibrator is not None
    high = scored(np.full(100, 0.95), np.ones(100, bool))
    found = validity(high, calibrator)
    assert not found.valid
    assert "100.0%" in found.reason


def _low_scores() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(2)
    score = generator.random(2_000) / 2
    return score, score > 0.5, generator.random(2_000) < score


def test_unseen_features_and_labels_that_contradict_make_an_estimate_invalid_with_the_reason() -> None:
    cells = labelled(2_000)
    calibrator = calibrator_of(cells)
    assert calibrator is not None
    assert validity(cells, calibrator).valid
    assert "a feature" in validity(cells, calibrator, unseen=0.2).reason
    assert validity(cells, calibrator, concept="labels say otherwise").reason == "labels say otherwise"
    assert not validity(scored([], []), calibrator).valid


def test_no_rows_have_no_estimate() -> None:
    calibrator = calibrator_of(labelled(500))
    assert calibrator is not None
    assert estimated(scored([], []), calibrator) == []


def test_scores_as_the_log_bins_them_estimate_as_well() -> None:
    reference, people = employment().of(REFERENCE_YEAR), employment().of(2017)

    def cells(held: Employment, known: bool) -> Scored:
        bins = np.minimum(np.floor(held.probability * SCORE_BINS), SCORE_BINS - 1)
        score = (bins + 0.5) / SCORE_BINS
        return scored(score, held.prediction == 1, held.label if known else None)

    calibrator = calibrator_of(cells(reference, True))
    assert calibrator is not None
    found = {one.name: one.value for one in estimated(cells(people, False), calibrator)}
    assert abs(found["accuracy"] - (people.prediction == people.label).mean()) < 0.002
    assert found["auc"] == pytest.approx(0.904230, abs=5e-4)
