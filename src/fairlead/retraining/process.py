"""A trainer as a group of processes: started, watched, and ended with all that it has begun."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from fairlead.errors import DeadlineExceeded, RuntimeFailed
from fairlead.retraining.log import Log
from fairlead.retraining.policy import Trainer
from fairlead.runtimes.machine import resident_bytes

__all__ = ["group_bytes", "run_command"]

_LOOK_SECONDS = 0.1
_GRACE_SECONDS = 5.0
"""So long a trainer that is asked to stop has to do so."""
_PIECE = 8_192
_KEEPER = "fairlead.retraining.keeper"


def run_command(
    command: tuple[str, ...],
    trainer: Trainer,
    environment: Mapping[str, str],
    log: Log,
    wanted: Callable[[], bool],
) -> None:
    """Runs the command in the trainer's folder until it ends well.

    All its processes are gone when this returns or raises: `RuntimeFailed` when it fails, cannot be started
    or takes too much memory, `DeadlineExceeded` when it takes too long. It is asked to end (SIGTERM), and
    made to, once `wanted` is false; then it simply returns.
    """
    folder = Path(trainer.folder)
    if not folder.is_dir():
        raise RuntimeFailed(
            f"The folder {trainer.folder!r} of trainer {trainer.name!r} is not there.",
            remedy="Correct it in the settings of the machine where control runs.",
        )
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", _KEEPER, str(trainer.nice), *command],
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    reader = threading.Thread(target=_read, args=(process.stdout, log), name="trainer-log", daemon=True)
    reader.start()
    try:
        _watch(process, trainer, wanted)
    finally:
        _kill(process)
        status = process.wait()
        reader.join(_GRACE_SECONDS)
        process.stdin.close()
        process.stdout.close()
    if status != 0 and wanted():
        raise RuntimeFailed(
            f"Trainer {trainer.name!r} {_how(status)}.", remedy="Its log says why: `fairlead retrain --log`."
        )


def group_bytes(group: int) -> int:
    """Resident memory of all processes of that group."""
    total = 0
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                fields = Path(entry.path, "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
                if int(fields[2]) == group:
                    total += resident_bytes(entry.name)
    return total


def _watch(process: subprocess.Popen[bytes], trainer: Trainer, wanted: Callable[[], bool]) -> None:
    until = time.monotonic() + trainer.seconds
    # It is not waited for until its group is ended: so long its number belongs to nobody else.
    while not _has_ended(process):
        if not wanted():
            _stop(process)
            return
        if time.monotonic() > until:
            _stop(process)
            raise DeadlineExceeded(
                f"Trainer {trainer.name!r} took longer than {trainer.seconds:g} s.",
                remedy=f"Raise trainers.{trainer.name}.seconds, or give it fewer rows.",
            )
        if group_bytes(process.pid) > trainer.memory_mb * 1e6:
            raise RuntimeFailed(
                f"Trainer {trainer.name!r} took more than {trainer.memory_mb:,.0f} MB of memory.",
                remedy=f"Raise trainers.{trainer.name}.memory_mb, or give it fewer rows.",
            )
        time.sleep(_LOOK_SECONDS)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Asks the group to end, and gives it a moment."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    until = time.monotonic() + _GRACE_SECONDS
    while not _has_ended(process) and time.monotonic() < until:
        time.sleep(_LOOK_SECONDS)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Ends what is left of the group: children of the trainer may have outlived it."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _read(pipe: IO[bytes], log: Log) -> None:
    with contextlib.suppress(OSError, ValueError):
        while data := os.read(pipe.fileno(), _PIECE):
            log.add(data)


def _how(status: int) -> str:
    if status < 0 or status > 128:
        number = -status if status < 0 else status - 128
        with contextlib.suppress(ValueError):
            return f"died of {signal.Signals(number).name}"
    return f"ended with status {status}"
