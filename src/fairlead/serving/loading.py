"""From files on disk to a warmed model: verify, load, answer one row. Blocking; runs in a thread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fairlead.contracts.contract import Contract, Field
from fairlead.engine.inline import InlineEngine
from fairlead.errors import TrustRequired
from fairlead.registry.artifacts import verify
from fairlead.registry.versions import VersionSpec
from fairlead.runtimes.base import Runtime
from fairlead.runtimes.binding import Binding, Row
from fairlead.runtimes.onnx import OnnxRuntime
from fairlead.serving.live import LoadedVersion

__all__ = ["load_version", "warm_row"]


def load_version(spec: VersionSpec, folder: Path, *, trust_pickle: bool) -> LoadedVersion:
    """The version, its files verified against the manifest. An inline model has been warmed; a worker's
    engine is returned unstarted, since it belongs to the event loop.

    Raises `DigestMismatch`, `InvalidModelFile`, `InvalidContract`, `RuntimeFailed`, `TrustRequired`.
    """
    verify(folder, spec.manifest)
    binding = Binding(spec.contract, spec.runtime)
    if spec.runtime.kind == "python":
        if not trust_pickle:
            raise TrustRequired(
                f"Version {spec.version!r} of {spec.model!r} is a pickle and this server runs none.",
                remedy="Set trust_pickle = true in the server's settings if you trust its author.",
            )
        from fairlead.engine.worker import WorkerEngine  # few versions need it, and it brings subprocesses

        worker = WorkerEngine(
            folder,
            spec.runtime,
            memory_limit_mb=spec.settings.memory_limit_mb,
            timeout=spec.settings.timeout_ms / 1000,
            feature_names=spec.contract.names,
        )
        return LoadedVersion(spec, worker, binding, "python")
    runtime = OnnxRuntime(folder, spec.runtime)
    loaded = LoadedVersion(spec, InlineEngine(runtime), binding, _label(runtime))
    _warm(runtime, binding, spec.contract)
    return loaded


def warm_row(contract: Contract) -> Row:
    """A row that the contract allows: defaults, first categories, middles of ranges, else zero."""
    return tuple(_plain_value(field) for field in contract.inputs)


def _warm(runtime: Runtime, binding: Binding, contract: Contract) -> None:
    feed = binding.encode([warm_row(contract)])
    binding.decode(runtime.run(feed), 1)


def _plain_value(field: Field) -> Any:
    if field.shape:
        return [_scalar(field)] * max(field.shape[0], 1)
    return _scalar(field)


def _scalar(field: Field) -> Any:
    if field.default is not None:
        return float(field.default) if field.type == "float" else field.default
    if field.categories:
        return field.categories[0]
    match field.type:
        case "string":
            return ""
        case "bool":
            return False
        case _:
            low, high = field.minimum, field.maximum
            if low is not None and high is not None:
                middle = low + (high - low) / 2
            else:
                middle = low if low is not None else high if high is not None else 0.0
            return float(middle) if field.type == "float" else int(middle)


def _label(runtime: OnnxRuntime) -> str:
    return f"onnxruntime {runtime.library_version} {runtime.cpu}"
