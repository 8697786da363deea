"""scikit-learn to ONNX, where the person has the model, and with a proof.

Nothing is converted on trust: the original answers every reference row as the person gave it, the converted
model answers the same rows on the path that will serve them, and where the answers differ it is refused.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from fairlead.contracts.contract import Contract, Field
from fairlead.contracts.infer import infer_contract
from fairlead.contracts.profile import ReferenceProfile
from fairlead.contracts.sliced import reference_of
from fairlead.contracts.table import Table
from fairlead.errors import ConversionRefused, FairleadError, MissingExtra
from fairlead.runtimes.base import OutputNames, RuntimeSpec
from fairlead.runtimes.binding import Binding, Prediction
from fairlead.runtimes.onnx import OnnxRuntime, inspect_onnx
from fairlead.runtimes.original import WORKER, original_answers, reference_rows, short_reason
from fairlead.runtimes.proof import Answers, Proof, compare, serve

if TYPE_CHECKING:
    from fairlead.runtimes.rewrite import Rounding

__all__ = ["Converted", "convert"]

ENTRY = "model.onnx"
OPSETS = {"": 19, "ai.onnx.ml": 3}


class Converted(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A converted model that has been proven, and all that is known of it."""

    onnx: bytes
    spec: RuntimeSpec
    contract: Contract
    proof: Proof
    profile: ReferenceProfile


def convert(
    model: Any,
    reference: Any,
    *,
    target: Any = None,
    tolerance: float = 1e-5,
    classes: Sequence[str | int | bool] | None = None,
    lent: Callable[[Contract], ReferenceProfile | None] = lambda contract: None,
    cut_by: Sequence[Field] = (),
) -> Converted:
    """The fitted scikit-learn estimator or pipeline as ONNX, with spec, contract, profile and proof.

    `reference` holds rows like those the model was fitted on: a pandas or Polars frame, a pyarrow table, a
    numpy matrix, a `Table`. `target` names the column that is the answer, if it is among them. `classes` are
    names to answer with instead of the model's own, in the order of its `classes_`. `lent`
    answers the reference on whose bins the profile shall lie. `cut_by` are fields of which some are marked as
    slices. The model is not changed.

    Raises `MissingExtra` without scikit-learn and skl2onnx, `InvalidReference` when the rows do not fit the
    model, and `ConversionRefused` when the model does not convert, or answers differently.
    """
    _require_extra()
    from fairlead.runtimes import rewrite

    model = rewrite.unwrapped(model)
    table, frame = reference_rows(model, reference, target)
    output, expected = original_answers(model, frame, classes)
    contract = infer_contract(table, output=output)
    failures: list[str] = []
    proofs: list[Proof] = []
    for rounding in rewrite.roundings(model):
        try:
            data = _to_onnx(model, table, rounding)
            spec, fitted, served = _served(data, contract, table, expected)
        except FairleadError as error:
            failures.append(error.message)
            continue
        proof = compare(expected, served, tolerance, rounding=rounding, versions=_versions())
        if proof.holds:
            held = _profile(table, fitted, served, lent(fitted), cut_by)
            return Converted(onnx=data, spec=spec, contract=fitted, proof=proof, profile=held)
        proofs.append(proof)
    if not proofs:
        reasons = "; ".join(dict.fromkeys(failures))
        raise ConversionRefused(
            f"The model ({_described(model)}) does not convert to ONNX: {reasons}",
            remedy=f"Replace that part of the model, or {WORKER}.",
        )
    raise _refused(min(proofs, key=lambda proof: (proof.share_off, proof.max_difference)))


# --- the converted model ------------------------------------------------------------------------------------


def _to_onnx(model: Any, table: Table, rounding: Rounding) -> bytes:
    """The model as ONNX: one matrix of doubles when all columns are numbers, else one tensor per column."""
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import DoubleTensorType, StringTensorType

    from fairlead.runtimes import graph, operators, rewrite

    is_number = [column.type != "string" for column in table.columns]
    arranged = rewrite.rearranged(model, rounding, is_number)
    if all(is_number):
        tensors = [("features", DoubleTensorType([None, len(table.columns)]))]
    else:
        kinds = [DoubleTensorType if number else StringTensorType for number in is_number]
        tensors = [(f"column_{index}", kind([None, 1])) for index, kind in enumerate(kinds)]
    estimator = rewrite.final_estimator(arranged)
    options: dict[int, dict[str, bool]] = {}
    if type(estimator) in operators.PARSERS:
        options = {id(estimator): {"nocl": False}}  # its default, stated so that no other option is added
    elif hasattr(model, "classes_"):
        options = {id(arranged): {"zipmap": False}}  # probabilities as a matrix
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            converted = convert_sklearn(
                arranged,
                name="model",  # else it is random, and with it the version's digest
                initial_types=tensors,
                options=options,
                target_opset=OPSETS,
                custom_parsers=operators.PARSERS,
                custom_conversion_functions=operators.CONVERTERS,
                custom_shape_calculators=operators.SHAPES,
            )
        except Exception as error:
            # skl2onnx raises whatever comes to hand, from NameError to NotImplementedError.
            raise ConversionRefused(short_reason(error)) from error
    graph.use_plain_locale(converted)
    if not all(is_number):
        graph.drop_unused_inputs(converted)
        graph.rename_inputs(converted, {f"column_{index}": name for index, name in enumerate(table.names)})
    # skl2onnx lists them in the order of a set, which differs per process; so would the digest.
    converted.opset_import.sort(key=lambda opset: opset.domain)
    return bytes(converted.SerializeToString())


def _served(
    data: bytes, contract: Contract, table: Table, expected: Answers
) -> tuple[RuntimeSpec, Contract, list[Prediction]]:
    """Spec and contract of the ONNX model, and its predictions for the rows on the path of a request."""
    with tempfile.TemporaryDirectory(prefix="fairlead-") as folder:
        path = Path(folder) / ENTRY
        path.write_bytes(data)
        inputs, outputs = inspect_onnx(path)
        matrix = all(column.type != "string" for column in table.columns)
        if not matrix:
            # Columns that the model drops are no part of what callers must send.
            held = {tensor.name for tensor in inputs}
            used = tuple(field for field in contract.inputs if field.name in held)
            contract = Contract(inputs=used, output=contract.output)
        names = [tensor.name for tensor in outputs]
        spec = RuntimeSpec(
            kind="onnx",
            entry=ENTRY,
            binding="matrix" if matrix else "columns",
            inputs=inputs,
            outputs=_bound(names, expected),
        )
        runtime = OnnxRuntime(folder, spec)
        try:
            return spec, contract, serve(table, contract, runtime, Binding(contract, spec))
        finally:
            runtime.close()


def _bound(names: list[str], expected: Answers) -> OutputNames:
    """skl2onnx answers the label first and the probabilities, or scores, second; or one value."""
    match expected.compared:
        case "values":
            return OutputNames(value=names[0])
        case "labels":
            return OutputNames(label=names[0])
        case "probabilities":
            # The model's own labels are not those that callers shall see: the best probability names them.
            return OutputNames(label=None if expected.renamed else names[0], probabilities=names[1])


def _profile(
    table: Table,
    contract: Contract,
    served: list[Prediction],
    like: ReferenceProfile | None,
    cut_by: Sequence[Field],
) -> ReferenceProfile:
    values = [prediction.value for prediction in served]
    knows = contract.output.kind == "class" and served[0].probabilities is not None
    table_of = np.array([prediction.probabilities for prediction in served]) if knows else None
    return reference_of(table, contract, predictions=values, probabilities=table_of, like=like, cut_by=cut_by)


# --- words --------------------------------------------------------------------------------------------------


def _require_extra() -> None:
    try:
        import skl2onnx  # noqa: F401
        import sklearn  # noqa: F401
    except ImportError as error:
        raise MissingExtra(
            f"Converting a scikit-learn model needs {error.name}.", remedy="pip install 'fairlead[sklearn]'"
        ) from error


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("scikit-learn", "skl2onnx", "onnxruntime")}


def _refused(proof: Proof) -> ConversionRefused:
    off = round(proof.share_off * proof.rows)
    differs = {
        "probabilities": f"by up to {proof.max_difference:.2g} in a probability",
        "values": f"by up to {proof.max_difference:.2g} of the value",
        "labels": "in the label",
    }[proof.compared]
    flips = f"; {proof.label_flips} labels flipped" if proof.compared != "values" else ""
    wider = f"Give tolerance={_rounded_up(proof.max_difference)} if that is good enough, or "
    return ConversionRefused(
        f"The converted model answers {off} of {proof.rows} reference rows ({proof.share_off:.2%}) "
        f"differently from the original, {differs}{flips}. Allowed is {proof.tolerance:g}.",
        remedy=(wider if proof.compared != "labels" else "") + WORKER + ".",
        proof=msgspec.to_builtins(proof),
    )


def _rounded_up(value: float) -> str:
    """Two digits, no less than the value."""
    text = f"{value:.1e}"
    return f"{float(text):g}" if float(text) >= value else f"{value * 1.05:.1e}"


def _described(model: Any) -> str:
    steps = getattr(model, "steps", None)
    return " → ".join(type(step).__name__ for _, step in steps) if steps else type(model).__name__
