"""What is said of two versions' answers: PASS, FAIL, not told, too small; and how often that is false."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fairlead.contracts.contract import Contract, Field
from fairlead.errors import InvalidGate, InvalidReference
from fairlead.gate.comparing import answers_check, fairness_checks, metric_checks
from fairlead.gate.reading import read_gate
from fairlead.gate.report import Check
from fairlead.gate.spec import GateSpec
from tests.gate.made import BOUGHT, answers, rows

OUTPUT = BOUGHT.output


def gate(**more: Any) -> GateSpec:
    return read_gate(
        {"data": "h.csv", "target": "bought", "metrics": [{"name": "accuracy", "margin": 0.02}], **more}
    )


def columns(count: int = 1_000, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "age": rng.uniform(18, 80, count),
        "land": [("DE", "FR", "IT", "XK")[index] for index in rng.choice(4, count, p=[0.5, 0.3, 0.19, 0.01])],
        "bought": rng.integers(0, 2, count),
        "value": rng.uniform(1, 10, count),
    }


def wrong(truth: Any, where: Any) -> list[int]:
    return np.where(where, 1 - np.asarray(truth), truth).tolist()


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_a_candidate_that_is_as_good_passes() -> None:
    held, spec = rows(gate(), data := columns()), gate()
    same = answers(data["bought"].tolist())
    checks, compared = metric_checks(spec, OUTPUT, held, same, same)
    assert [(check.status, check.closes) for check in checks] == [("passed", False)]
    assert compared == 1_000


def test_a_candidate_that_is_worse_on_one_slice_fails_the_gate() -> None:
    spec, data = gate(slices=["land"]), columns(3_000)
    held = rows(spec, data)
    france = np.array(data["land"]) == "FR"
    worse = answers(wrong(data["bought"], france & (np.arange(3_000) % 5 == 0)))
    found = by_name(metric_checks(spec, OUTPUT, held, worse, answers(data["bought"].tolist()))[0])
    assert found["accuracy where land is FR"].status == "failed"
    assert found["accuracy where land is FR"].closes
    assert found["accuracy where land is DE"].status == "passed"
    assert found["accuracy where land is XK"].status == "too_small"
    assert not found["accuracy where land is XK"].closes


def test_a_slice_that_is_wholly_wrong_and_too_small_does_not_fail_by_itself() -> None:
    spec, data = gate(slices=["land"], inconclusive="pass"), columns(1_000)
    held = rows(spec, data)
    worse = answers(wrong(data["bought"], np.array(data["land"]) == "XK"))
    checks, _ = metric_checks(spec, OUTPUT, held, worse, answers(data["bought"].tolist()))
    assert not any(check.closes for check in checks)


@pytest.mark.parametrize(("policy", "closes"), [("fail", True), ("pass", False)])
def test_what_cannot_be_told_closes_the_gate_unless_the_team_says_otherwise(
    policy: str, closes: bool
) -> None:
    spec, data = gate(inconclusive=policy), columns(200)
    held = rows(spec, data)
    flips = np.arange(200) % 40 == 0
    checks, _ = metric_checks(
        spec, OUTPUT, held, answers(wrong(data["bought"], flips)), answers(data["bought"].tolist())
    )
    assert [(check.status, check.closes) for check in checks] == [("inconclusive", closes)]


def test_a_doubt_that_more_rows_would_settle_names_their_number() -> None:
    spec, data = gate(), columns(200)
    held = rows(spec, data)
    checks, _ = metric_checks(
        spec, OUTPUT, held, answers(wrong(data["bought"], np.arange(200) < 2)), answers(data["bought"])
    )
    assert checks[0].status == "inconclusive"
    assert "rows would tell" in checks[0].text


def test_weights_decide_whose_mistakes_count() -> None:
    document = {"metrics": [{"name": "accuracy", "margin": 0.02, "weight": "value"}]}
    spec, data = gate(**document), columns(2_000)
    data["value"] = np.where(np.arange(2_000) % 10 == 0, 100.0, 0.0)
    held = rows(spec, data)
    cheap = answers(wrong(data["bought"], np.arange(2_000) % 10 == 1))
    dear = answers(wrong(data["bought"], np.arange(2_000) % 10 == 0))
    truth = answers(data["bought"].tolist())
    assert metric_checks(spec, OUTPUT, held, cheap, truth)[0][0].numbers["worse_by"] == 0.0
    assert metric_checks(spec, OUTPUT, held, dear, truth)[0][0].status == "failed"


def test_a_limit_holds_without_any_version_to_compare_with() -> None:
    spec = gate(metrics=[{"name": "accuracy", "limit": 0.9, "margin": 0.01}], slices=["land"])
    data = columns()
    held = rows(spec, data)
    poor = answers(wrong(data["bought"], np.arange(1_000) % 5 == 0))
    found = by_name(metric_checks(spec, OUTPUT, held, poor, None)[0])
    assert found["accuracy limit"].closes
    assert found["accuracy"].status == "skipped"
    assert len(found) == 2


def test_rows_without_truth_or_answer_are_not_compared() -> None:
    spec, data = gate(), columns(500)
    data["bought"] = [None, *data["bought"][1:].tolist()]
    held = rows(spec, data)
    truth = [value or 0 for value in data["bought"]]
    _, compared = metric_checks(spec, OUTPUT, held, answers(truth, errors={5: "x"}), answers(truth))
    assert compared == 498


def test_no_row_at_all_tells_nothing_and_does_not_pass() -> None:
    spec, data = gate(), columns(50)
    held = rows(spec, data)
    none = answers([0] * 50, errors=dict.fromkeys(range(50), "runtime_failed"))
    checks, compared = metric_checks(spec, OUTPUT, held, answers(data["bought"].tolist()), none)
    assert compared == 0
    assert [(check.status, check.closes) for check in checks] == [("inconclusive", True)]
    assert answers_check(spec, answers([0] * 50), none).closes


def test_rows_that_only_the_candidate_cannot_answer_close_the_gate() -> None:
    spec = gate()
    lost = answers([0] * 10, errors={1: "data_contract_violation (age: range)", 2: "runtime_failed"})
    check = answers_check(spec, lost, answers([0] * 10, errors={2: "runtime_failed"}))
    assert check.closes
    assert check.numbers["unanswered"] == 1
    assert "data_contract_violation (age: range) 1" in check.text
    lenient = gate(unanswered=0.2)
    assert not answers_check(lenient, lost, answers([0] * 10)).closes
    assert answers_check(spec, lost, None).numbers["unanswered"] == 2


def test_versions_that_are_alike_seldom_fail_whatever_the_number_of_slices() -> None:
    """300 candidates that err as often as production, on other rows; the margin is 0, so none should fail."""
    spec = gate(
        metrics=[{"name": "accuracy", "margin": 0.0}, {"name": "brier", "margin": 0.0}],
        slices=["land", {"column": "age", "edges": [30, 40, 50, 60, 70]}],
        inconclusive="pass",
    )
    failed = 0
    for run in range(300):
        data = columns(600, seed=run)
        rng = np.random.default_rng(10_000 + run)
        sides = [np.clip(data["bought"] + rng.normal(0, 0.45, 600), 0.001, 0.999) for _ in range(2)]
        held = rows(spec, data)
        pair = [answers((side > 0.5).astype(int).tolist(), side.tolist()) for side in sides]
        checks, _ = metric_checks(spec, OUTPUT, held, *pair)
        failed += any(check.closes for check in checks)
    assert failed <= 15


# --- fairness -----------------------------------------------------------------------------------------------


def fair(chosen: Any, truth: Any, land: list[str], **limits: float) -> Check:
    spec = gate(metrics=[], fairness=[{"slice": "land", "positive": 1, **limits}])
    held = rows(spec, {"age": [1.0] * len(land), "land": land, "bought": truth})
    (check,) = fairness_checks(spec, OUTPUT, held, answers(list(chosen)))
    return check


LAND = ["DE"] * 1_000 + ["FR"] * 1_000


def test_groups_that_are_chosen_alike_pass() -> None:
    check = fair([0, 1] * 1_000, [0, 1] * 1_000, LAND, demographic_parity=0.1)
    assert check.status == "passed"
    assert check.numbers["gap"] == 0.0
    assert check.numbers["rows of DE"] == 1_000


def test_a_group_that_is_chosen_less_often_fails() -> None:
    chosen = [1] * 600 + [0] * 400 + [1] * 400 + [0] * 600
    check = fair(chosen, [0, 1] * 1_000, LAND, demographic_parity=0.1)
    assert check.status == "failed"
    assert check.closes
    assert check.numbers["gap"] == pytest.approx(0.2)
    assert "DE is chosen more often than FR" in check.text


def test_equalized_odds_look_at_both_kinds_of_rows() -> None:
    """Both groups are chosen as often; but of those that should not be, DE is chosen far more often."""
    truth = ([1] * 500 + [0] * 500) * 2
    chosen = [1] * 250 + [0] * 250 + [1] * 250 + [0] * 250 + [1] * 500 + [0] * 500
    assert fair(chosen, truth, LAND, demographic_parity=0.1).status == "passed"
    odds = fair(chosen, truth, LAND, equalized_odds=0.1)
    assert odds.status == "failed"
    assert odds.numbers["gap"] == pytest.approx(0.5)


def test_small_groups_are_left_out_and_named() -> None:
    land = [*LAND, *["XK"] * 50]
    check = fair([0, 1] * 1_000 + [1] * 50, [0, 1] * 1_025, land, demographic_parity=0.1)
    assert check.status == "passed"
    assert "XK (50)" in check.text
    alone = fair([0, 1] * 50, [0, 1] * 50, ["DE"] * 50 + ["FR"] * 50, demographic_parity=0.1)
    assert alone.status == "too_small"
    assert not alone.closes


def test_a_gap_of_few_rows_is_not_told() -> None:
    land = ["DE"] * 120 + ["FR"] * 120
    check = fair([1, 1, 0] * 40 + [1, 0] * 60, [0, 1] * 120, land, demographic_parity=0.1)
    assert check.status == "inconclusive"


# --- rows ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "changes", "reason"),
    [
        ({"target": "sold"}, {}, "no column 'sold' for the target"),
        ({"slices": ["town"]}, {}, "no column 'town' for the slice"),
        ({"slices": ["age"]}, {}, "more than 50 values"),
        ({"slices": [{"column": "land", "edges": [1]}]}, {}, "has edges and no numbers"),
        ({"metrics": [{"name": "accuracy", "limit": 1, "weight": "land"}]}, {}, "holds no numbers"),
        ({"metrics": [{"name": "accuracy", "limit": 1, "weight": "value"}]}, {"value": -1.0}, "below 0"),
        ({}, {"bought": 2}, "Row 0 of target 'bought' is 2, which is none of the classes"),
    ],
)
def test_data_that_do_not_fit_are_refused(more: dict[str, Any], changes: dict[str, Any], reason: str) -> None:
    data = columns(100)
    for name, value in changes.items():
        data[name][0] = value
    with pytest.raises(InvalidGate, match=reason):
        rows(gate(**more), data)


def test_an_empty_table_is_refused() -> None:
    with pytest.raises(InvalidReference):
        rows(gate(), {"age": [], "land": [], "bought": []})


def test_slices_that_the_contract_declares_are_looked_at_by_themselves() -> None:
    declared = Contract(
        inputs=(BOUGHT.inputs[0], Field(name="land", type="string", slice=True)), output=OUTPUT
    )
    held = rows(gate(), columns(), declared)
    assert held.slices == ("land",)
    assert next(iter(held.parts["land"])) == "DE"


def test_missing_values_and_edges_have_parts_of_their_own() -> None:
    spec = gate(slices=["land", {"column": "age", "edges": [30, 50]}])
    held = rows(
        spec,
        {"age": [29.9, 30.0, None, 50.0], "land": ["a<b>", None, "ü", ""], "bought": ["0", "1", "1", "0"]},
    )
    assert {name: part.tolist().index(True) for name, part in held.parts["age"].items()} == {
        "below 30": 0, "30 to below 50": 1, "from 50": 3, "(missing)": 2
    }  # fmt: skip
    assert set(held.parts["land"]) == {"a<b>", "(missing)", "ü", "(empty)"}
    assert held.truth == [0, 1, 1, 0]


def test_what_is_null_is_sent_as_null_only_where_that_is_allowed() -> None:
    nullable = Contract(
        inputs=(Field(name="age", type="float", nullable=True), Field(name="land", type="string")),
        output=OUTPUT,
    )
    held = rows(gate(), {"age": [None, 1.0], "land": [None, "DE"], "bought": [1, 0], "x": [3, 3]}, nullable)
    assert held.features(nullable) == [{"age": None}, {"age": 1.0, "land": "DE"}]
