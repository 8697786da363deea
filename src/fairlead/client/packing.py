"""From what a person has (a fitted model, a file, a folder) to a version's files and how to call them.

All of this happens where the person is: nothing is sent before it is known to work.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from fairlead.client.calibrating import known_rows, served_rows, uncertainty_of
from fairlead.client.documents import CONTRACT, DOCUMENTS, in_order_of, profile_of_onnx, write_documents
from fairlead.client.importances import importance_of_onnx
from fairlead.client.leadings import leading_of_onnx
from fairlead.client.pickles import PICKLES, pickled, unpickled
from fairlead.contracts.contract import Contract, Field
from fairlead.contracts.document import read_contract
from fairlead.contracts.infer import infer_contract, infer_output, split_target
from fairlead.contracts.profile import ReferenceProfile
from fairlead.contracts.sliced import reference_of
from fairlead.contracts.uncertainty import Uncertainty
from fairlead.errors import InvalidModelFile, InvalidReference, MissingExtra, TrustRequired
from fairlead.runtimes.base import RuntimeSpec

__all__ = ["Lent", "Package", "packed"]

_T = TypeVar("_T")

Lent = Callable[[Contract], ReferenceProfile | None]
"""Answers the reference whose bins hold for a contract, None where none does."""

_ENTRY = "model.onnx"


class Package(msgspec.Struct, frozen=True, kw_only=True):
    """A version that is ready to be sent: its files by their path within the version, and what they are."""

    files: Mapping[str, Path]
    runtime: RuntimeSpec
    contract: Contract
    framework: str
    proof: dict[str, Any] | None = None
    profile: ReferenceProfile | None = None
    uncertainty: Uncertainty | None = None
    scores: tuple[float, ...] = ()


@contextmanager
def packed(
    model: Any,
    *,
    reference: Any = None,
    target: Any = None,
    calibration: Any = None,
    contract: Contract | Path | str | None = None,
    tolerance: float = 1e-5,
    trust_pickle: bool = False,
    lent: Lent = lambda contract: None,
) -> Iterator[Package]:
    """The package of a model, for as long as the block lasts; what was written for it is then removed.

    See `register` for what `model` may be. `lent` answers the reference whose bins hold for a contract.
    Raises `MissingExtra`, `InvalidReference`, `InvalidContract`, `InvalidModelFile`, `ConversionRefused`,
    `TrustRequired`.
    """
    given = contract if contract is None or isinstance(contract, Contract) else read_contract(contract)
    with tempfile.TemporaryDirectory(prefix="fairlead-") as name:
        packer = _Packer(Path(name), reference, target, given, tolerance, trust_pickle, lent)
        package = packer.finished(packer.pack(model))
        uncertainty, scores = _uncertainty(package, reference, target, calibration)
        yield msgspec.structs.replace(package, uncertainty=uncertainty, scores=scores)


class _Packer:
    """One packing: where to write, and all that the person said beside the model."""

    def __init__(
        self,
        scratch: Path,
        reference: Any,
        target: Any,
        contract: Contract | None,
        tolerance: float,
        trust_pickle: bool,
        lent: Lent,
    ) -> None:
        self._scratch = scratch
        self._reference = reference
        self._target = target
        self._contract = contract
        self._tolerance = tolerance
        self._trust_pickle = trust_pickle
        self._lent = lent

    def pack(self, model: Any) -> Package:
        """The package without its documents."""
        if isinstance(model, str | Path):
            return self._path(Path(model))
        if isinstance(model, bytes | bytearray | memoryview):
            return self._onnx_bytes(bytes(model))
        if hasattr(model, "SerializeToString") and hasattr(model, "graph"):
            return self._onnx_bytes(bytes(model.SerializeToString()))
        if self._trust_pickle:
            path = self._scratch / "model.pkl"
            pickled(model, path)
            return self._python({path.name: path}, path.name, model)
        return self._converted(model)

    def finished(self, package: Package) -> Package:
        """The package with contract, proof and profile among its files, once contract and model fit."""
        from fairlead.runtimes.binding import Binding

        Binding(package.contract.verify(), package.runtime)
        documents = write_documents(
            self._scratch / "documents",
            package.contract,
            package.proof,
            package.profile,
            self._found(package, importance_of_onnx),
            self._found(package, leading_of_onnx),
        )
        return msgspec.structs.replace(package, files={**package.files, **documents})

    def _found(self, package: Package, find: Callable[..., _T | None]) -> _T | None:
        """What is found of an ONNX model by asking it the rows of the reference."""
        entry = package.runtime.entry
        if package.profile is None or package.runtime.kind != "onnx":
            return None
        folder = package.files[entry].parents[entry.count("/")]
        return find(folder, package.runtime, package.contract, package.profile, self._reference, self._target)

    # --- files and folders ----------------------------------------------------------------------------------

    def _path(self, path: Path) -> Package:
        if path.is_dir():
            return self._folder(path)
        if not path.is_file():
            raise InvalidModelFile(f"There is no model at {str(path)!r}.", remedy="Check the path.")
        suffix = path.suffix.lower()
        if suffix == ".onnx":
            # A copy of the file alone: when it needs others beside it, that shows now.
            return self._onnx({path.name: Path(shutil.copy(path, self._scratch))}, path.name)
        if suffix in PICKLES:
            if self._trust_pickle:
                return self._python({path.name: path}, path.name)
            return self._converted(unpickled(path))
        raise InvalidModelFile(
            f"{path.name!r} is no model that Fairlead knows.",
            remedy=f"Register an .onnx file, a folder, or a scikit-learn model as {', '.join(PICKLES)}.",
        )

    def _folder(self, folder: Path) -> Package:
        from fairlead.registry.artifacts import manifest_of

        files = {file.path: folder / file.path for file in manifest_of(folder).files}
        own = next((files[name] for name in ("contract.toml", CONTRACT) if name in files), None)
        if self._contract is None and own is not None:
            self._contract = read_contract(own)
        for name in DOCUMENTS:
            files.pop(name, None)  # they are made anew
        models = [name for name in files if name.endswith(".onnx")]
        pickles = [name for name in files if name.endswith(PICKLES)]
        if models:
            return self._onnx(files, _ENTRY if _ENTRY in models else _only(folder, models))
        if pickles and self._trust_pickle:
            return self._python(files, _only(folder, pickles))
        if pickles:
            raise TrustRequired(
                f"The model in folder {folder.name!r} is a pickle.",
                remedy="Register the pickle alone to have it converted, or the folder with trust_pickle.",
            )
        raise InvalidModelFile(
            f"Folder {folder.name!r} has no model.", remedy=f"Put an .onnx file there, {_ENTRY} by default."
        )

    # --- ONNX -----------------------------------------------------------------------------------------------

    def _onnx_bytes(self, data: bytes) -> Package:
        path = self._scratch / _ENTRY
        path.write_bytes(data)
        return self._onnx({_ENTRY: path}, _ENTRY)

    def _onnx(self, files: Mapping[str, Path], entry: str) -> Package:
        from fairlead.runtimes.onnx import spec_from_onnx

        path, given = files[entry], self._contract
        table, answers = None, None
        if self._reference is not None:
            table, answers = split_target(self._reference, self._target, None)
        if given is not None and table is not None:
            table.select(given.names)  # what is not there is named
            ordered = [name for name in table.names if name in given.names]
            given = Contract(inputs=tuple(map(given.field, ordered)), output=given.output)
        names = given.names if given is not None else table.names if table is not None else None
        runtime, contract = spec_from_onnx(path, entry, names, given.output if given is not None else None)
        if given is not None:
            contract = given
        elif table is not None:
            if answers is not None and contract.output.kind == "class":
                runtime, contract = spec_from_onnx(path, entry, names, infer_output(answers))
            # Columns that the model does not take are no part of what callers must send.
            contract = infer_contract(table, output=contract.output, columns=contract.names)
        held = None
        if table is not None:
            folder = path.parents[entry.count("/")]
            held = profile_of_onnx(
                folder, runtime, contract, table.select(contract.names), self._lent(contract)
            )
        return Package(files=files, runtime=runtime, contract=contract, framework="onnx", profile=held)

    # --- scikit-learn ---------------------------------------------------------------------------------------

    def _converted(self, model: Any) -> Package:
        if self._reference is None:
            raise InvalidReference(
                "A conversion is proven on rows of the training data, and none were given.",
                remedy="Give a reference, such as the table that the model was fitted on.",
            )
        from fairlead.runtimes.convert import convert

        done = convert(
            model,
            self._reference,
            target=self._target,
            tolerance=self._tolerance,
            lent=self._lent_for,
            cut_by=self._cut_by,
        )
        path = self._scratch / _ENTRY
        path.write_bytes(done.onnx)
        contract = self._final(done.contract)
        return Package(
            files={_ENTRY: path},
            runtime=done.spec,
            contract=contract,
            framework="sklearn",
            proof=msgspec.to_builtins(done.proof),
            profile=msgspec.structs.replace(done.profile, contract_id=contract.id),
        )

    # --- Python ---------------------------------------------------------------------------------------------

    def _python(self, files: Mapping[str, Path], entry: str, model: Any = None) -> Package:
        """A pickle as it is. What it answers is asked of the object itself, where it can be opened here."""
        from fairlead.runtimes.python import python_spec

        if model is None:
            model = self._opened(files[entry])
        contract, held = self._contract, None
        if self._reference is not None:
            inferred, held = self._observed(model)
            contract = self._final(inferred)
            held = msgspec.structs.replace(held, contract_id=contract.id)
        if contract is None:
            raise InvalidReference(
                "Nothing says what the pickled model takes and answers.",
                remedy="Give a contract, or a reference with its target.",
            )
        knows = not hasattr(model, "predict") or hasattr(model, "predict_proba")
        return Package(
            files=files,
            runtime=python_spec(contract, entry, probabilities=knows),
            contract=contract,
            framework="python",
            profile=held,
        )

    def _opened(self, path: Path) -> Any:
        try:
            return unpickled(path)
        except MissingExtra:
            return None  # the server may have what is missing here

    def _observed(self, model: Any) -> tuple[Contract, ReferenceProfile]:
        """Contract and profile of the reference rows, with the object's own answers if it gives any."""
        from fairlead.runtimes.original import original_answers, reference_rows

        if not (hasattr(model, "predict") and hasattr(model, "get_params")):
            contract = infer_contract(self._reference, target=self._target)
            table, _ = split_target(self._reference, self._target, None)
            held = reference_of(table, contract, like=self._lent_for(contract), cut_by=self._cut_by)
            return contract, held
        table, frame = reference_rows(model, self._reference, self._target)
        output, answers = original_answers(model, frame, None)
        contract = infer_contract(table, output=output)
        held = reference_of(
            table,
            contract,
            predictions=answers.values,
            probabilities=answers.probabilities,
            like=self._lent_for(contract),
            cut_by=self._cut_by,
        )
        return contract, held

    # --- the contract ---------------------------------------------------------------------------------------

    def _final(self, inferred: Contract) -> Contract:
        """The person's contract where there is one, else what the model showed."""
        return inferred if self._contract is None else in_order_of(self._contract, inferred)

    def _lent_for(self, inferred: Contract) -> ReferenceProfile | None:
        return self._lent(self._final(inferred))

    @property
    def _cut_by(self) -> tuple[Field, ...]:
        """The fields that may be slices: only a person says so."""
        return () if self._contract is None else self._contract.inputs


def _uncertainty(
    package: Package, reference: Any, target: Any, calibration: Any
) -> tuple[Uncertainty | None, tuple[float, ...]]:
    """How sure the answers are, by rows given for this, else by the reference: what that cannot say is left
    out. And the scores of those rows."""
    if calibration is None and target is None:
        return None, ()
    rows, labels = (reference, target) if calibration is None else _labelled(calibration, target)
    try:
        if package.runtime.kind != "onnx":
            raise InvalidReference(
                "How sure a pickle's answers are cannot be told before it runs.",
                remedy="Leave calibration out, or register the model as ONNX.",
            )
        table, known = known_rows(rows, labels, package.contract)
        entry = package.runtime.entry
        folder = package.files[entry].parents[entry.count("/")]
        answers = served_rows(folder, package.runtime, package.contract, table)
        return uncertainty_of(package.contract, answers, known, optimistic=calibration is None)
    except InvalidReference:
        if calibration is not None:
            raise
        return None, ()


def _labelled(calibration: Any, target: Any) -> tuple[Any, Any]:
    """The rows and their labels. A table has them in the column that is the target of the reference, too."""
    if isinstance(calibration, tuple) and len(calibration) == 2:
        return calibration
    if isinstance(calibration, tuple) or not isinstance(target, str):
        raise InvalidReference(
            "The rows of the calibration have no labels.",
            remedy="Give calibration=(rows, labels), or a table and the name of its column as target.",
        )
    return calibration, target


def _only(folder: Path, names: list[str]) -> str:
    if len(names) > 1:
        raise InvalidModelFile(
            f"Folder {folder.name!r} has several models: {', '.join(sorted(names))}.",
            remedy=f"Call the main one {_ENTRY}, or leave one.",
        )
    return names[0]
