"""From a model's tensors to how it is called, and to a first draft of its contract. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fairlead.contracts.contract import Contract, Field, FieldType, Kind, Output
from fairlead.errors import InvalidContract, InvalidModelFile
from fairlead.runtimes.base import DType, OutputNames, RuntimeSpec, Tensor

__all__ = ["spec_from_tensors"]

# The names that skl2onnx, onnxmltools and hand-made exports give to their outputs.
_LABELS = ("label", "output_label")
_PROBABILITIES = ("probabilities", "output_probability", "probability")
_VALUES = ("value", "variable", "prediction")
_IDS = ("ids", "items")
_SCORES = ("scores", "score")

_FIELD_TYPES: dict[DType, FieldType] = {
    "float32": "float",
    "float64": "float",
    "int32": "int",
    "int64": "int",
    "bool": "bool",
    "string": "string",
}


def spec_from_tensors(
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    entry: str,
    feature_names: Sequence[str] | None = None,
    output: Output | None = None,
) -> tuple[RuntimeSpec, Contract]:
    """The spec of the ONNX model with these tensors, and a draft of its contract.

    A single input of shape [rows, n] is a matrix: `feature_names`, the columns of the reference table, name
    its columns in order, else they are `f0`, `f1`, … Everything else takes one tensor per feature. `output`
    says what is predicted when the person knows; else it follows from the names and types of the outputs, and
    a model of integer labels is taken to know the classes 0, 1, …, k-1. Class names that cannot be known are
    left out, and so are probabilities then. Raises `InvalidModelFile` or `InvalidContract`.
    """
    _verify_rows(inputs, "input")
    names, answer = _outputs(outputs, output)
    matrix = (
        len(inputs) == 1 and len(inputs[0].shape) == 2 and (inputs[0].shape[1] != 1 or bool(feature_names))
    )
    fields = _matrix_fields(inputs[0], feature_names) if matrix else _column_fields(inputs, feature_names)
    spec = RuntimeSpec(
        kind="onnx",
        entry=entry,
        binding="matrix" if matrix else "columns",
        inputs=tuple(inputs),
        outputs=names,
    )
    return spec, Contract(inputs=fields, output=answer).verify()


# --- inputs -------------------------------------------------------------------------------------------------


def _verify_rows(tensors: Sequence[Tensor], part: str) -> None:
    for tensor in tensors:
        if not 1 <= len(tensor.shape) <= 2:
            raise InvalidModelFile(
                f"The model's {part} {tensor.name!r} has shape {list(tensor.shape)}.",
                remedy="Fairlead serves shapes [rows] and [rows, n]; wrap the model so that it takes these.",
            )
        if tensor.shape[0] != -1:
            raise InvalidModelFile(
                f"The model's {part} {tensor.name!r} is made for exactly {tensor.shape[0]} rows.",
                remedy="Export the model with a first axis of any size.",
            )


def _matrix_fields(tensor: Tensor, feature_names: Sequence[str] | None) -> tuple[Field, ...]:
    kind, width = _FIELD_TYPES[tensor.dtype], tensor.shape[1]
    if feature_names:
        if width not in (-1, len(feature_names)):
            raise InvalidContract(
                f"The model takes {width} columns and the reference table has {len(feature_names)}: "
                f"{', '.join(feature_names[:12])}{'…' if len(feature_names) > 12 else ''}.",
                remedy="Give exactly the columns that the model was trained on, in that order.",
            )
        return tuple(Field(name=name, type=kind) for name in feature_names)
    if width == -1:
        # Nothing says how many columns there are; callers send them as one list.
        return (Field(name=tensor.name, type=_number(tensor), shape=(-1,)),)
    return tuple(Field(name=f"f{index}", type=kind) for index in range(width))


def _column_fields(tensors: Sequence[Tensor], feature_names: Sequence[str] | None) -> tuple[Field, ...]:
    missing = [tensor.name for tensor in tensors if feature_names and tensor.name not in feature_names]
    if missing:
        raise InvalidContract(
            f"The model takes an input {missing[0]!r} and the reference table has no such column.",
            remedy=f"Name the columns as the model's inputs: {', '.join(tensor.name for tensor in tensors)}.",
        )
    fields = []
    for tensor in tensors:
        if len(tensor.shape) == 1 or tensor.shape[1] == 1:
            fields.append(Field(name=tensor.name, type=_FIELD_TYPES[tensor.dtype]))
        else:
            fields.append(Field(name=tensor.name, type=_number(tensor), shape=(tensor.shape[1],)))
    return tuple(fields)


def _number(tensor: Tensor) -> FieldType:
    kind = _FIELD_TYPES[tensor.dtype]
    if kind not in ("float", "int"):
        raise InvalidModelFile(
            f"The model's input {tensor.name!r} is a list of {tensor.dtype}.",
            remedy="Give the model one input per text or boolean.",
        )
    return kind


# --- outputs ------------------------------------------------------------------------------------------------


def _outputs(tensors: Sequence[Tensor], given: Output | None) -> tuple[OutputNames, Output]:
    held = [tensor for tensor in tensors if 1 <= len(tensor.shape) <= 2]
    match given.kind if given is not None else _kind(held):
        case "ranking":
            return _ranking(held, given or Output(kind="ranking"))
        case "class":
            return _classes(held, given or Output(kind="class"))
        case kind:
            value = _required(held, _VALUES, _is_float, kind)
            length = value.shape[1] if len(value.shape) == 2 and value.shape[1] > 0 else None
            draft = Output(kind=kind, length=length if kind == "vector" else None)
            return OutputNames(value=value.name), given or draft


def _kind(tensors: Sequence[Tensor]) -> Kind:
    if _find(tensors, _IDS) and _find(tensors, _SCORES, _is_float):
        return "ranking"
    if _find(tensors, _LABELS) or not any(_is_float(tensor) for tensor in tensors):
        return "class"
    value = _find(tensors, _VALUES, _is_float) or next(tensor for tensor in tensors if _is_float(tensor))
    return "vector" if len(value.shape) == 2 and value.shape[1] != 1 else "number"


def _classes(tensors: Sequence[Tensor], output: Output) -> tuple[OutputNames, Output]:
    label = _find(tensors, _LABELS) or next((tensor for tensor in tensors if _is_label(tensor)), None)
    table = _find(tensors, _PROBABILITIES, _is_float) or next(
        (tensor for tensor in tensors if _is_float(tensor) and len(tensor.shape) == 2), None
    )
    width = table.shape[1] if table is not None and len(table.shape) == 2 else -1
    if not output.classes and label is not None and label.dtype != "string" and width > 0:
        output = Output(kind="class", classes=tuple(range(width)))
    if output.classes and width not in (-1, len(output.classes)):
        raise InvalidContract(
            f"The model answers {width} probabilities and the contract has {len(output.classes)} classes.",
            remedy="Name every class that the model knows, in the model's order.",
        )
    if label is None and (table is None or not output.classes):
        raise InvalidModelFile(
            f"No output of the model is a label: {_described(tensors)}.",
            remedy="Give a contract whose output names the classes, or export the model with its labels.",
        )
    names = OutputNames(
        label=label.name if label is not None else None,
        probabilities=table.name if table is not None and output.classes else None,
    )
    return names, output


def _ranking(tensors: Sequence[Tensor], output: Output) -> tuple[OutputNames, Output]:
    ids = _required(tensors, _IDS, lambda tensor: not _is_float(tensor), "ranking")
    scores = _required(tensors, _SCORES, _is_float, "ranking")
    return OutputNames(ids=ids.name, scores=scores.name), output


def _find(
    tensors: Sequence[Tensor], names: tuple[str, ...], fits: Callable[[Tensor], bool] = lambda _: True
) -> Tensor | None:
    return next(
        (tensor for name in names for tensor in tensors if tensor.name == name and fits(tensor)), None
    )


def _required(
    tensors: Sequence[Tensor], names: tuple[str, ...], fits: Callable[[Tensor], bool], kind: Kind
) -> Tensor:
    """The output of one of these names, else the first that fits."""
    found = _find(tensors, names, fits) or next((tensor for tensor in tensors if fits(tensor)), None)
    if found is None:
        raise InvalidModelFile(
            f"No output of the model can be the {names[0]} of a {kind}: {_described(tensors)}.",
            remedy="Say in the contract what the model predicts, or export it with such an output.",
        )
    return found


def _is_float(tensor: Tensor) -> bool:
    return tensor.dtype in ("float32", "float64")


def _is_label(tensor: Tensor) -> bool:
    return not _is_float(tensor) and (len(tensor.shape) == 1 or tensor.shape[1] == 1)


def _described(tensors: Sequence[Tensor]) -> str:
    return ", ".join(f"{tensor.name} {tensor.dtype}{list(tensor.shape)}" for tensor in tensors) or "none"
