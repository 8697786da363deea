"""Behaviours that a team wrote down, and versions that show them or do not."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.contracts.contract import Contract, Field, Output
from fairlead.errors import InvalidGate
from fairlead.gate.behaviour import Case, cases_of, judged, rows_of
from fairlead.gate.spec import Test as Behaviour
from tests.gate.made import BOUGHT, answers

NUMBER = Contract(inputs=BOUGHT.inputs, output=Output(kind="number"))
ROWS = ({"age": 30.0, "land": "DE"}, {"age": 40.0, "land": "FR"})


def behaviour(**more: Any) -> Behaviour:
    base: dict[str, Any] = {"name": "t", "kind": "invariance", "rows": ROWS}
    return Behaviour(**{**base, **more})


def cases(test: Behaviour, contract: Contract = BOUGHT) -> list[Case]:
    return cases_of(test, contract, [], [], [])


def test_every_value_is_tried_on_every_row_that_does_not_have_it() -> None:
    found = cases(behaviour(change={"land": ["DE", "FR", "IT"]}))
    assert [case.changed and case.changed["land"] for case in found] == ["FR", "IT", "DE", "IT"]
    assert len(rows_of(found)) == 8


def test_several_fields_are_changed_together() -> None:
    found = cases(behaviour(change={"land": "IT"}, add={"age": 1}))
    assert found[0].changed == {"age": 31.0, "land": "IT"}


def test_a_change_that_changes_nothing_is_no_test() -> None:
    with pytest.raises(InvalidGate, match="changes no row"):
        cases(behaviour(rows=ROWS[:1], change={"land": "DE"}))


def test_a_sample_is_taken_from_all_over_the_data() -> None:
    held = [{"age": float(row), "land": "DE"} for row in range(100)]
    columns = [{**row, "town": "x" if row["age"] >= 50 else "y"} for row in held]
    truth = [0] * 100
    spread = cases_of(behaviour(rows=(), sample=4, change={"land": "IT"}), BOUGHT, held, columns, truth)
    assert [case.row["age"] for case in spread] == [0, 25, 50, 75]
    late = behaviour(rows=(), sample=2, where={"town": "x"}, change={"land": "IT"})
    assert [case.row["age"] for case in cases_of(late, BOUGHT, held, columns, truth)] == [50, 75]


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"change": {"lnd": 1}}, "names 'lnd', which the model does not take"),
        ({"rows": ({"agee": 1},), "change": {"land": "IT"}}, "names 'agee'"),
        ({"add": {"land": 1}}, "adds to 'land', which is 'DE'"),
        ({"rows": (), "sample": 1, "where": {"x": 1}, "change": {"land": "IT"}}, "no column of the data"),
        ({"rows": ROWS * 100, "change": {"age": list(range(200))}}, "20,000"),
        ({"kind": "exact", "expected": (0, 7)}, "is 7, which is no class"),
    ],
)
def test_tests_that_do_not_fit_the_model_are_refused(more: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidGate, match=reason):
        cases(behaviour(**more))


def test_a_prediction_that_stays_is_invariant_and_one_that_moves_is_shown() -> None:
    test = behaviour(change={"land": "IT"})
    found = cases(test)
    assert judged(test, BOUGHT, found, answers([1, 1, 0, 0])).status == "passed"
    moved = judged(test, BOUGHT, found, answers([1, 1, 0, 1]))
    assert moved.closes
    assert moved.examples == [
        {"row": {"age": 40.0, "land": "FR"}, "why": "0 became 1", "changed": {"land": "IT"}}
    ]


def test_numbers_may_move_within_the_tolerance_and_classes_never() -> None:
    test = behaviour(rows=ROWS[:1], change={"land": "IT"}, tolerance=1.0)
    assert judged(test, NUMBER, cases(test), answers([1.0, 1.9])).status == "passed"
    assert judged(test, NUMBER, cases(test), answers([1.0, 2.1])).status == "failed"
    assert judged(test, BOUGHT, cases(test), answers([0, 1])).status == "failed"


@pytest.mark.parametrize(
    ("expect", "obeys"),
    [("rises", [True, False, False]), ("not_falls", [True, True, False]),
     ("falls", [False, False, True]), ("not_rises", [False, True, True])],
)  # fmt: skip
def test_a_direction_is_that_of_the_number_or_of_the_probability(expect: str, obeys: list[bool]) -> None:
    test = behaviour(rows=ROWS[:1], kind="direction", add={"age": 1}, expect=expect)
    for after, right in zip((0.6, 0.5, 0.4), obeys, strict=True):
        for contract, given in (
            (NUMBER, answers([0.5, after])),
            (BOUGHT, answers([0, 0], [0.5, after])),
        ):
            assert (judged(test, contract, cases(test, contract), given).status == "passed") is right
    other = behaviour(rows=ROWS[:1], kind="direction", add={"age": 1}, expect="falls", of_class=0)
    assert judged(other, BOUGHT, cases(other), answers([0, 0], [0.5, 0.6])).status == "passed"


def test_a_direction_needs_something_that_moves() -> None:
    test = behaviour(rows=ROWS[:1], kind="direction", add={"age": 1}, expect="rises")
    silent = judged(test, BOUGHT, cases(test), answers([0, 0]))
    assert silent.examples[0]["why"] == "the version gives no probabilities"
    three = Contract(inputs=BOUGHT.inputs, output=Output(kind="class", classes=("a", "b", "c")))
    with pytest.raises(InvalidGate, match="of which class"):
        judged(test, three, cases(test, three), answers(["a", "a"]))


def test_an_exact_expectation_holds_for_every_row() -> None:
    test = behaviour(kind="exact", expected=(1, "0"))
    assert judged(test, BOUGHT, cases(test), answers([1, 0])).status == "passed"
    check = judged(test, BOUGHT, cases(test), answers([1, 1]))
    assert check.examples[0]["why"] == "answered 1, expected 0"


def test_a_minimum_is_a_share_of_the_rows() -> None:
    test = behaviour(kind="minimum", rows=ROWS * 5, expected=(1,) * 10, at_least=0.9)
    assert judged(test, BOUGHT, cases(test), answers([1] * 9 + [0])).status == "passed"
    assert judged(test, BOUGHT, cases(test), answers([1] * 8 + [0, 0])).status == "failed"


def test_some_cases_may_break_a_rule_if_the_team_says_so() -> None:
    test = behaviour(rows=ROWS * 5, change={"land": "IT"}, may_break=0.1)
    found = cases(test)
    given = [1, 1] * 9 + [1, 0]
    assert judged(test, BOUGHT, found, answers(given)).status == "passed"


def test_a_row_without_an_answer_breaks_every_rule_and_says_why() -> None:
    test = behaviour(rows=ROWS[:1], change={"land": "IT"})
    check = judged(test, BOUGHT, cases(test), answers([1, 1], errors={1: "runtime_failed"}))
    assert check.examples[0]["why"] == "no answer: runtime_failed"


def test_rankings_and_vectors_stay_when_all_their_parts_do() -> None:
    contract = Contract(inputs=BOUGHT.inputs, output=Output(kind="ranking", length=2))
    test = behaviour(rows=ROWS[:1], change={"land": "IT"}, tolerance=0.01)
    ranked = [{"id": "a", "score": 0.9}, {"id": "b", "score": 0.1}]
    near = [{"id": "a", "score": 0.905}, {"id": "b", "score": 0.1}]
    turned = list(reversed(ranked))
    found = cases(test, contract)
    assert judged(test, contract, found, answers([ranked, near])).status == "passed"
    assert judged(test, contract, found, answers([ranked, turned])).status == "failed"


def test_sensitive_values_stay_out_of_the_examples() -> None:
    contract = Contract(
        inputs=(
            Field(name="age", type="float"),
            Field(name="land", type="string", sensitivity="sensitive"),
        ),
        output=BOUGHT.output,
    )
    test = behaviour(rows=({"age": 1.0, "land": "secret"},), change={"land": "hidden"})
    check = judged(test, contract, cases(test, contract), answers([0, 1]))
    assert "secret" not in str(check)
    assert "hidden" not in str(check)
