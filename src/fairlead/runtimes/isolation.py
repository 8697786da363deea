"""What a process that runs somebody's model is given, and what it is not. Standard library alone.

This contains crashes and leaks. It is no sandbox against malice: the process runs as the same user.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["bind_to_parent", "scrubbed_environment", "start_bound", "unbind_from_parent"]

_PASSED = {
    "PATH",
    "HOME",
    "LANG",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
}
_PASSED_PREFIXES = ("PYTHON", "LC_")
_THREAD_COUNTS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""A run of one row reads every weight once, and on pages of 4 KiB up to a quarter of its time goes into
finding them. This asks the system for larger ones; where it gives none, nothing changes."""

_PR_SET_PDEATHSIG = 1


def scrubbed_environment(environment: Mapping[str, str], threads: int = 1) -> dict[str, str]:
    """The part of an environment that a model needs: no addresses, no credentials, nothing of Fairlead's.

    Numeric libraries get `threads` threads: their default, one per core and process, would be as many as the
    square of the cores.
    """
    passed = {
        name: value
        for name, value in environment.items()
        if name in _PASSED or name.startswith(_PASSED_PREFIXES)
    }
    if "PYTHONPATH" in passed:
        # The process works in the version's folder, where a relative path means something else.
        parts = passed["PYTHONPATH"].split(os.pathsep)
        passed["PYTHONPATH"] = os.pathsep.join(os.path.abspath(part) for part in parts if part)
    return {**passed, **dict.fromkeys(_THREAD_COUNTS, str(threads))}


def start_bound(
    module: str,
    folder: Path | str,
    theirs: socket.socket,
    *,
    python: str = sys.executable,
    threads: int = 1,
) -> subprocess.Popen[bytes]:
    """Starts `python -m MODULE SOCKET PARENT` in a version's folder, in a session of its own, with a scrubbed
    environment. It is talked to over the socket, and should call `bind_to_parent` first of all."""
    # The folder's files are those of the manifest: compiled modules must not be written beside them.
    environment = scrubbed_environment(os.environ, threads) | _HUGE_PAGES
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    descriptor = theirs.fileno()
    return subprocess.Popen(
        [python, "-m", module, str(descriptor), str(os.getpid())],
        cwd=folder,
        env=environment,
        pass_fds=[descriptor],
        stdin=subprocess.DEVNULL,
        stdout=2,  # what a model prints must not get among a program's output
        start_new_session=True,
    )


def bind_to_parent(parent: int) -> None:
    """Makes this process die with its parent, and dump no core: it holds people's data.

    `parent` is the process that is expected to be the parent; when it is gone already, this one exits.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def unbind_from_parent() -> None:
    """Lets this process outlive its parent after all."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, 0)
