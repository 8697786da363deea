"""How far groups are treated apart: published numbers, groups too small to tell."""

from __future__ import annotations

import numpy as np
import pytest

from fairlead.experiments.aggregates import Proportion
from fairlead.monitoring.fairness import Fairness, fairness
from fairlead.monitoring.performance import Confusion
from tests.data.employment import employment


def of_people(feature: str, year: int) -> Fairness:
    people = employment().of(year)
    chosen, positive = people.prediction == 1, people.label == 1
    selected, labelled = {}, {}
    for name in np.unique(people.features[feature]):
        rows = people.features[feature] == name
        selected[str(name)] = Proportion(int(rows.sum()), int((rows & chosen).sum()))
        labelled[str(name)] = Confusion(
            tp=int((rows & chosen & positive).sum()),
            fp=int((rows & chosen & ~positive).sum()),
            fn=int((rows & ~chosen & positive).sum()),
            tn=int((rows & ~chosen & ~positive).sum()),
        )
    return fairness(feature, selected, labelled)


def test_the_gaps_between_men_and_women_are_those_known_of_the_data() -> None:
    # by fairlearn's definitions, counted row by row
    found = of_people("SEX", 2015)
    assert found.demographic_parity.difference == pytest.approx(0.001713, abs=5e-7)
    assert found.equalized_odds.difference == pytest.approx(0.056096, abs=5e-7)
    assert found.equalized_odds.measure == "equalized odds: false positives"
    assert of_people("SEX", 2018).equalized_odds.difference == pytest.approx(0.049675, abs=5e-7)


def test_the_rates_of_each_group_are_those_counted_otherwise() -> None:
    men, women = of_people("SEX", 2015).parts
    assert (men.name, women.name) == ("1", "2")
    for rate, expected in (
        (men.selection, 0.539131), (women.selection, 0.537418), (men.tpr, 0.874252), (women.tpr, 0.862693),
        (men.fpr, 0.183342), (women.fpr, 0.239437),
    ):  # fmt: skip
        assert rate.value == pytest.approx(expected, abs=5e-7)
        assert rate.low is not None
        assert rate.high is not None
        assert rate.low < expected < rate.high


def test_groups_that_are_too_small_are_named_and_take_no_part() -> None:
    found = of_people("RAC1P", 2015)
    assert found.small == {"3": 71, "4": 1, "5": 57, "7": 22}
    assert found.demographic_parity.highest not in found.small
    assert found.demographic_parity.lowest not in found.small
    alone = next(part for part in found.parts if part.name == "4")
    assert alone.selection.value is None
    assert alone.selection.n == 1


def groups(n: int, first: float, second: float) -> Fairness:
    selected = {"a": Proportion(n, round(n * first)), "b": Proportion(n, round(n * second))}
    return fairness("group", selected, {})


def test_a_wide_gap_rings_only_in_groups_of_385_rows_or_more() -> None:
    assert groups(385, 0.9, 0.1).demographic_parity.alarms()
    assert groups(384, 0.9, 0.1).demographic_parity.difference == pytest.approx(0.8, abs=0.01)
    assert not groups(384, 0.9, 0.1).demographic_parity.alarms()
    assert groups(99, 0.9, 0.1).demographic_parity.difference is None
    assert not groups(50_000, 0.55, 0.5).demographic_parity.alarms()


def test_the_ratio_is_lowest_by_highest_and_unknown_where_nobody_is_chosen() -> None:
    assert groups(1_000, 0.5, 0.4).demographic_parity.ratio == pytest.approx(0.8)
    assert groups(1_000, 0.0, 0.0).demographic_parity.ratio is None


def test_no_groups_and_one_group_have_no_gap() -> None:
    assert fairness("group", {}, {}).demographic_parity.difference is None
    assert fairness("group", {"a": Proportion(900, 5)}, {}).demographic_parity.difference is None
