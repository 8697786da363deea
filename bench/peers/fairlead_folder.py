"""A data folder with one model as two versions with sticky units.

Light models have both versions in traffic, each with half. The heavy one serves its first version alone, as
the other servers do: two models would not be compared with one.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from bench.peers.models import VERSIONS, Model
from tests.models import lay_plan, plan_of

from fairlead.contracts.contract import Contract, Field, Output
from fairlead.registry.artifacts import manifest_of
from fairlead.registry.versions import VersionSpec
from fairlead.routing.plan import Role
from fairlead.runtimes.base import OutputNames, RuntimeSpec, Tensor
from fairlead.serving.folder import DataFolder

__all__ = ["lay_folder"]


def lay_folder(root: Path, made: Path, model: Model) -> None:
    """Lays out what a gateway needs to serve the model's two versions."""
    folder = DataFolder(root).make()
    runtime, contract = _described(model)
    specs = []
    for version in VERSIONS:
        scratch = root / "scratch" / version
        scratch.mkdir(parents=True)
        shutil.copy(made / f"{model.name}-{version}.onnx", scratch / "model.onnx")
        manifest = manifest_of(scratch)
        scratch.rename(folder.versions / manifest.digest)
        spec = VersionSpec(
            model=model.name, version=version, manifest=manifest, runtime=runtime, contract=contract
        )
        specs.append(spec)
    half = 100 if model.name == "heavy" else 50
    arms: dict[str, tuple[str, Role, float]] = {
        "stable": ("v1", "stable", half),
        "canary": ("v2", "canary", 100 - half),
    }
    lay_plan(folder, plan_of(arms, model=model.name), *specs)


def _described(model: Model) -> tuple[RuntimeSpec, Contract]:
    match model.name:
        case "forest":
            fields = [Field(name=name, type="float", minimum=-1e6, maximum=1e6) for name in model.columns]
            tensor = Tensor(name=model.input, dtype="float32", shape=(-1, model.width))
            outputs = OutputNames(label="label", probabilities="probabilities")
            output = Output(kind="class", classes=(0, 1))
        case "recommender":
            fields = [Field(name="user_id", type="int", minimum=0, maximum=model.rows - 1)]
            tensor = Tensor(name=model.input, dtype="int64", shape=(-1,))
            outputs = OutputNames(ids="items", scores="scores")
            output = Output(kind="ranking", length=10)
        case _:
            fields = [Field(name=model.input, type="float", shape=(model.width,), minimum=-1e6, maximum=1e6)]
            tensor = Tensor(name=model.input, dtype="float32", shape=(-1, model.width))
            outputs = OutputNames(value="y")
            output = Output(kind="vector", length=16)
    runtime = RuntimeSpec(
        kind="onnx",
        entry="model.onnx",
        binding="columns" if model.name == "recommender" else "matrix",
        inputs=(tensor,),
        outputs=outputs,
    )
    return runtime, Contract(inputs=tuple(fields), output=output).verify()
