"""The real rows are those that the sources describe."""

from __future__ import annotations

import numpy as np
import pytest

from tests.data.employment import employment
from tests.data.flights import flights


def test_the_people_of_massachusetts_are_all_there_with_the_published_accuracy() -> None:
    people = employment()
    assert people.rows == 277_677
    accuracy = {}
    for year in (2015, 2016, 2017, 2018):
        one = people.of(year)
        accuracy[year] = float(np.mean(one.prediction == one.label))
    assert accuracy == pytest.approx(
        {2015: 0.827157, 2016: 0.825333, 2017: 0.829166, 2018: 0.828221}, abs=1e-6
    )


def test_shuffling_keeps_each_person_whole_and_in_their_year() -> None:
    people = employment()
    mixed = people.shuffled(np.random.default_rng(1))
    assert (mixed.year == people.year).all()
    assert not (mixed.probability == people.probability).all()
    for year in (2015, 2018):
        one, other = people.of(year), mixed.of(year)
        pairs = [sorted(zip(each.probability, each.features["AGEP"], strict=True)) for each in (one, other)]
        assert pairs[0] == pairs[1]


def test_every_flight_is_there_once_with_its_weather_and_its_plane() -> None:
    held = flights()
    assert {len(values) for values in held.values()} == {336_776}
    assert set(held["year"]) == {2013.0}
    assert (held["month"][0], held["day"][0], held["carrier"][0], held["flight"][0]) == (
        1.0,
        1.0,
        "UA",
        1545.0,
    )
    assert held["temp"][0] == pytest.approx(39.02)
    assert held["plane_manufacturer"][0] == "BOEING"
    assert np.isnan(held["dep_delay"]).sum() == 8_255
