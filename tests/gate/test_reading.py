"""What a team writes, and what is wrong with it."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from fairlead.errors import InvalidGate
from fairlead.gate.reading import read_gate
from fairlead.gate.spec import Replay, Slice

WHOLE = """
data = "held-out.csv"
target = "bought"
slices = ["country", { column = "age", edges = [30, 50] }]

[[metrics]]
name = "accuracy"
margin = 0.01

[[metrics]]
name = "brier"
relative_margin = 0.02
weight = "order_value"

[[tests]]
name = "where somebody lives does not matter"
kind = "invariance"
sample = 100
change = { country = ["DE", "FR"] }

[[fairness]]
slice = "gender"
positive = 1
equalized_odds = 0.1

[budget]
p99_ms = 5

[compatibility]
allow = ["age"]

[replay]
since = "1d 12h"
least = 500
"""


def test_a_whole_gate_is_read() -> None:
    spec = read_gate(tomllib.loads(WHOLE))
    assert [metric.title for metric in spec.metrics] == ["accuracy", "brier by order_value"]
    assert spec.cuts == (Slice(column="country"), Slice(column="age", edges=(30.0, 50.0)))
    assert spec.budget.p99_ms == 5
    assert spec.compatibility.allow == ("age",)
    assert spec.replay == Replay(since=36 * 3600.0, least=500, limit=10_000, changed=0.1)


@pytest.mark.parametrize("document", [{}, {"data": "a.csv", "target": "t", "slices": ["x"]}, {"budget": {}}])
def test_a_gate_that_asks_nothing_is_refused_since_it_would_open_a_closed_one(
    document: dict[str, object],
) -> None:
    with pytest.raises(InvalidGate, match="asks nothing of the candidate"):
        read_gate(document)


def test_the_digest_is_of_what_is_asked_and_not_of_how_it_is_written() -> None:
    asked = {"target": "t", "metrics": [{"name": "mae", "margin": 0.1}]}
    one = read_gate({"data": "a.csv", "slices": ["x"], "alpha": 0.05, **asked})
    assert one.digest == read_gate({**asked, "slices": ("x",), "data": "a.csv"}).digest
    assert one.digest != read_gate({"data": "a.csv", "slices": ["y"], **asked}).digest


def test_an_unknown_key_is_refused_with_the_nearest() -> None:
    with pytest.raises(InvalidGate, match=r"Unknown key 'margn' in metrics\[0\]") as refused:
        read_gate({"data": "a.csv", "target": "t", "metrics": [{"name": "mae", "margn": 1}]})
    assert "'margin'" in refused.value.remedy


METRIC = {"name": "mae", "margin": 0.1}
TEST = {"name": "t", "kind": "exact", "rows": [{"a": 1}], "expected": [1]}
FAIR = {"slice": "sex", "demographic_parity": 0.1}


def data(**more: Any) -> dict[str, Any]:
    return {"data": "a.csv", "target": "t", **more}


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ([], "The gate is no table"),
        ({"metrics": METRIC}, "metrics is no list"),
        ({"tests": ["x"]}, "Tests\\[0\\] is no table"),
        ({"budget": 3}, "Budget is no table"),
        (data(metrics=[{"name": "f1", "margin": 1}]), "metrics\\[0\\].name is 'f1'"),
        (data(metrics=[{"name": "mae"}]), "no margin and no limit"),
        (data(metrics=[{**METRIC, "relative_margin": 0.1}]), "two margins"),
        (data(metrics=[{"name": "mae", "margin": -1}]), "no number of 0 or more"),
        (data(metrics=[{"name": "mae", "margin": float("nan")}]), "no number of 0 or more"),
        (data(metrics=[METRIC, METRIC]), "2 of metric 'mae'"),
        ({"data": "a.csv", "metrics": [METRIC]}, "need the truth"),
        ({"metrics": [METRIC]}, "metrics needs held-out rows"),
        ({"slices": ["a"]}, "slices needs held-out rows"),
        ({"alpha": 0}, "alpha is 0"),
        ({"minimum_rows": 1}, "minimum_rows is 1"),
        ({"unanswered": 2}, "unanswered is 2"),
        (data(slices=["a", {"column": "a"}]), "2 of slice 'a'"),
        (data(slices=[{"column": "a", "edges": [2, 1]}]), "edges of slice 'a' do not rise"),
        (data(slices=[{"column": "a", "edges": [1, float("inf")]}]), "do not rise"),
        ({"budget": {"p99_ms": 0}}, "budget.p99_ms is 0"),
        ({"replay": 3}, "Replay is no table"),
        ({"replay": {"sinse": "1h"}}, "Unknown key 'sinse' in replay"),
        ({"replay": {"since": "soon"}}, "replay.since is 'soon', which is no duration"),
        ({"replay": {"since": float("nan")}}, "replay.since is nan s"),
        ({"replay": {"since": "9999w"}}, "replay.since is"),
        ({"replay": {"changed": 1.5}}, "replay.changed is 1.5"),
        ({"replay": {"errors": -1}}, "replay.errors is -1"),
        ({"replay": {"limit": 200_000}}, "replay.limit is 200,000"),
        ({"replay": {"limit": 50}}, "replay.least is 100, and the limit 50"),
        ({"replay": {"least": 0}}, "replay.least is 0"),
        (data(fairness=[{"slice": "sex"}]), "limits nothing"),
        (data(fairness=[{**FAIR, "demographic_parity": 2}]), "demographic_parity over 'sex' is 2"),
        ({"data": "a.csv", "fairness": [{"slice": "sex", "equalized_odds": 0.1}]}, "need the truth"),
        ({"tests": [TEST, TEST]}, "2 of test 't'"),
        ({"tests": [{**TEST, "rows": []}]}, "rows and a sample, or neither"),
        ({"tests": [{**TEST, "sample": 3}]}, "rows and a sample, or neither"),
        ({"tests": [{**TEST, "expected": []}]}, "1 rows have 0 expected"),
        ({"tests": [{**TEST, "change": {"a": 2}}]}, "changes nothing"),
        ({"tests": [{**TEST, "where": {"a": 2}}]}, "where chooses among held-out rows"),
        ({"tests": [{**TEST, "at_least": 0.5}]}, "at_least goes with"),
        ({"tests": [{**TEST, "may_break": 1.5}]}, "may_break of test 't' is 1.5"),
        ({"tests": [{**TEST, "tolerance": -1}]}, "the tolerance is -1"),
        ({"tests": [{"name": "t", "kind": "invariance", "rows": [{"a": 1}]}]}, "nothing is changed"),
        ({"tests": [{"name": "t", "kind": "direction", "rows": [{}], "add": {"a": 1}}]}, "expect goes with"),
        ({"tests": [{"name": "t", "kind": "minimum", "sample": 3, "at_least": 0.9}]}, "sample is of no row"),
        (data(tests=[{"name": "t", "kind": "exact", "sample": 3}]), "no expected answers of its own"),
        (
            {"data": "a.csv", "tests": [{"name": "t", "kind": "minimum", "sample": 3, "at_least": 0.9}]},
            "nothing says what is right",
        ),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_and_named(document: Any, reason: str) -> None:
    with pytest.raises(InvalidGate, match=reason):
        read_gate(document)
