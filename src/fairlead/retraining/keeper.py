"""Stands above a trainer's processes, and ends them all when control is gone: `python -m … NICE COMMAND …`.

It leads a session and group of its own, in which the command runs. Its standard input is a pipe that control
holds: when that ends, however control ended, so does the group. Standard library alone.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
from typing import NoReturn

__all__ = ["main"]

NOT_STARTED = 127


def main() -> NoReturn:
    """Runs the command and ends as it did; 128 and the signal's number when that was by a signal."""
    niceness, command = int(sys.argv[1]), sys.argv[2:]
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # meant for the trainer; this one ends with it
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # it would hold people's data
    os.nice(niceness)
    threading.Thread(target=_end_with_control, daemon=True).start()
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL),
        )
    except OSError as error:
        print(f"{command[0]!r} cannot be started: {error}", file=sys.stderr, flush=True)
        os._exit(NOT_STARTED)
    status = child.wait()
    os._exit(status if status >= 0 else 128 - status)


def _end_with_control() -> None:
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
