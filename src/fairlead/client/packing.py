"""From what a person has (a fitted model, a file, a folder) to a version's files and how to call them.

All of this happens where the person is: nothing is sent before it is known to work.
"""

from __future__ import annotations

import pickle
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from fairlead.contracts.contract import Contract, Output
from fairlead.contracts.document import read_contract, to_json
from fairlead.contracts.infer import infer_contract, infer_output, split_target
from fairlead.contracts.profile import ReferenceProfile, profile
from fairlead.contracts.table import Table
from fairlead.errors import InvalidContract, InvalidModelFile, InvalidReference, MissingExtra, TrustRequired
from fairlead.runtimes.base import RuntimeSpec

__all__ = ["PICKLES", "Package", "packed", "unpickled"]

PICKLES = (".pkl", ".pickle", ".joblib")
"""Suffixes of files that hold a pickle."""

CONTRACT, PROOF, REFERENCE = "contract.json", "proof.json", "reference.json"
_OWN = (CONTRACT, PROOF, REFERENCE)
_ENTRY = "model.onnx"


class Package(msgspec.Struct, frozen=True, kw_only=True):
    """A version that is ready to be sent: its files by their path within the version, and what they are."""

    files: Mapping[str, Path]
    runtime: RuntimeSpec
    contract: Contract
    framework: str
    proof: dict[str, Any] | None = None
    profile: ReferenceProfile | None = None


@contextmanager
def packed(
    model: Any,
    *,
    reference: Any = None,
    target: Any = None,
    contract: Contract | Path | str | None = None,
    tolerance: float = 1e-5,
    trust_pickle: bool = False,
) -> Iterator[Package]:
    """The package of a model, for as long as the block lasts; what was written for it is then removed.

    See `register` for what `model` may be. Raises `MissingExtra`, `InvalidReference`, `InvalidContract`,
    `InvalidModelFile`, `ConversionRefused`, `TrustRequired`.
    """
    given = contract if contract is None or isinstance(contract, Contract) else read_contract(contract)
    with tempfile.TemporaryDirectory(prefix="fairlead-") as name:
        scratch = Path(name)
        yield _Packer(scratch, reference, target, given, tolerance, trust_pickle).pack(model)


def unpickled(file: Path) -> Any:
    """The object in a pickle. This runs the code that the pickle names, in this process."""
    try:
        import joblib  # type: ignore[import-untyped]

        load = joblib.load
    except ImportError:
        load = _load
    try:
        return load(file)
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"{file.name} needs the library {error.name!r}.", remedy=f"Run `pip install {error.name}`."
        ) from error
    except Exception as error:
        # A damaged pickle raises whatever it happens to run into.
        raise InvalidModelFile(
            f"{file.name} cannot be unpickled: {type(error).__name__}: {error}.",
            remedy="Save it again with the same libraries that are installed here.",
        ) from error


def _load(file: Path) -> Any:
    with file.open("rb") as stream:
        return pickle.load(stream)


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
    ) -> None:
        self._scratch = scratch
        self._reference = reference
        self._target = target
        self._contract = contract
        self._tolerance = tolerance
        self._trust_pickle = trust_pickle

    def pack(self, model: Any) -> Package:
        if isinstance(model, str | Path):
            return self._path(Path(model))
        if isinstance(model, bytes | bytearray | memoryview):
            return self._onnx_bytes(bytes(model))
        if hasattr(model, "SerializeToString") and hasattr(model, "graph"):
            return self._onnx_bytes(bytes(model.SerializeToString()))
        return self._pickled(model) if self._trust_pickle else self._converted(model)

    # --- files and folders ----------------------------------------------------------------------------------

    def _path(self, path: Path) -> Package:
        if path.is_dir():
            return self._folder(path)
        if not path.is_file():
            raise InvalidModelFile(f"There is no model at {str(path)!r}.", remedy="Check the path.")
        suffix = path.suffix.lower()
        if suffix == ".onnx":
            # A copy of the file alone: when it needs others beside it, that shows now.
            return self._onnx(Path(shutil.copy(path, self._scratch / _ENTRY)), {})
        if suffix in PICKLES:
            if self._trust_pickle:
                return self._python(path, {path.name: path})
            return self._converted(unpickled(path))
        raise InvalidModelFile(
            f"{path.name!r} is no model that Fairlead knows.",
            remedy=f"Register an .onnx file, a folder, or a scikit-learn model as {', '.join(PICKLES)}.",
        )

    def _folder(self, folder: Path) -> Package:
        from fairlead.registry.artifacts import manifest_of

        files = {file.path: folder / file.path for file in manifest_of(folder).files}
        if self._contract is None:
            for name in ("contract.toml", CONTRACT):
                if name in files:
                    self._contract = read_contract(files[name])
                    break
        others = {name: path for name, path in files.items() if name not in _OWN}
        models = [name for name in others if name.endswith(".onnx")]
        if models:
            entry = _ENTRY if _ENTRY in models else _only(folder, models, ".onnx")
            del others[entry]
            return self._onnx(folder / entry, others, entry)
        pickles = [name for name in others if name.endswith(PICKLES)]
        if pickles and self._trust_pickle:
            return self._python(folder / _only(folder, pickles, "pickle"), others)
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
        return self._onnx(path, {})

    def _onnx(self, path: Path, others: Mapping[str, Path], entry: str = _ENTRY) -> Package:
        from fairlead.runtimes.onnx import spec_from_onnx

        given = self._contract
        table, target = self._features()
        names = given.names if given is not None else table.names if table is not None else None
        runtime, draft = spec_from_onnx(path, entry, names, given.output if given is not None else None)
        if given is None and target is not None and draft.output.kind == "class":
            runtime, draft = spec_from_onnx(path, entry, names, target)
        if given is not None:
            draft = given
        elif table is not None:
            # Columns that the model does not take are no part of what callers must send.
            draft = infer_contract(table, output=draft.output, columns=draft.names)
        package = Package(files={**others, entry: path}, runtime=runtime, contract=draft, framework="onnx")
        return self._with_documents(package, table)

    def _features(self) -> tuple[Table | None, Output | None]:
        """The reference rows without the answers, and what the answers say about the output."""
        if self._reference is None:
            return None, None
        table, answers = split_target(self._reference, self._target, None)
        return table, None if answers is None else infer_output(answers)

    # --- scikit-learn ---------------------------------------------------------------------------------------

    def _converted(self, model: Any) -> Package:
        if self._reference is None:
            raise InvalidReference(
                "A conversion is proven on rows of the training data, and none were given.",
                remedy="Give reference=X_train; a thousand rows are plenty.",
            )
        from fairlead.runtimes.convert import convert

        done = convert(model, self._reference, target=self._target, tolerance=self._tolerance)
        path = self._scratch / _ENTRY
        path.write_bytes(done.onnx)
        held, contract = done.profile, done.contract
        if self._contract is not None:
            contract = _in_order_of(self._contract, done.contract, done.spec)
            held = msgspec.structs.replace(held, contract_id=contract.id)
        package = Package(
            files={_ENTRY: path},
            runtime=done.spec,
            contract=contract,
            framework="sklearn",
            proof=msgspec.to_builtins(done.proof),
            profile=held,
        )
        return self._with_documents(package, None)

    # --- Python ---------------------------------------------------------------------------------------------

    def _pickled(self, model: Any) -> Package:
        path = self._scratch / "model.pkl"
        try:
            path.write_bytes(pickle.dumps(model, protocol=5))
        except Exception as error:
            raise InvalidModelFile(
                f"The {type(model).__qualname__} cannot be pickled: {error}.",
                remedy="Register something that can: no open files, locks or lambdas inside.",
            ) from error
        return self._python(path, {path.name: path})

    def _python(self, path: Path, files: Mapping[str, Path]) -> Package:
        raise NotImplementedError

    # --- what goes along ------------------------------------------------------------------------------------

    def _with_documents(self, package: Package, table: Table | None) -> Package:
        """The package with contract, proof and profile as files of the version."""
        from fairlead.runtimes.binding import Binding

        contract = package.contract.verify()
        Binding(contract, package.runtime)
        held = package.profile
        if held is None and table is not None:
            held = self._profile(package, table)
        documents: dict[str, bytes] = {CONTRACT: to_json(contract).encode()}
        if package.proof is not None:
            documents[PROOF] = _indented(package.proof)
        if held is not None:
            documents[REFERENCE] = _indented(held)
        own = self._scratch / "documents"
        own.mkdir()
        for name, content in documents.items():
            (own / name).write_bytes(content)
        files = {**package.files, **{name: own / name for name in documents}}
        return msgspec.structs.replace(package, files=files, contract=contract, profile=held)

    def _profile(self, package: Package, table: Table) -> ReferenceProfile:
        """The profile of the reference rows with the model's own answers to them: it must be able to give
        some."""
        from fairlead.runtimes.binding import Binding
        from fairlead.runtimes.onnx import OnnxRuntime
        from fairlead.runtimes.proof import serve

        path = package.files[package.runtime.entry]
        folder = path.parents[package.runtime.entry.count("/")]
        runtime = OnnxRuntime(folder, package.runtime)
        try:
            served = serve(table, package.contract, runtime, Binding(package.contract, package.runtime))
        finally:
            runtime.close()
        values = [prediction.value for prediction in served]
        known = package.contract.output.kind == "class" and served[0].probabilities is not None
        table_of = [prediction.probabilities or [] for prediction in served] if known else None
        return profile(table, package.contract, predictions=values, probabilities=table_of)


def _in_order_of(given: Contract, inferred: Contract, runtime: RuntimeSpec) -> Contract:
    """The person's contract with its fields in the order of the model's columns."""
    unknown = sorted(set(given.names) ^ set(inferred.names))
    if unknown:
        raise InvalidContract(
            f"Contract and model name different features: {', '.join(unknown)}.",
            remedy=f"Name exactly what the model was trained on: {', '.join(inferred.names)}.",
        )
    if given.output.kind != inferred.output.kind or (
        given.output.classes and given.output.classes != inferred.output.classes
    ):
        raise InvalidContract(
            "Contract and model answer different things.",
            remedy=f"The model answers a {inferred.output.kind}: {list(inferred.output.classes) or 'any'}.",
        )
    output = (
        given.output
        if given.output.classes
        else msgspec.structs.replace(given.output, classes=inferred.output.classes)
    )
    return Contract(inputs=tuple(given.field(name) for name in inferred.names), output=output)


def _only(folder: Path, names: list[str], kind: str) -> str:
    if len(names) > 1:
        raise InvalidModelFile(
            f"Folder {folder.name!r} has several {kind} files: {', '.join(sorted(names))}.",
            remedy=f"Name the main one {_ENTRY}." if kind == ".onnx" else "Leave one.",
        )
    return names[0]


def _indented(document: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
