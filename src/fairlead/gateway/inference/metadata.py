"""What a server and its models say of themselves in the Open Inference Protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fairlead import __version__
from fairlead.gateway.inference.datatypes import Array, datatype_of, datatype_of_name
from fairlead.gateway.inference.infer import version_arm
from fairlead.runtimes.warmup import warm_row
from fairlead.serving.live import LiveArm, LiveModel, LoadedVersion
from fairlead.serving.tables import run_version
from fairlead.telemetry.counters import read_counters

__all__ = ["Outputs", "model_config", "model_metadata", "server_metadata", "statistics"]

_EXTENSIONS = ("binary_tensor_data", "model_configuration", "statistics", "parameters")
_PLATFORMS = {"onnx": "onnxruntime_onnx", "python": "python"}
_BACKENDS = {"onnx": "onnxruntime", "python": "python"}
_CONFIG_TYPES = {"BYTES": "TYPE_STRING"}
_MOST_KEPT = 1_024


def server_metadata(*, repository: bool) -> dict[str, Any]:
    """Name, version, and the extensions that are there."""
    extensions = [*_EXTENSIONS, *(["model_repository"] if repository else [])]
    return {"name": "fairlead", "version": __version__, "extensions": extensions}


class Outputs:
    """The types and shapes of versions' outputs, learnt from the answer to one warm-up row."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, tuple[str, ...]], dict[str, Array]] = {}

    async def of(self, arm: LiveArm) -> dict[str, Array]:
        """The outputs of one row; raises what the model raises."""
        version = arm.version
        key = (version.digest, version.binding.wanted)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _MOST_KEPT:
                self._known.clear()
            found = self._known[key] = await _one_row(version)
        return found


async def _one_row(version: LoadedVersion) -> dict[str, Array]:
    feed = version.binding.encode([warm_row(version.spec.contract)])
    return await run_version(version, feed, 1, version.spec.settings.timeout_ms / 1000)


async def model_metadata(model: LiveModel, version: str, outputs: Outputs) -> dict[str, Any]:
    """A model's inputs and wanted outputs; -1 is an axis of any length, and the first is the row."""
    arm = version_arm(model, version)
    spec = arm.version.spec.runtime
    answered = await outputs.of(arm)
    return {
        "name": model.name,
        "versions": sorted(model.pins),
        "platform": _PLATFORMS[spec.kind],
        "inputs": [
            {"name": tensor.name, "datatype": datatype_of_name(tensor.dtype), "shape": list(tensor.shape)}
            for tensor in spec.inputs
        ],
        "outputs": [
            {"name": name, "datatype": datatype_of(array), "shape": [-1, *array.shape[1:]]}
            for name, array in answered.items()
        ],
    }


async def model_config(model: LiveModel, version: str, outputs: Outputs) -> dict[str, Any]:
    """The model's configuration as Triton's `ModelConfig`, as far as load generators ask for it."""
    metadata = await model_metadata(model, version, outputs)
    arm = version_arm(model, version)
    kind = arm.version.spec.runtime.kind
    return {
        "name": model.name,
        "platform": metadata["platform"],
        "backend": _BACKENDS[kind],
        "version_policy": {"specific": {"versions": []}},
        "max_batch_size": arm.version.spec.settings.max_batch_rows,
        "input": [_config_tensor(tensor) for tensor in metadata["inputs"]],
        "output": [_config_tensor(tensor) for tensor in metadata["outputs"]],
    }


def _config_tensor(tensor: dict[str, Any]) -> dict[str, Any]:
    datatype = tensor["datatype"]
    rest = tensor["shape"][1:]
    found = {
        "name": tensor["name"],
        "data_type": _CONFIG_TYPES.get(datatype, f"TYPE_{datatype}"),
        "dims": rest or [1],
    }
    # Dimensions may not be empty there: a tensor of rows alone is one number per row, reshaped.
    return found if rest else {**found, "reshape": {"shape": []}}


def statistics(counters: Path, models: list[LiveModel], version: str) -> list[dict[str, Any]]:
    """Counts and times of the models' live versions, summed over all gateway workers of this machine.

    What is not measured apart is zero: time in a queue, and conversions of inputs and outputs.
    """
    if version:
        for model in models:
            version_arm(model, version)
    sums: dict[tuple[str, str], dict[str, int]] = {}
    for arm in read_counters(counters):
        held = sums.setdefault((arm.key.model, arm.key.version), {})
        for name, value in arm.cells.items():
            held[name] = held.get(name, 0) + value
    return [
        _statistics(model.name, name, sums.get((model.name, name), {}))
        for model in models
        for name in sorted(model.pins)
        if not version or name == version
    ]


def _statistics(model: str, version: str, cells: dict[str, int]) -> dict[str, Any]:
    def duration(count: int, ns: int = 0) -> dict[str, int]:
        return {"count": count, "ns": ns}

    def of(name: str) -> int:
        return cells.get(name, 0)

    return {
        "name": model,
        "version": version,
        "last_inference": 0,
        "inference_count": of("ok"),
        "execution_count": of("runs"),
        "inference_stats": {
            "success": duration(of("ok"), of("latency_ns")),
            "fail": duration(of("rejected") + of("failed")),
            "queue": duration(of("ok")),
            "compute_input": duration(of("ok")),
            "compute_infer": duration(of("runs"), of("run_ns")),
            "compute_output": duration(of("ok")),
            "cache_hit": duration(of("cache_hits")),
            "cache_miss": duration(of("cache_misses")),
        },
        "batch_stats": [],
    }
