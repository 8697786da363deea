"""When an answer that was computed again agrees with the one that was given."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.evaluation.agreement import TOLERANCE, agreement, difference, same_violations

finite = st.floats(allow_nan=False, allow_infinity=False)
answers = st.one_of(
    finite,
    st.integers(),
    st.text(),
    st.booleans(),
    st.lists(finite, max_size=4),
    st.lists(st.fixed_dictionaries({"id": st.text(), "score": finite}), max_size=3),
)


@given(answers, st.none() | st.dictionaries(st.text(), st.floats(0, 1), max_size=3))
def test_an_answer_agrees_with_itself_to_the_last_bit(
    answer: Any, probabilities: dict[str, float] | None
) -> None:
    found = agreement(answer, answer, probabilities, probabilities)
    assert found.verdict == "identical"
    assert found.largest in (None, 0.0)


@given(answers, answers)
def test_it_does_not_matter_which_came_first(one: Any, other: Any) -> None:
    assert agreement(one, other, None, None) == agreement(other, one, None, None)


@given(st.floats(-1e300, 1e300), st.floats(0, 0.9))
def test_what_differs_by_less_than_the_tolerance_is_within_it_and_never_identical(
    value: float, part: float
) -> None:
    other = value + part * TOLERANCE * max(1.0, abs(value))
    found = agreement(value, other, None, None)
    assert found.verdict == (
        "identical" if other == value and _sign(other) == _sign(value) else "within_tolerance"
    )
    assert agreement(value, value + 3 * TOLERANCE * max(1.0, abs(value)), None, None).verdict == "differs"


def _sign(value: float) -> float:
    return math.copysign(1.0, value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 2),
        ("a", "b"),
        (True, 1),
        (1, 1.5),
        ([1.0], [1.0, 2.0]),
        (
            [{"id": "a", "score": 1.0}, {"id": "b", "score": 1.0}],
            [{"id": "b", "score": 1.0}, {"id": "a", "score": 1.0}],
        ),
        (None, 1.0),
        ("1", 1),
    ],
)
def test_labels_ids_and_forms_are_the_same_or_not(one: Any, other: Any) -> None:
    assert agreement(one, other, None, None).verdict == "differs"


def test_the_last_bit_counts_and_so_does_a_sign() -> None:
    assert agreement(0.1, math.nextafter(0.1, 1), None, None).verdict == "within_tolerance"
    assert agreement(0.0, -0.0, None, None).verdict == "within_tolerance"
    assert agreement(1, 1.0, None, None).verdict == "within_tolerance"


def test_probabilities_count_as_much_as_the_label() -> None:
    assert agreement(1, 1, {"0": 0.25, "1": 0.75}, {"0": 0.25, "1": 0.75}).verdict == "identical"
    far = agreement(1, 1, {"0": 0.25, "1": 0.75}, {"0": 0.125, "1": 0.875})
    assert far == ("differs", 0.125)
    assert agreement(1, 1, {"0": 1.0}, {"1": 1.0}).verdict == "differs"
    assert agreement(1, 1, {"0": 1.0}, None).verdict == "differs"


def test_the_largest_difference_is_found_wherever_it_is() -> None:
    assert difference([1.0, 2.0, 3.0], [1.0, 4.5, 3.25]) == 2.5
    ranked = [{"id": "a", "score": 0.5}, {"id": "b", "score": 0.25}]
    assert difference(ranked, [{"id": "a", "score": 0.5}, {"id": "b", "score": 0.125}]) == 0.125
    assert difference("a", "a") == -1
    assert difference([], []) == -1
    assert difference("a", "b") is None


def test_violations_are_the_same_when_the_same_fields_break_the_same_rules() -> None:
    one = [{"field": "a", "rule": "type", "value": 1}, {"field": "b", "rule": "range", "value": 2}]
    assert same_violations(one, [dict(reversed(each.items())) for each in reversed(one)])
    assert not same_violations(one, one[:1])
    assert not same_violations(one, [one[0], one[1] | {"rule": "type"}])
