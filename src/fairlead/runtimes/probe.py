"""Trying a model out before it is registered, in a process of its own: what crashes there harms nobody.

`python -m fairlead.runtimes.probe FOLDER` reads spec and contract from standard input and prints what it found.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from fairlead.contracts.contract import Contract
from fairlead.errors import FairleadError, InvalidModelFile
from fairlead.runtimes.base import RuntimeSpec

__all__ = ["Found", "probe"]

_RUNS = 20


class _Task(msgspec.Struct):
    spec: RuntimeSpec
    contract: Contract


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a version needed here: seconds to load, bytes of memory, microseconds for one row (median of 20)."""

    load_seconds: float
    memory_bytes: int
    run_microseconds: float
    library: str


def probe(folder: Path | str, spec: RuntimeSpec, contract: Contract, timeout: float = 60.0) -> dict[str, Any]:
    """Loads an ONNX version in another process, asks it one row, and says what that took.

    Raises `InvalidModelFile` when it cannot be loaded, does not answer what the contract says, crashes the
    process, or takes longer than `timeout` seconds.
    """
    task = msgspec.json.encode(_Task(spec, contract))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FAIRLEAD_")}
    command = [sys.executable, "-m", "fairlead.runtimes.probe", str(folder)]
    try:
        done = subprocess.run(
            command, input=task, capture_output=True, timeout=timeout, env=environment, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise InvalidModelFile(
            f"Model file {spec.entry!r} did not load and answer within {timeout:g} s.",
            remedy="Look whether the model loops, or is too large for this machine.",
        ) from error
    if done.returncode == 0:
        found: dict[str, Any] = msgspec.json.decode(done.stdout)
        return found
    if done.returncode == 1 and done.stdout:
        refusal = msgspec.json.decode(done.stdout)
        raise InvalidModelFile(refusal["message"], remedy=refusal["remedy"])
    raise InvalidModelFile(
        f"Model file {spec.entry!r} crashed the process that tried it (status {done.returncode}).",
        remedy="Export the model again; the file is damaged, or needs another ONNX Runtime.",
    )


def _try(folder: Path, task: _Task) -> Found:
    from fairlead.runtimes.binding import Binding
    from fairlead.runtimes.onnx import OnnxRuntime
    from fairlead.runtimes.warmup import warm_row

    started = time.perf_counter()
    runtime = OnnxRuntime(folder, task.spec)
    binding = Binding(task.contract, task.spec)
    feed = binding.encode([warm_row(task.contract)])
    binding.decode(runtime.run(feed), 1)
    load_seconds = time.perf_counter() - started
    times = []
    for _ in range(_RUNS):
        before = time.perf_counter()
        runtime.run(feed)
        times.append(time.perf_counter() - before)
    return Found(
        load_seconds=round(load_seconds, 4),
        memory_bytes=runtime.memory_bytes,
        run_microseconds=round(statistics.median(times) * 1e6, 1),
        library=f"onnxruntime {runtime.library_version} {runtime.cpu}",
    )


def main() -> int:
    """The other process: 0 with `Found`, 1 with a refusal, both as JSON on standard output."""
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=_Task)
    try:
        answer: Any = _try(Path(sys.argv[1]), task)
        status = 0
    except FairleadError as error:
        answer = {"message": error.message, "remedy": error.remedy}
        status = 1
    sys.stdout.buffer.write(msgspec.json.encode(answer))
    return status


if __name__ == "__main__":
    sys.exit(main())
