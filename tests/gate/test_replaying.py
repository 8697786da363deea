"""What a gate makes of logged traffic that the candidate answers again: shares, too few rows, nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from fairlead.evaluation.change_report import ChangeReport, Example
from fairlead.gate.reading import read_gate
from fairlead.gate.replaying import replay_checks, without_production
from fairlead.gate.report import Check
from fairlead.gate.spec import GateSpec

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def gate(inconclusive: str = "fail", **replay: Any) -> GateSpec:
    return read_gate({"inconclusive": inconclusive, "replay": replay})


def judged(spec: GateSpec, **found: Any) -> dict[str, Check]:
    report = ChangeReport(model="shop", version="v2", start=NOW, end=NOW, **found)
    assert spec.replay is not None
    return {check.name: check for check in replay_checks(spec, spec.replay, "v1", report)}


def test_traffic_that_is_answered_alike_passes() -> None:
    found = judged(gate(), compared=1_000, changed=100)
    assert {(check.group, check.status, check.closes) for check in found.values()} == {
        ("replay", "passed", False)
    }
    assert found["changed"].text == (
        "Of 1,000 logged answers of v1, 100 would be answered otherwise (10 %); at most 10 % may."
    )


@pytest.mark.parametrize(
    ("found", "name", "said"),
    [
        ({"changed": 101}, "changed", "101 would be answered otherwise (10.1 %)"),
        (
            {"failed": {"runtime_failed": 2, "deadline_exceeded": 1}}, "errors",
            "3 would end in an error (0.2991 %, deadline_exceeded 1, runtime_failed 2)",
        ),
        (
            {"rejected_rows": 3, "rejected": {"age: range": 3}}, "violations",
            "3 would break the candidate's contract (0.2991 %, age: range 3)",
        ),
    ],
)  # fmt: skip
def test_more_than_the_limit_of_changes_errors_or_violations_closes_the_gate(
    found: dict[str, Any], name: str, said: str
) -> None:
    checks = judged(gate(), compared=1_000, **found)
    assert {check.name for check in checks.values() if check.closes} == {name}
    assert said in checks[name].text
    assert not judged(gate(**{name: 0.2}), compared=1_000, **found)[name].closes


@pytest.mark.parametrize("inconclusive", ["fail", "pass"])
def test_too_few_answers_tell_nothing_and_the_gate_says_what_that_comes_to(inconclusive: str) -> None:
    found = judged(gate(inconclusive, least=50), compared=49, not_replayable={"features_withheld": 7})
    assert {(check.status, check.closes) for check in found.values()} == {
        ("inconclusive", inconclusive == "fail")
    }
    assert found["changed"].text == (
        "Only 49 logged answers of v1 are there to compare (7 cannot be replayed, features_withheld 7);"
        " 50 tell."
    )


def test_no_traffic_at_all_is_too_few() -> None:
    assert {check.status for check in judged(gate()).values()} == {"inconclusive"}


def test_what_would_be_too_much_among_enough_is_too_much_among_few() -> None:
    found = judged(
        gate("pass", least=100, changed=0.1), compared=20, changed=11, failed={"runtime_failed": 1}
    )
    assert (found["changed"].status, found["errors"].status) == ("failed", "failed")
    assert judged(gate("pass", least=100, changed=0.1), compared=20, changed=10)["changed"].status == (
        "inconclusive"
    )


def test_examples_name_requests_and_answers_and_no_value_of_a_caller() -> None:
    def example(kind: Any, **more: Any) -> Example:
        return Example(
            kind=kind, request_id=f"r-{kind}", row=0, at=NOW, unit="ann", version="v1", logged=0, **more
        )

    broken = [{"field": "age", "rule": "range", "value": 44, "expected": "at most 40"}]
    found = judged(
        gate(),
        compared=200,
        examples=[
            *(example("changed", replayed=1) for _ in range(9)),
            example("failed", error_code="runtime_failed", error="The model raised"),
            example("rejected", violations=broken),
            example("mended", replayed=1),
        ],
    )
    assert found["changed"].examples == [
        {"request_id": "r-changed", "row": 0, "logged": 0, "replayed": 1}
    ] * 5  # fmt: skip
    assert found["errors"].examples[0]["why"] == "The model raised"
    assert found["violations"].examples == [
        {"request_id": "r-rejected", "row": 0, "logged": 0, "why": "age: range"}
    ]


def test_the_first_version_has_no_traffic_to_replay_and_is_not_stopped_by_that() -> None:
    assert {(check.status, check.closes) for check in without_production()} == {("skipped", False)}
