"""Trying a model out before it is registered, in a process of its own: what crashes there harms nobody.

`python -m fairlead.runtimes.probe FOLDER` prints as JSON what it found. Spec and contract come on standard
input; without them it takes the only .onnx file of the folder as it is.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from fairlead.contracts.contract import Contract
from fairlead.errors import FairleadError, InvalidModelFile
from fairlead.runtimes.base import RuntimeSpec, Tensor
from fairlead.runtimes.isolation import bind_to_parent, scrubbed_environment

__all__ = ["Found", "probe"]

_RUNS = 20
_REFUSED = 3


class _Task(msgspec.Struct):
    """What the other process is asked to do, and for whom."""

    spec: RuntimeSpec
    contract: Contract
    parent: int


class _Refusal(msgspec.Struct):
    message: str
    remedy: str


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What the model takes and answers, and what it needed: seconds to load it and run it once, bytes of
    memory, microseconds for a row (median of 20)."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    load_seconds: float
    memory_bytes: int
    run_microseconds: float
    library: str


def probe(folder: Path | str, spec: RuntimeSpec, contract: Contract, timeout: float = 60.0) -> dict[str, Any]:
    """Loads an ONNX version in another process, asks it one row, and says what that took: `Found` as a dict.

    Raises `InvalidModelFile` when it cannot be loaded, does not answer what the contract says, crashes the
    process, or takes longer than `timeout` seconds.
    """
    task = msgspec.json.encode(_Task(spec, contract, os.getpid()))
    try:
        done = subprocess.run(
            [sys.executable, "-m", "fairlead.runtimes.probe", str(folder)],
            input=task,
            capture_output=True,
            timeout=timeout,
            env=scrubbed_environment(os.environ),
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise InvalidModelFile(
            f"Model file {spec.entry!r} did not load and answer within {timeout:g} s.",
            remedy="Look whether the model loops, or is too large for this machine.",
        ) from error
    if done.returncode == 0:
        found: dict[str, Any] = msgspec.json.decode(done.stdout)
        return found
    if done.returncode == _REFUSED:
        refusal = msgspec.json.decode(done.stdout, type=_Refusal)
        raise InvalidModelFile(refusal.message, remedy=refusal.remedy)
    end = f"status {done.returncode}" if done.returncode > 0 else signal.Signals(-done.returncode).name
    raise InvalidModelFile(
        f"Model file {spec.entry!r} crashed the process that tried it ({end}).",
        remedy="Export the model again; the file is damaged, or needs another ONNX Runtime.",
    )


# --- the other process --------------------------------------------------------------------------------------


def _try(folder: Path, spec: RuntimeSpec, contract: Contract) -> Found:
    from fairlead.runtimes.binding import Binding
    from fairlead.runtimes.onnx import OnnxRuntime, inspect_onnx
    from fairlead.runtimes.warmup import warm_row

    started = time.perf_counter()
    runtime = OnnxRuntime(folder, spec)
    binding = Binding(contract, spec)
    feed = binding.encode([warm_row(contract)])
    binding.decode(runtime.run(feed), 1)
    load_seconds = time.perf_counter() - started
    times = []
    for _ in range(_RUNS):
        before = time.perf_counter()
        runtime.run(feed)
        times.append(time.perf_counter() - before)
    inputs, outputs = inspect_onnx(folder / spec.entry)
    return Found(
        inputs=inputs,
        outputs=outputs,
        load_seconds=round(load_seconds, 4),
        memory_bytes=runtime.memory_bytes,
        run_microseconds=round(statistics.median(times) * 1e6, 1),
        library=f"onnxruntime {runtime.library_version} {runtime.cpu}",
    )


def _draft(folder: Path) -> tuple[RuntimeSpec, Contract]:
    from fairlead.runtimes.onnx import spec_from_onnx

    files = sorted(folder.glob("*.onnx"))
    if len(files) != 1:
        raise InvalidModelFile(
            f"Folder {folder.name!r} has {len(files)} .onnx files.", remedy="Leave the one to try."
        )
    return spec_from_onnx(files[0], files[0].name)


def main(folder: Path) -> int:
    """Prints `Found` and returns 0, or the refusal and 3, as JSON."""
    given = b"" if sys.stdin.isatty() else sys.stdin.buffer.read()
    try:
        if given:
            task = msgspec.json.decode(given, type=_Task)
            bind_to_parent(task.parent)
            answer: Found | _Refusal = _try(folder, task.spec, task.contract)
        else:
            answer = _try(folder, *_draft(folder))
    except FairleadError as error:
        answer = _Refusal(error.message, error.remedy)
    sys.stdout.buffer.write(msgspec.json.encode(answer))
    return _REFUSED if isinstance(answer, _Refusal) else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
