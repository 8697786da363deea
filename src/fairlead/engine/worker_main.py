"""The process that holds one model: `python -m fairlead.engine.worker_main SOCKET PARENT`.

It loads what the host names over that socket, then serves every gateway that connects to the path that it was
given. It imports numpy and msgspec, and then whatever the model needs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from pathlib import Path

from fairlead.engine.callables import load
from fairlead.engine.crew import Crew, described
from fairlead.engine.frames import Frame, Frames, Loaded, Setup, encode
from fairlead.engine.paths import listening
from fairlead.runtimes.isolation import bind_to_parent, unbind_from_parent

__all__ = ["main"]


def main(fd: int, parent: int) -> None:
    """Serves until nobody is connected any more; the host at the other end of that socket is the first."""
    # While it loads, nobody but the host could end it.
    bind_to_parent(parent)
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text("fl-model")
    host = socket.socket(fileno=fd)
    setup = _received(host).message
    if not isinstance(setup, Setup):
        return
    try:
        run = load(setup.spec)
    except BaseException as error:  # loading a pickle runs anything, sys.exit() included
        _send(host, Loaded(error=described(error)))
        return
    # An object's code need not bear two threads at once; ONNX Runtime's does.
    instances = setup.spec.instances if setup.spec.kind == "onnx" else 1
    crew = Crew(run, listening(Path(setup.socket)), host, instances)
    # From now on it outlives its host: gateways go on, and the next host adopts it. Whoever hears that it is
    # loaded may rely on that; a host that is gone already cannot be told, and ends it here.
    unbind_from_parent()
    _send(host, Loaded())
    crew.serve()
    os.killpg(0, signal.SIGKILL)  # and whatever the model has started


def _received(host: socket.socket) -> Frame:
    frames = Frames()
    while True:
        count = host.recv_into(frames.space())
        if count == 0:
            sys.exit(0)
        for frame in frames.filled(count):
            return frame


def _send(host: socket.socket, message: Loaded) -> None:
    host.setblocking(True)
    host.sendall(b"".join(encode(message)))
    host.setblocking(False)


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]), int(sys.argv[2]))
    except (BrokenPipeError, ConnectionResetError):
        sys.exit(0)  # the host went away
