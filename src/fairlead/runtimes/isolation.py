"""What a process that runs somebody's model is given, and what it is not. Standard library alone.

This contains crashes and leaks. It is no sandbox against malice: the process runs as the same user.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from collections.abc import Mapping

__all__ = ["bind_to_parent", "scrubbed_environment", "unbind_from_parent"]

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
