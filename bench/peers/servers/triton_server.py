"""The tritonserver binary of the nvidia-pytriton wheel with its Python back end (it has no other)."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path

from onnx_model import BATCH, BATCH_ROWS, FACTS, NAME, OUTPUTS, PORT, WIDTH

HERE = Path(__file__).resolve().parent
prepared = Path(os.environ["BENCH_PREPARED"])
packages = Path(sysconfig.get_path("purelib"))
triton = packages / "pytriton" / "tritonserver"
repository, backends = prepared / "repository", prepared / "backends"
TYPES = {"float32": "TYPE_FP32", "int64": "TYPE_INT64"}


def prepare() -> None:
    folder = repository / NAME
    (folder / "1").mkdir(parents=True)
    shutil.copy(HERE / "triton_model.py", folder / "1" / "model.py")
    shutil.copy(HERE / "onnx_model.py", folder / "1")
    (folder / "config.pbtxt").write_text(configuration())
    backend = backends / "python"
    shutil.copytree(triton / "backends" / "python", backend)
    stub = f"{sys.version_info.major}.{sys.version_info.minor}/triton_python_backend_stub"
    shutil.copy(triton / "python_backend_stubs" / stub, backend)


def configuration() -> str:
    def output(name: str, size: int) -> str:
        kind = "TYPE_INT64" if name == "items" else "TYPE_FP32"
        return f'{{ name: "{name}" data_type: {kind} dims: [{size}] }}'

    given = f'{{ name: "{FACTS["input"]}" data_type: {TYPES[FACTS["dtype"]]} dims: [{WIDTH}] }}'
    outputs = ", ".join(output(name, size) for name, size in zip(OUTPUTS, FACTS["sizes"], strict=True))
    batching = "dynamic_batching { max_queue_delay_microseconds: 0 }" if BATCH else ""
    return f"""name: "{NAME}"
backend: "python"
max_batch_size: {BATCH_ROWS}
input [ {given} ]
output [ {outputs} ]
instance_group [ {{ kind: KIND_CPU count: 1 }} ]
{batching}
"""


def start() -> None:
    libraries = [str(packages / "nvidia_pytriton.libs"), sysconfig.get_config_var("LIBDIR")]
    os.environ |= {
        "PYTHONPATH": str(packages),
        "LD_LIBRARY_PATH": ":".join([*libraries, os.environ.get("LD_LIBRARY_PATH", "")]),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    program = str(triton / "bin" / "tritonserver")
    command = [
        program, f"--model-repository={repository}", f"--backend-directory={backends}",
        "--http-address=127.0.0.1", f"--http-port={PORT}",
        f"--http-thread-count={os.environ['BENCH_HTTP_THREADS']}",
        "--allow-grpc=false", "--allow-metrics=false", "--log-info=false",
    ]  # fmt: skip
    os.execv(program, command)


if __name__ == "__main__":
    prepare() if "prepare" in sys.argv else start()
