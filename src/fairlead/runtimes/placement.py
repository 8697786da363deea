"""Where a version runs is measured, not configured: a light model inside each gateway, a heavy one in a model
worker that all gateways of the machine share.

A measurement is made once per machine and set of files, by the probe's process, and lies in
`run/measured/<digest>.json`: no gateway has to load a heavy model to learn that it is heavy. The agent puts
down what registration measured on the same kind of processor; what is missing the model host measures.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from fairlead.contracts.contract import Contract
from fairlead.runtimes.base import RuntimeSpec
from fairlead.runtimes.machine import cpu_name
from fairlead.runtimes.probe import probe

__all__ = [
    "HEAVY_BYTES",
    "HEAVY_MICROSECONDS",
    "MeasureTask",
    "Measured",
    "is_heavy",
    "measure",
    "measure_task",
    "note",
    "recall",
]

HEAVY_MICROSECONDS = 300.0
"""A row's run that takes longer belongs in a worker. The way there and back costs a row 100 to 200 µs (see
`bench/workers.py`); from here on joined rows win that back as soon as two callers ask at a time, and a run
inline would hold up every other model of the gateway."""

HEAVY_BYTES = 512 * 2**20
"""A model that takes more memory is loaded once per machine and not once per gateway, however quick it is."""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What one row cost on this kind of processor: microseconds of a run, bytes of the loaded model."""

    cpu: str
    run_microseconds: float
    memory_bytes: int


class MeasureTask(msgspec.Struct, frozen=True, kw_only=True):
    """What is needed to measure a version: its files lie in `folder`."""

    digest: str
    folder: str
    runtime: RuntimeSpec
    contract: Contract


def is_heavy(measured: Measured) -> bool:
    """Whether the version belongs in a model worker."""
    return measured.run_microseconds > HEAVY_MICROSECONDS or measured.memory_bytes > HEAVY_BYTES


def recall(folder: Path, digest: str) -> Measured | None:
    """What was measured of these files on this kind of processor; None when nothing was, or it is damaged."""
    try:
        found = msgspec.json.decode((folder / f"{digest}.json").read_bytes(), type=Measured)
    except (OSError, msgspec.MsgspecError):
        return None
    return found if found.cpu == cpu_name() else None


def note(folder: Path, digest: str, found: Mapping[str, Any]) -> Measured | None:
    """Keeps what a probe found, here or, on the same kind of processor, at registration; None when it was
    found elsewhere. `found` is a `Found` as a dict, whose `library` ends with the processor."""
    library, cpu = str(found.get("library", "")), cpu_name()
    try:
        measured = Measured(
            cpu=cpu, run_microseconds=found["run_microseconds"], memory_bytes=found["memory_bytes"]
        )
    except KeyError:
        return None
    if not library.endswith(f" {cpu}"):
        return None
    folder.mkdir(parents=True, exist_ok=True)
    # A name of its own, and then a rename: nobody reads half of it.
    temporary = folder / f".{digest}.{os.getpid()}.{secrets.token_hex(4)}"
    temporary.write_bytes(msgspec.json.encode(measured))
    os.replace(temporary, folder / f"{digest}.json")
    return measured


def measure(folder: Path, task: MeasureTask, timeout: float = 60.0) -> Measured:
    """What a row of that version costs: from the folder, else measured now in a process of its own.

    Raises `InvalidModelFile` when the model cannot be loaded there, crashes, or answers against its contract.
    """
    held = recall(folder, task.digest)
    if held is not None:
        return held
    found = probe(task.folder, task.runtime, task.contract, timeout)
    measured = note(folder, task.digest, found)
    assert measured is not None, "a probe on this machine ran on another processor"
    return measured


def measure_task(task: bytes, folder: Path) -> bytes:
    """`measure` for those who have its arguments and its result as JSON."""
    return msgspec.json.encode(measure(folder, msgspec.json.decode(task, type=MeasureTask)))
