"""Behaviours that a team writes as rows and expectations: which rows to ask, and whether they obey. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from fairlead.contracts.check import for_the_record
from fairlead.contracts.contract import Contract
from fairlead.errors import InvalidGate
from fairlead.gate.answers import Answers, as_class, named
from fairlead.gate.report import Check, number
from fairlead.gate.spec import Test

__all__ = ["Case", "cases_of", "judged", "rows_of"]

_MOST_CASES = 20_000
_EXAMPLES = 5
_Row = Mapping[str, Any]


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to be seen: a row, the same row changed where the test changes it, and the answer that is
    expected where the test says one."""

    row: dict[str, Any]
    changed: dict[str, Any] | None = None
    expected: Any = None


def cases_of(
    test: Test, contract: Contract, held: Sequence[_Row], columns: Sequence[_Row], truth: Sequence[Any]
) -> list[Case]:
    """The cases of a test. `held` are the features of the held-out rows, `columns` all their columns, `truth`
    their targets. `InvalidGate` where the test names what the model does not take."""
    for name in (*test.change, *test.add, *(name for row in test.rows for name in row)):
        if name not in contract.names:
            raise InvalidGate(
                f"Test {test.name!r} names {name!r}, which the model does not take.",
                remedy=f"It takes {', '.join(contract.names[:20])}.",
            )
    if test.rows:
        expected = [_answer(test, contract, value) for value in test.expected] or [None] * len(test.rows)
        chosen = [(dict(row), one) for row, one in zip(test.rows, expected, strict=True)]
    else:
        chosen = [(dict(held[index]), truth[index]) for index in _sampled(test, columns, truth)]
    found = [
        Case(row=row, changed=changed, expected=expected)
        for row, expected in chosen
        for changed in _changed(test, row)
    ]
    if not found:
        raise InvalidGate(
            f"Test {test.name!r} changes no row: each has these values already.", remedy="Change others."
        )
    if len(found) > _MOST_CASES:
        raise InvalidGate(
            f"Test {test.name!r} has {len(found):,} cases.", remedy=f"Take at most {_MOST_CASES:,}."
        )
    return found


def rows_of(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """The rows to ask, in the order in which `judged` takes their answers."""
    return [row for case in cases for row in (case.row, case.changed) if row is not None]


def judged(test: Test, contract: Contract, cases: Sequence[Case], answers: Answers) -> Check:
    """What the answers to `rows_of(cases)` say of the test."""
    obeys = _rule(test, contract)
    broken: list[dict[str, Any]] = []
    right = 0
    place = 0
    for case in cases:
        width = 1 if case.changed is None else 2
        reason = _unanswered(answers, place, width) or obeys(case, answers, place)
        place += width
        if reason is None:
            right += 1
            continue
        shown = {"row": for_the_record(contract, case.row), "why": reason}
        if case.changed is not None:
            shown["changed"] = for_the_record(contract, _difference(case.row, case.changed))
        broken.append(shown)
    share = right / len(cases) if cases else 1.0
    least = test.at_least if test.at_least is not None else 1.0 - test.may_break
    # A share is compared with what a person wrote: 0.9 of 10 rows is 9, whatever floats make of 1 - 0.1.
    passed = share >= least - 1e-12
    what = {"invariance": "stay", "direction": "move so", "minimum": "are right", "exact": "are as expected"}
    text = f"{test.name}: {right:,} of {len(cases):,} cases {what[test.kind]}; {100 * least:.4g} % have to."
    return Check(
        group="test",
        name=test.name,
        status="passed" if passed else "failed",
        closes=not passed,
        text=text,
        numbers={"cases": len(cases), "obeyed": right, "share": share, "at_least": least},
        examples=broken[:_EXAMPLES],
    )


# --- which rows ---------------------------------------------------------------------------------------------


def _sampled(test: Test, columns: Sequence[_Row], truth: Sequence[Any]) -> list[int]:
    """Rows from all over the data: those that the test asks for, evenly spaced."""
    for name in test.where:
        if not columns or name not in columns[0]:
            raise InvalidGate(
                f"Test {test.name!r} chooses by {name!r}, which is no column of the data.",
                remedy=f"Columns: {', '.join(columns[0]) if columns else 'none'}.",
            )
    known = test.kind != "minimum"
    fitting = [
        index
        for index, row in enumerate(columns)
        if all(row[name] == value for name, value in test.where.items())
        and (known or truth[index] is not None)
    ]
    if not fitting:
        raise InvalidGate(f"No held-out row is as test {test.name!r} asks for.", remedy="See its where.")
    wanted = min(test.sample or 0, len(fitting))
    return [fitting[index * len(fitting) // wanted] for index in range(wanted)]


def _changed(test: Test, row: dict[str, Any]) -> list[dict[str, Any] | None]:
    if not test.change and not test.add:
        return [None]
    tried = [
        [(name, value) for value in (values if isinstance(values, list) else [values])]
        for name, values in test.change.items()
    ]
    added: dict[str, Any] = {}
    for name, more in test.add.items():
        value = row.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidGate(
                f"Test {test.name!r} adds to {name!r}, which is {value!r} in a row.",
                remedy="Add to fields that are numbers in every row of the test.",
            )
        summed = value + more
        added[name] = int(summed) if isinstance(value, int) and float(summed).is_integer() else summed
    variants = ({**row, **added, **dict(chosen)} for chosen in itertools.product(*tried))
    return [variant for variant in variants if variant != row]


def _difference(row: _Row, changed: _Row) -> dict[str, Any]:
    return {name: value for name, value in changed.items() if name not in row or row[name] != value}


# --- whether they obey --------------------------------------------------------------------------------------

_Rule = Callable[[Case, Answers, int], str | None]


def _rule(test: Test, contract: Contract) -> _Rule:
    """A function that says what is wrong with a case; None when nothing is."""
    if test.kind == "direction":
        return _direction(test, contract)

    tolerance = 0.0 if contract.output.kind == "class" else test.tolerance  # a class is itself or another

    def stays(case: Case, answers: Answers, place: int) -> str | None:
        before, after = answers.values[place], answers.values[place + 1]
        return None if _same(before, after, tolerance) else f"{_said(before)} became {_said(after)}"

    def is_expected(case: Case, answers: Answers, place: int) -> str | None:
        found = answers.values[place]
        if _same(found, case.expected, tolerance):
            return None
        return f"answered {_said(found)}, expected {_said(case.expected)}"

    return stays if test.kind == "invariance" else is_expected


def _direction(test: Test, contract: Contract) -> _Rule:
    kind, classes = contract.output.kind, contract.output.classes
    if kind not in ("class", "number"):
        raise InvalidGate(f"Test {test.name!r}: a {kind} neither rises nor falls.", remedy="Drop it.")
    name = ""
    if kind == "class":
        if test.of_class is None and len(classes) != 2:
            raise InvalidGate(
                f"Test {test.name!r}: the probability of which class?", remedy="Say of_class = …."
            )
        chosen = classes[1] if test.of_class is None else test.of_class
        name = named(contract.output, chosen, f"of_class of test {test.name!r}")

    def moves(case: Case, answers: Answers, place: int) -> str | None:
        before, after = (_level(answers, place + step, name) for step in (0, 1))
        if before is None or after is None:
            return "the version gives no probabilities"
        change = after - before
        obeys = {
            "rises": change > test.tolerance,
            "falls": -change > test.tolerance,
            "not_rises": change <= test.tolerance,
            "not_falls": -change <= test.tolerance,
        }
        if test.expect is not None and obeys[test.expect]:
            return None
        return f"{number(before)} became {number(after)}"

    return moves


def _level(answers: Answers, place: int, name: str) -> float | None:
    if not name:
        return float(answers.values[place])
    held = answers.probabilities[place]
    return None if held is None else held.get(name, 0.0)


def _unanswered(answers: Answers, place: int, width: int) -> str | None:
    for error in answers.errors[place : place + width]:
        if error is not None:
            return f"no answer: {error}"
    return None


def _answer(test: Test, contract: Contract, value: Any) -> Any:
    if contract.output.kind == "class" and contract.output.classes:
        return as_class(contract.output, value, f"An expected answer of test {test.name!r}")
    return value


def _same(one: Any, other: Any, tolerance: float) -> bool:
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other, itertools.repeat(tolerance)))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key], tolerance) for key in one)
    if _is_number(one) and _is_number(other):
        return one == other or (math.isfinite(one) and math.isfinite(other) and abs(one - other) <= tolerance)
    return type(one) is type(other) and bool(one == other)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _said(value: Any) -> str:
    if isinstance(value, float):
        return number(value, 6)
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
