"""Outcomes are refused by name or counted exactly once."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.errors import MalformedRequest
from fairlead.predictions.framing import HEADER_BYTES
from fairlead.predictions.outcomes import Key, effective, parse_outcomes
from fairlead.predictions.record import Outcome
from fairlead.predictions.segments import frame

NOW = 1_763_683_200_000_000
CONVERSION = {"request_id": "r1", "metric": "conversion", "value": 1}


def parse(document: Any) -> list[Outcome]:
    return parse_outcomes(json.dumps(document).encode(), model="shop", received_at=NOW)


def test_one_object_is_one_outcome_of_row_0_now() -> None:
    assert parse(CONVERSION) == [
        Outcome(NOW, "shop", "conversion", 1.0, NOW, request_id="r1", row=0, mode="set")
    ]


def test_a_unit_has_no_row() -> None:
    (outcome,) = parse(
        {"unit": "Zoë", "metric": "revenue", "value": 9.5, "mode": "add", "outcome_id": "order-7"}
    )
    assert (outcome.unit, outcome.row, outcome.request_id) == ("Zoë", None, None)
    assert (outcome.mode, outcome.outcome_id) == ("add", "order-7")


def test_a_list_keeps_its_order_in_the_time_of_receipt() -> None:
    first, second = parse([CONVERSION, {**CONVERSION, "value": 0}])
    assert second.received_at > first.received_at
    assert effective([second, first]) == {Key("shop", "r1", 0, None, "conversion"): (0.0, NOW + 1, 2)}


def test_an_empty_list_is_no_outcomes() -> None:
    assert parse([]) == []


@pytest.mark.parametrize(
    ("given_at", "microseconds"),
    [
        ("2025-11-21T00:00:00Z", NOW),
        ("2025-11-21T01:00:00+01:00", NOW),
        (1_763_683_200, NOW),
        (1_763_683_200.5, NOW + 500_000),
        (None, NOW),
    ],
)
def test_a_time_is_rfc_3339_or_unix_seconds(given_at: Any, microseconds: int) -> None:
    assert parse({**CONVERSION, "at": given_at})[0].at == microseconds


@pytest.mark.parametrize(("value", "stored"), [(True, 1.0), (False, 0.0), (3, 3.0), ("churned", "churned")])
def test_values_are_numbers_or_texts(value: Any, stored: Any) -> None:
    (outcome,) = parse({**CONVERSION, "value": value})
    assert outcome.value == stored
    assert type(outcome.value) is type(stored)


@pytest.mark.parametrize(
    ("changes", "field", "rule"),
    [
        ({"request_id": None}, "request_id, unit", "both missing"),
        ({"unit": "u"}, "request_id, unit", "both given"),
        ({"request_id": 7}, "request_id", "not a text"),
        ({"request_id": ""}, "request_id", "not a text"),
        ({"request_id": None, "unit": "u", "row": 1}, "row", "without request_id"),
        ({"row": -1}, "row", "whole number"),
        ({"row": 1.5}, "row", "whole number"),
        ({"row": True}, "row", "whole number"),
        ({"metric": None}, "metric", "missing"),
        ({"metric": "m" * 201}, "metric", "1 to 200"),
        ({"value": None}, "value", "neither"),
        ({"value": [1]}, "value", "neither"),
        ({"value": 10**400}, "value", "finite"),
        ({"value": "x" * 1_001}, "value", "1000"),
        ({"value": "won", "mode": "add"}, "value", "cannot be added"),
        ({"mode": "multiply"}, "mode", "neither"),
        ({"at": "yesterday"}, "at", "RFC 3339"),
        ({"at": "2025-11-21T00:00:00"}, "at", "zone"),
        ({"at": NOW}, "at", "Unix seconds"),
        ({"at": True}, "at", "Unix seconds"),
        ({"outcome_id": ""}, "outcome_id", "not a text"),
        ({"requestid": "r"}, "'requestid'", "not a field"),
    ],
)
def test_a_refusal_names_index_field_and_rule(changes: dict[str, Any], field: str, rule: str) -> None:
    with pytest.raises(MalformedRequest) as refused:
        parse([CONVERSION, {**CONVERSION, **changes}])
    assert refused.value.details["index"] == 1
    assert refused.value.details["field"] == field
    assert rule in refused.value.message
    assert refused.value.remedy


@pytest.mark.parametrize(
    "body", [b"", b"{", b"7", b'"text"', b"[null]", b'{"value": NaN}', b"\xff", b"[[]]", b'"\\ud800"']
)
def test_what_is_no_outcome_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedRequest):
        parse_outcomes(body, model="shop", received_at=NOW)


def test_a_list_beyond_the_limit_is_refused_whole() -> None:
    body = json.dumps([CONVERSION] * 4).encode()
    with pytest.raises(MalformedRequest, match="more than 3"):
        parse_outcomes(body, model="shop", received_at=NOW, max_events=3)


numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(st.none() | st.booleans() | numbers | st.text(), st.lists)


@given(json_values, st.sampled_from(["request_id", "row", "metric", "value", "at", "outcome_id", "mode"]))
def test_any_json_value_in_a_field_is_refused_or_can_be_logged(value: Any, field: str) -> None:
    try:
        outcomes = parse({**CONVERSION, field: value})
    except MalformedRequest:
        return
    for outcome in outcomes:
        assert msgspec.msgpack.decode(frame(outcome)[HEADER_BYTES:], type=Outcome) == outcome


# --- what events amount to ----------------------------------------------------------------------------------

KEY = Key("shop", "r1", 0, None, "conversion")


def event(received_at: int, value: float | str, mode: Any = "set", outcome_id: str | None = None) -> Outcome:
    return Outcome(
        received_at, "shop", "conversion", value, received_at, "r1", 0, outcome_id=outcome_id, mode=mode
    )


events = st.lists(
    st.builds(
        event,
        st.integers(0, 20),
        st.floats(-1e6, 1e6) | st.sampled_from(["a", "b"]),
        st.just("set"),
        st.none() | st.sampled_from("xyz"),
    )
    | st.builds(
        event, st.integers(0, 20), st.floats(-1e6, 1e6), st.just("add"), st.none() | st.sampled_from("xyz")
    ),
    min_size=1,
    max_size=12,
)


def test_a_later_set_corrects() -> None:
    assert effective([event(1, 0.0), event(2, 1.0)])[KEY].value == 1.0


def test_additions_accumulate_on_the_last_set() -> None:
    history = [event(1, 5.0, "add"), event(2, 10.0), event(3, 2.0, "add"), event(4, 3.0, "add")]
    assert effective(history)[KEY] == (15.0, 4, 4)


def test_a_repeated_old_correction_does_not_undo_a_newer_one() -> None:
    history = [event(1, 0.0, outcome_id="a"), event(2, 1.0, outcome_id="b"), event(3, 0.0, outcome_id="a")]
    assert effective(history)[KEY].value == 1.0


def test_one_outcome_id_may_serve_several_metrics() -> None:
    order = [event(1, 1.0, outcome_id="order-7"), msgspec.structs.replace(event(1, 59.9), metric="revenue")]
    assert [found.value for found in effective(order).values()] == [1.0, 59.9]


def test_a_text_is_not_added_to() -> None:
    assert effective([event(1, "churned"), event(2, 1.0, "add")])[KEY].value == "churned"


@given(events, st.randoms(use_true_random=False))
def test_the_order_in_which_events_are_read_does_not_matter(history: list[Outcome], random: Any) -> None:
    shuffled = random.sample(history, len(history))
    assert effective(shuffled) == effective(history)


@given(events, st.data())
def test_repeating_a_delivery_with_an_outcome_id_changes_nothing(
    history: list[Outcome], data: st.DataObject
) -> None:
    named = [item for item in history if item.outcome_id is not None]
    repeats = [
        msgspec.structs.replace(item, received_at=item.received_at + data.draw(st.integers(0, 30)))
        for item in data.draw(st.lists(st.sampled_from(named), max_size=5) if named else st.just([]))
    ]
    # a repetition at the very same microsecond is the same event; a later one is dropped
    before, after = effective(history), effective(history + repeats)
    assert after == before


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8), st.data())
def test_named_additions_may_arrive_in_any_order_any_number_of_times(
    values: list[float], data: st.DataObject
) -> None:
    amounts = dict(enumerate(values))
    order = data.draw(st.permutations(list(amounts) * 2))
    deliveries = [event(at, amounts[name], "add", str(name)) for at, name in enumerate(order)]
    assert effective(deliveries)[KEY].value == math.fsum(values)


@given(events, st.floats(-1e6, 1e6))
def test_a_new_set_always_has_the_last_word(history: list[Outcome], value: float) -> None:
    assert effective([*history, event(100, value)])[KEY].value == value
