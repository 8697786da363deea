"""What a rule may say, and whom it then matches."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.errors import InvalidPlan
from fairlead.routing.targeting import MOST_RULES, MOST_UNITS, Rule, condition_of, verify_rules


def matches(
    rule: Rule, unit: str = "u", headers: Mapping[str, str] = MappingProxyType({}), **features: Any
) -> bool:
    columns = {name: value if isinstance(value, list) else [value] for name, value in features.items()}
    return condition_of(rule.verify())(unit, headers, lambda: columns)


def test_a_listed_unit_matches_by_its_exact_text() -> None:
    rule = Rule(name="pilot", units=("Zo\u00eb", "user-42"))
    assert matches(rule, "user-42")
    assert matches(rule, "Zo\u00eb")
    assert not matches(rule, "Zoe\u0308")
    assert not matches(rule, "user-4")


def test_a_header_matches_one_of_its_values_whatever_the_case_of_its_name() -> None:
    rule = Rule(name="beta", header="X-Group", one_of=("beta", "staff"))
    assert matches(rule, headers={"x-group": "staff"})
    assert not matches(rule, headers={"x-group": "Staff"})
    assert not matches(rule)


@pytest.mark.parametrize(
    ("bounds", "inside", "outside"),
    [
        ({"above": 3.0}, 3.5, 3.0),
        ({"at_least": 3.0}, 3, 2.999),
        ({"below": 3.0}, -10, 3),
        ({"at_most": 3.0}, 3.0, 3.5),
        ({"at_least": 18.0, "below": 65.0}, 64, 65),
    ],
)
def test_a_number_matches_within_its_bounds(bounds: dict[str, float], inside: float, outside: float) -> None:
    rule = Rule(name="age", feature="age", **bounds)
    assert matches(rule, age=inside)
    assert not matches(rule, age=outside)


@pytest.mark.parametrize("value", [None, "40", True, float("nan"), [[40.0]]])
def test_what_is_no_number_is_within_no_bounds(value: Any) -> None:
    assert not matches(Rule(name="age", feature="age", at_least=0.0), age=value)


def test_values_are_compared_by_value_and_kind() -> None:
    rule = Rule(name="some", feature="x", one_of=(1, "1", "DE"))
    assert matches(rule, x=1.0)
    assert matches(rule, x="1")
    assert not matches(rule, x=True)
    assert not matches(rule, x=None)
    assert not matches(rule, x=[["DE"]])
    assert matches(Rule(name="yes", feature="x", one_of=(True,)), x=True)
    assert not matches(Rule(name="yes", feature="x", one_of=(True,)), x=1)


def test_rows_that_are_asked_for_together_match_only_all_together() -> None:
    rule = Rule(name="de", feature="country", one_of=("DE",))
    assert matches(rule, country=["DE", "DE"])
    assert not matches(rule, country=["DE", "FR"])
    assert not matches(rule, country=[])
    assert not matches(rule)


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({"name": "Über"}, "called"),
        ({"name": "a b", "units": ["u"]}, "called"),
        ({"name": "r"}, "about nobody"),
        ({"name": "r", "units": ["u"], "header": "x-a"}, "units and header"),
        ({"name": "r", "units": []}, "no unit"),
        ({"name": "r", "units": [""]}, "empty"),
        ({"name": "r", "units": ["u"], "above": 1}, "says more"),
        ({"name": "r", "header": "Authorization", "one_of": ["Bearer x"]}, "authorization"),
        ({"name": "r", "header": "Cookie", "one_of": ["x"]}, "cookie"),
        ({"name": "r", "header": "x a", "one_of": ["x"]}, "'x a'"),
        ({"name": "r", "header": "x-a\r\n", "one_of": ["x"]}, "reads the header"),
        ({"name": "r", "header": "x-a"}, "list of texts"),
        ({"name": "r", "header": "x-a", "one_of": [1]}, "list of texts"),
        ({"name": "r", "header": "x-a", "one_of": ["x"], "above": 1}, "list of texts"),
        ({"name": "r", "feature": "age"}, "says nothing"),
        ({"name": "r", "feature": "age", "one_of": [1], "above": 1}, "lists values and sets bounds"),
        ({"name": "r", "feature": "age", "one_of": list(range(1_001))}, "1001 values"),
    ],
)
def test_a_rule_that_says_nothing_clear_is_refused_by_name(rule: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidPlan, match=says):
        msgspec.convert(rule, Rule).verify()


def test_a_bound_that_is_no_number_is_refused() -> None:
    with pytest.raises(InvalidPlan, match="no number"):
        Rule(name="r", feature="x", above=float("nan")).verify()


def test_names_are_given_once_and_rules_and_units_have_bounds() -> None:
    one = Rule(name="r", units=("u",))
    with pytest.raises(InvalidPlan, match="Two rules"):
        verify_rules([one, one])
    many = [Rule(name=f"r{n}", units=("u",)) for n in range(MOST_RULES + 1)]
    assert verify_rules(many[:-1])
    with pytest.raises(InvalidPlan, match="101 rules"):
        verify_rules(many)
    with pytest.raises(InvalidPlan, match="100,001 units"):
        verify_rules([Rule(name="r", units=tuple(map(str, range(MOST_UNITS + 1))))])


@given(st.lists(st.text(min_size=1), min_size=1))
def test_a_list_of_units_survives_its_way_as_a_set(units: list[str]) -> None:
    rule = Rule(name="r", units=tuple(units)).verify()
    assert rule.units == tuple(sorted(set(units)))
    assert rule.verify() == rule
    assert all(matches(rule, unit) for unit in units)
