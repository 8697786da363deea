"""From a model's tensors to the way it is called."""

from __future__ import annotations

import pytest

from fairlead.contracts.contract import Field, Output
from fairlead.errors import InvalidContract, InvalidModelFile
from fairlead.runtimes.base import OutputNames, Tensor
from fairlead.runtimes.binding import Binding
from fairlead.runtimes.signature import spec_from_tensors


def t(name: str, dtype: str = "float32", *shape: int) -> Tensor:
    return Tensor(name=name, dtype=dtype, shape=(-1, *shape))  # type: ignore[arg-type]


X = t("X", "float64", 3)
SUM = t("variable", "float32", 1)
LABEL = t("label", "int64")
TEXT_LABEL = t("output_label", "string")
TWO = t("probabilities", "float32", 2)


def test_a_single_matrix_takes_its_feature_names_from_the_reference_in_column_order() -> None:
    spec, contract = spec_from_tensors([X], [SUM], "m.onnx", ["b", "a", "größe"])
    assert (spec.kind, spec.entry, spec.binding, spec.inputs) == ("onnx", "m.onnx", "matrix", (X,))
    assert contract.names == ("b", "a", "größe")
    assert {field.type for field in contract.inputs} == {"float"}


def test_a_single_matrix_without_names_is_f0_and_so_on() -> None:
    assert spec_from_tensors([X], [SUM], "m.onnx")[1].names == ("f0", "f1", "f2")


def test_names_that_do_not_fit_the_width_are_refused() -> None:
    with pytest.raises(InvalidContract, match="takes 3 columns and the reference table has 2: a, b"):
        spec_from_tensors([X], [SUM], "m.onnx", ["a", "b"])


def test_a_matrix_of_any_width_is_named_by_the_reference_or_sent_as_one_list() -> None:
    free = t("X", "float32", -1)
    assert spec_from_tensors([free], [SUM], "m.onnx", ["a", "b"])[1].names == ("a", "b")
    assert spec_from_tensors([free], [SUM], "m.onnx")[1].inputs == (
        Field(name="X", type="float", shape=(-1,)),
    )


def test_several_inputs_are_one_feature_each() -> None:
    inputs = [t("age", "float32", 1), t("country", "string", 1), t("n", "int64"), t("vector", "float32", 4)]
    spec, contract = spec_from_tensors(inputs, [SUM], "m.onnx", ["n", "country", "vector", "age"])
    assert spec.binding == "columns"
    assert [(field.name, field.type, field.shape) for field in contract.inputs] == [
        ("age", "float", ()),
        ("country", "string", ()),
        ("n", "int", ()),
        ("vector", "float", (4,)),
    ]
    with pytest.raises(InvalidContract, match="'country'"):
        spec_from_tensors(inputs, [SUM], "m.onnx", ["age", "n", "vector"])


@pytest.mark.parametrize("user", [t("user", "int64"), t("user", "int64", 1), t("user", "string", 1)])
def test_a_single_column_is_one_feature_under_its_own_name(user: Tensor) -> None:
    spec, contract = spec_from_tensors([user], [t("items", "int64", 5), t("scores", "float32", 5)], "m.onnx")
    assert spec.binding == "columns"
    assert contract.names == ("user",)
    assert contract.output.kind == "ranking"


@pytest.mark.parametrize(
    ("outputs", "names", "output"),
    [
        (
            [LABEL, TWO],
            OutputNames(label="label", probabilities="probabilities"),
            Output(kind="class", classes=(0, 1)),
        ),
        (
            [t("output_label", "int64"), t("output_probability", "float32", 3)],
            OutputNames(label="output_label", probabilities="output_probability"),
            Output(kind="class", classes=(0, 1, 2)),
        ),
        ([TEXT_LABEL, TWO], OutputNames(label="output_label"), Output(kind="class")),
        ([LABEL], OutputNames(label="label"), Output(kind="class")),
        ([t("cluster", "int64", 1)], OutputNames(label="cluster"), Output(kind="class")),
        ([SUM], OutputNames(value="variable"), Output(kind="number")),
        ([t("y", "float64")], OutputNames(value="y"), Output(kind="number")),
        ([t("embedding", "float32", 8)], OutputNames(value="embedding"), Output(kind="vector", length=8)),
        ([t("embedding", "float32", -1)], OutputNames(value="embedding"), Output(kind="vector")),
        ([t("extra", "float32", 9), SUM], OutputNames(value="variable"), Output(kind="number")),
        (
            [t("scores", "float32", 5), t("ids", "string", 5)],
            OutputNames(ids="ids", scores="scores"),
            Output(kind="ranking"),
        ),
    ],
)
def test_the_outputs_say_what_is_predicted(outputs: list[Tensor], names: OutputNames, output: Output) -> None:
    spec, contract = spec_from_tensors([X], outputs, "m.onnx")
    assert spec.outputs == names
    assert contract.output == output
    Binding(contract, spec)


def test_what_the_person_says_about_the_output_wins() -> None:
    texts = Output(kind="class", classes=("no", "yes"))
    spec, contract = spec_from_tensors([X], [TEXT_LABEL, TWO], "m.onnx", output=texts)
    assert (spec.outputs.probabilities, contract.output) == ("probabilities", texts)
    spec, _ = spec_from_tensors([X], [t("dense_1", "float32", 2)], "m.onnx", output=texts)
    assert spec.outputs == OutputNames(probabilities="dense_1")
    bounded = Output(kind="number", minimum=0.0)
    assert spec_from_tensors([X], [SUM], "m.onnx", output=bounded)[1].output == bounded
    ranked = Output(kind="ranking", items=("a", "b"))
    spec, _ = spec_from_tensors(
        [X], [t("top", "int64", 2), t("points", "float32", 2)], "m.onnx", output=ranked
    )
    assert spec.outputs == OutputNames(ids="top", scores="points")


def test_outputs_that_contradict_the_person_are_refused() -> None:
    with pytest.raises(InvalidContract, match="answers 2 probabilities and the contract has 3 classes"):
        spec_from_tensors([X], [LABEL, TWO], "m.onnx", output=Output(kind="class", classes=(0, 1, 2)))
    with pytest.raises(InvalidModelFile, match=r"can be the value of a number: label int64\[-1\]"):
        spec_from_tensors([X], [LABEL], "m.onnx", output=Output(kind="number"))
    with pytest.raises(InvalidModelFile, match="No output of the model is a label"):
        spec_from_tensors([X], [SUM], "m.onnx", output=Output(kind="class"))
    with pytest.raises(InvalidModelFile, match="scores of a ranking"):
        spec_from_tensors([X], [LABEL], "m.onnx", output=Output(kind="ranking"))


@pytest.mark.parametrize(
    ("tensor", "says"),
    [
        (t("image", "float32", 3, 8, 8), r"shape \[-1, 3, 8, 8\]"),
        (Tensor(name="scalar", dtype="float32", shape=()), r"shape \[\]"),
        (Tensor(name="fixed", dtype="float32", shape=(1, 3)), "exactly 1 rows"),
        (t("flags", "bool", -1), "list of bool"),
    ],
)
def test_inputs_that_no_contract_can_describe_are_refused(tensor: Tensor, says: str) -> None:
    with pytest.raises(InvalidModelFile, match=says) as caught:
        spec_from_tensors([tensor], [SUM], "m.onnx")
    assert caught.value.remedy


def test_a_model_without_usable_outputs_is_refused() -> None:
    with pytest.raises(InvalidModelFile, match="none"):
        spec_from_tensors([X], [], "m.onnx")
