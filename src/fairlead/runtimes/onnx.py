"""ONNX models: loaded from a file, run in this process, one session per version."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime as ort

from fairlead.contracts.contract import Contract, Output
from fairlead.errors import InvalidModelFile, RuntimeFailed
from fairlead.runtimes.base import Array, DType, RuntimeSpec, Tensor, Tensors
from fairlead.runtimes.machine import cpu_name, held_bytes, return_freed_memory
from fairlead.runtimes.signature import spec_from_tensors

__all__ = ["OnnxRuntime", "inspect_onnx", "spec_from_onnx"]

_TYPES: dict[str, DType] = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
    "tensor(string)": "string",
}

_SILENT = 4
"""ONNX Runtime's log level `fatal`: what goes wrong is raised, not printed."""


class OnnxRuntime:
    """A loaded ONNX model (a `Runtime`).

    It computes in the calling thread unless `threads` is above 1: a gateway scales by processes, and ONNX
    Runtime's default of one pinned thread per core would make the gateways fight over the same cores.
    `memory_bytes` is what it allocated, and no less than the size of its file.
    `library_version` and `cpu` say what computed an answer, for the log. Raises `InvalidModelFile` when the
    file is no model, or not the one that the spec describes.
    """

    library_version: str = ort.__version__
    cpu: str = cpu_name()

    def __init__(self, folder: Path | str, spec: RuntimeSpec, threads: int = 1) -> None:
        path = Path(folder) / spec.entry
        before = held_bytes()
        self._session: Any = _open(path, threads)
        self._name = path.name
        self._wanted = list(spec.outputs.wanted())
        _verify_names(path, "input", [tensor.name for tensor in spec.inputs], self._session.get_inputs())
        _verify_names(path, "output", self._wanted, self._session.get_outputs())
        return_freed_memory()  # what only reading it took, often more than the model itself
        self.memory_bytes = max(held_bytes() - before, path.stat().st_size)

    def run(self, feed: Tensors) -> dict[str, Array]:
        """The wanted output tensors by name; `RuntimeFailed` with ONNX Runtime's reason."""
        if self._session is None:
            raise RuntimeFailed(f"Model {self._name!r} was unloaded.")
        try:
            answers = self._session.run(self._wanted, feed)
        except Exception as error:
            # ONNX Runtime's error classes share no base of their own.
            raise RuntimeFailed(f"Model {self._name!r} failed: {_reason(error)}") from error
        return dict(zip(self._wanted, answers, strict=True))

    def close(self) -> None:
        """Gives the session's memory back; a later run fails."""
        if self._session is not None:
            self._session = None
            return_freed_memory()


def inspect_onnx(path: Path | str) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The inputs and outputs of the model in that file; `InvalidModelFile` when Fairlead cannot serve it.

    Outputs of types that Fairlead does not know are left out.
    """
    session = _open(Path(path), threads=1)
    name = Path(path).name
    inputs, outputs = [], []
    for node in session.get_inputs():
        if node.type not in _TYPES:
            raise InvalidModelFile(
                f"Model file {name!r}: input {node.name!r} is a {node.type}.",
                remedy=f"Export it with one of {', '.join(_TYPES)}.",
            )
        inputs.append(_tensor(node))
    for node in session.get_outputs():
        if node.type.startswith("seq(map("):
            raise InvalidModelFile(
                f"Model file {name!r}: output {node.name!r} is a list of dictionaries (ZipMap).",
                remedy="Convert it again with the option zipmap=False, so that it answers a matrix.",
            )
        if node.type in _TYPES:
            outputs.append(_tensor(node))
    return tuple(inputs), tuple(outputs)


def spec_from_onnx(
    path: Path | str,
    entry: str,
    feature_names: Sequence[str] | None = None,
    output: Output | None = None,
) -> tuple[RuntimeSpec, Contract]:
    """How the model in that file is called, and a draft of its contract: see `spec_from_tensors`."""
    inputs, outputs = inspect_onnx(path)
    return spec_from_tensors(inputs, outputs, entry, feature_names, output)


def _open(path: Path, threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _SILENT
    if not path.is_file():
        raise InvalidModelFile(f"There is no model file {path.name!r}.", remedy="Register the version again.")
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        reason = _reason(error).replace(str(path), path.name)
        raise InvalidModelFile(
            f"Model file {path.name!r} cannot be loaded: {reason}",
            remedy="Export the model again; the file is damaged, or needs a newer ONNX Runtime.",
        ) from error


def _tensor(node: Any) -> Tensor:
    shape = tuple(size if isinstance(size, int) else -1 for size in node.shape)
    return Tensor(name=node.name, dtype=_TYPES[node.type], shape=shape)


def _verify_names(path: Path, part: str, wanted: Sequence[str], nodes: Sequence[Any]) -> None:
    held = [node.name for node in nodes]
    missing = [name for name in wanted if name not in held]
    if missing:
        raise InvalidModelFile(
            f"Model file {path.name!r} has no {part} {missing[0]!r}; it has {', '.join(held)}.",
            remedy="Register the version again with this file.",
        )


def _reason(error: Exception) -> str:
    """What ONNX Runtime said, in one short sentence without its codes."""
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", str(error))
    text = re.sub(r"^Load model from .*? failed: ?", "", " ".join(text.split()))
    text = re.sub(r"/\S*/onnxruntime/\S+ ", "", text)
    return (text if len(text) <= 200 else text[:199] + "…").rstrip(".") + "."
