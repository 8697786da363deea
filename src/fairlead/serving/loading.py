"""From files on disk to a warmed model: verify, load, answer one row. Blocking; runs in a thread."""

from __future__ import annotations

from pathlib import Path

from fairlead.contracts.contract import Contract
from fairlead.engine.inline import InlineEngine
from fairlead.errors import TrustRequired
from fairlead.registry.artifacts import verify
from fairlead.registry.versions import VersionSpec
from fairlead.runtimes.base import Runtime
from fairlead.runtimes.binding import Binding
from fairlead.runtimes.onnx import OnnxRuntime
from fairlead.runtimes.warmup import warm_row
from fairlead.serving.live import LoadedVersion

__all__ = ["load_version"]


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


def _warm(runtime: Runtime, binding: Binding, contract: Contract) -> None:
    feed = binding.encode([warm_row(contract)])
    binding.decode(runtime.run(feed), 1)


def _label(runtime: OnnxRuntime) -> str:
    return f"onnxruntime {runtime.library_version} {runtime.cpu}"
