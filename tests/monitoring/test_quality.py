"""Broken rules are an alarm where they became more than before, beyond chance and by what matters."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fairlead.monitoring.quality import Breach, Rows, breaches

CALM = Rows(rows=100_000, rejected=100, broken={"age": {"range": 100}})


def asked(current: Rows, reference: Rows = CALM) -> dict[str, Breach]:
    return {one.name: one for one in breaches(current, reference, level=1e-3, floor=0.01, least=100)}


def test_a_rule_that_is_broken_as_often_as_before_is_no_alarm() -> None:
    found = asked(Rows(rows=10_000, rejected=11, broken={"age": {"range": 11}}))
    assert list(found) == ["refused requests", "age: range"]
    assert {one.status for one in found.values()} == {"ok"}


def test_a_surge_of_one_rule_alarms_with_its_field_and_shares() -> None:
    found = asked(
        Rows(rows=1000, rejected=1, broken={"age": {"range": 50, "type": 1}, "land": {"category": 2}})
    )
    assert [name for name, one in found.items() if one.status == "alarm"] == ["age: range"]
    assert (found["age: range"].expected, found["age: range"].seen) == (0.001, 0.05)
    assert set(found) == {"refused requests", "age: range", "age: type", "land: category"}


def test_more_refused_requests_alarm_whatever_the_reason() -> None:
    assert asked(Rows(rows=1000, rejected=300))["refused requests"].status == "alarm"


def test_what_is_broken_less_often_than_before_never_alarms() -> None:
    reference = Rows(rows=10_000, rejected=5000, broken={"age": {"range": 5000}})
    found = asked(Rows(rows=10_000), reference)
    assert {one.status for one in found.values()} == {"ok"}


def test_what_is_certain_and_rare_is_no_alarm() -> None:
    found = asked(Rows(rows=1_000_000, broken={"age": {"range": 5000}}))["age: range"]
    assert found.p is not None
    assert found.p < 1e-9
    assert found.status == "ok"


def test_few_rows_tell_nothing() -> None:
    found = asked(Rows(rows=99, rejected=99))
    assert {(one.status, one.p) for one in found.values()} == {("insufficient", None)}
    assert {one.status for one in asked(Rows(rows=1000), Rows(rows=0)).values()} == {"insufficient"}


@given(st.integers(0, 2000), st.integers(0, 2000), st.integers(0, 4000), st.integers(0, 4000))
def test_no_counts_raise(rows: int, before: int, broken: int, once: int) -> None:
    found = asked(Rows(rows=rows, broken={"a": {"r": broken}}), Rows(rows=before, broken={"a": {"r": once}}))
    for one in found.values():
        assert one.p is None or 0.0 <= one.p <= 1.0
