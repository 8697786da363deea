"""What does not fit a document is told in the words of whoever wrote it."""

from __future__ import annotations

import msgspec
import pytest

from fairlead.contracts.keys import known_keys, misfit
from fairlead.errors import InvalidGate
from fairlead.gate.spec import GateSpec
from fairlead.rollouts.spec import RolloutSpec


def told(document: object, kind: type[msgspec.Struct]) -> tuple[str, str | None]:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(document, kind)
    return misfit(caught.value, kind, "The document")


def test_a_word_that_is_not_among_the_choices_is_refused_with_the_choices() -> None:
    assert told({"steps": [{"inconclusive": "wait"}]}, RolloutSpec) == (
        "steps[0].inconclusive is 'wait'.",
        "Use one of pause, rollback, advance.",
    )
    what, instead = told({"metrics": [{"name": "auc"}]}, GateSpec)
    assert what == "metrics[0].name is 'auc'."
    assert instead is not None
    assert "accuracy" in instead
    assert "rmse" in instead
    assert (
        told({"strategy": "rolling"}, RolloutSpec)[1] == "Use one of canary, shadow, blue-green, ab, direct."
    )


def test_a_value_of_another_type_is_named_in_plain_words() -> None:
    assert told({"steps": [{"weight": "5"}]}, RolloutSpec) == (
        "steps[0].weight: Expected a number, got a text.",
        None,
    )
    assert told([], RolloutSpec)[0] == "The document: Expected a table of keys and values, got a list."


def test_a_list_in_place_of_a_table_is_refused_with_its_place() -> None:
    with pytest.raises(InvalidGate, match=r"Metrics\[0\] is no table"):
        known_keys(["accuracy"], ("name",), "metrics[0]", InvalidGate)
