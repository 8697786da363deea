"""What a pickled Python object is to Fairlead. It is loaded in an isolated worker and nowhere else."""

from __future__ import annotations

from fairlead.contracts.contract import Contract, Field
from fairlead.errors import InvalidContract
from fairlead.runtimes.base import DType, OutputNames, RuntimeSpec, Tensor

__all__ = ["python_spec"]

_DTYPES: dict[str, DType] = {"float": "float64", "int": "int64", "bool": "bool", "string": "string"}


def python_spec(contract: Contract, entry: str, *, probabilities: bool = True) -> RuntimeSpec:
    """How the worker calls the object in the file `entry`, a path within the manifest.

    The object has `predict` (and `predict_proba` for a contract with classes, unless `probabilities` is
    False) and takes a frame with the names that it was fitted with, else a matrix of the features in contract
    order; or it is a callable that takes a dict of columns by feature name ([rows] or [rows, n]) and answers
    a dict with `label`, `probabilities`, `value`, or `ids` and `scores`, or the one array that is wanted.
    Null is NaN, and None in the text columns of a callable.

    Raises `InvalidContract` when a list may be null, which no array can hold.
    """
    match contract.output.kind:
        case "class":
            knows = probabilities and bool(contract.output.classes)
            outputs = OutputNames(label="label", probabilities="probabilities" if knows else None)
        case "ranking":
            outputs = OutputNames(ids="ids", scores="scores")
        case _:
            outputs = OutputNames(value="value")
    return RuntimeSpec(
        kind="python",
        entry=entry,
        binding="columns",
        inputs=tuple(_tensor(field) for field in contract.inputs),
        outputs=outputs,
    )


def _tensor(field: Field) -> Tensor:
    if field.shape and field.nullable:
        raise InvalidContract(
            f"Field {field.name!r} is a list that may be null.", remedy="Send an empty list, or impute."
        )
    # Integers and booleans have no null; floats have NaN.
    dtype = "float64" if field.nullable and field.type != "string" else _DTYPES[field.type]
    return Tensor(name=field.name, dtype=dtype, shape=(-1, *field.shape))
