"""How a pickled object is called."""

from __future__ import annotations

import pytest

from fairlead.contracts.contract import Contract, Field, Output
from fairlead.errors import InvalidContract
from fairlead.runtimes.base import OutputNames
from fairlead.runtimes.binding import Binding
from fairlead.runtimes.python import python_spec

FIELDS = (
    Field(name="n", type="int"),
    Field(name="m", type="int", nullable=True, required=False),
    Field(name="x", type="float"),
    Field(name="b", type="bool"),
    Field(name="c", type="bool", nullable=True, required=False),
    Field(name="s", type="string", nullable=True, required=False),
    Field(name="v", type="float", shape=(3,)),
)


@pytest.mark.parametrize(
    ("output", "names"),
    [
        (Output(kind="class", classes=(0, 1)), OutputNames(label="label", probabilities="probabilities")),
        (Output(kind="class"), OutputNames(label="label")),
        (Output(kind="number"), OutputNames(value="value")),
        (Output(kind="vector"), OutputNames(value="value")),
        (Output(kind="ranking"), OutputNames(ids="ids", scores="scores")),
    ],
)
def test_every_feature_is_a_column_and_every_output_has_its_name(output: Output, names: OutputNames) -> None:
    contract = Contract(inputs=FIELDS, output=output)
    spec = python_spec(contract, "models/model.pkl")
    assert (spec.kind, spec.entry, spec.binding, spec.outputs) == (
        "python",
        "models/model.pkl",
        "columns",
        names,
    )
    assert {tensor.name: (tensor.dtype, tensor.shape) for tensor in spec.inputs} == {
        "n": ("int64", (-1,)),
        "m": ("float64", (-1,)),
        "x": ("float64", (-1,)),
        "b": ("bool", (-1,)),
        "c": ("float64", (-1,)),
        "s": ("string", (-1,)),
        "v": ("float64", (-1, 3)),
    }
    Binding(contract, spec)


def test_a_classifier_that_knows_no_probabilities_can_say_so() -> None:
    contract = Contract(inputs=FIELDS, output=Output(kind="class", classes=(0, 1)))
    assert python_spec(contract, "m.pkl", probabilities=False).outputs == OutputNames(label="label")


def test_a_list_that_may_be_null_is_refused() -> None:
    field = Field(name="v", type="float", shape=(3,), nullable=True)
    with pytest.raises(InvalidContract, match="'v' is a list that may be null"):
        python_spec(Contract(inputs=(field,), output=Output(kind="number")), "m.pkl")
