"""What travels with a model: its contract, its proof, and the profile of its training data, as JSON files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from fairlead.client.calibrating import served_rows
from fairlead.contracts.contract import Contract
from fairlead.contracts.document import to_json
from fairlead.contracts.profile import REFERENCE_FILE, ReferenceProfile
from fairlead.contracts.sliced import reference_of
from fairlead.contracts.table import Table
from fairlead.errors import InvalidContract
from fairlead.explanations.importance import IMPORTANCE_FILE, Importance
from fairlead.runtimes.base import RuntimeSpec
from fairlead.runtimes.leading import LEADING_FILE, Leading

__all__ = ["CONTRACT", "DOCUMENTS", "in_order_of", "profile_of_onnx", "write_documents"]

CONTRACT, PROOF = "contract.json", "proof.json"
DOCUMENTS = (CONTRACT, PROOF, REFERENCE_FILE, IMPORTANCE_FILE, LEADING_FILE)


def write_documents(
    folder: Path,
    contract: Contract,
    proof: Mapping[str, Any] | None,
    held: ReferenceProfile | None,
    importance: Importance | None,
    leading: Leading | None,
) -> dict[str, Path]:
    """The files by their path within the version."""
    folder.mkdir()
    contents = {CONTRACT: to_json(contract).encode()}
    known = {PROOF: proof, REFERENCE_FILE: held, IMPORTANCE_FILE: importance, LEADING_FILE: leading}
    for name, document in known.items():
        if document is not None:
            contents[name] = msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in contents}


def profile_of_onnx(
    folder: Path,
    runtime: RuntimeSpec,
    contract: Contract,
    table: Table,
    like: ReferenceProfile | None = None,
) -> ReferenceProfile:
    """The profile of the reference rows, with the answers of the ONNX model in that folder, on the bins of
    `like`.

    It goes the way of a request, so it also shows that the model can answer these rows.
    """
    served = served_rows(folder, runtime, contract, table)
    probabilities: Sequence[Sequence[float]] | None = None
    if contract.output.kind == "class" and served[0].probabilities is not None:
        probabilities = [prediction.probabilities or [] for prediction in served]
    values = [prediction.value for prediction in served]
    return reference_of(table, contract, predictions=values, probabilities=probabilities, like=like)


def in_order_of(given: Contract, inferred: Contract) -> Contract:
    """The person's contract with its fields in the order of the model's columns, and the model's classes.

    `InvalidContract` when it names other features than the model takes, or another kind of answer.
    """
    differing = sorted(set(given.names) ^ set(inferred.names))
    if differing:
        raise InvalidContract(
            f"Contract and reference name different features: {', '.join(differing)}.",
            remedy=f"Name exactly what the model was trained on: {', '.join(inferred.names)}.",
        )
    classes = inferred.output.classes
    if given.output.kind != inferred.output.kind or (given.output.classes or classes) != classes:
        answers = f"one of {list(classes)}" if classes else f"a {inferred.output.kind}"
        raise InvalidContract(
            "The contract says that the model answers something else than it does.",
            remedy=f"The model answers {answers}.",
        )
    output = msgspec.structs.replace(given.output, classes=classes)
    return Contract(inputs=tuple(given.field(name) for name in inferred.names), output=output)
