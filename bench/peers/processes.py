"""A server as a tree of processes on one core: started, awaited, weighed, ended."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil

__all__ = ["NotReady", "ServerProcess", "cores", "free_ports"]

_READY_SECONDS = 90.0
_STOP_SECONDS = 8.0
_USABLE = sorted(os.sched_getaffinity(0))
"""As they were when this process began: it may bind itself to one of them later."""


class NotReady(Exception):
    """The server did not answer rightly in time; the text says what it said instead."""


def cores() -> tuple[int, int]:
    """The server's core and the load's: the first and the last of those that this process might use."""
    return _USABLE[0], _USABLE[-1]


def free_ports(count: int) -> list[int]:
    """So many ports that nobody listens on now."""
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


class ServerProcess:
    """A started server. Use as a context manager: its whole tree is ended at the end."""

    def __init__(self, command: list[str], environment: dict[str, str], folder: Path, port: int) -> None:
        self.port = port
        self._log = folder / "server.log"
        self._started = time.monotonic()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["taskset", "-c", str(cores()[0]), *command],
                env={**os.environ, **environment}, cwd=folder, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def ask(self, path: str, body: str | None, timeout: float = 10.0) -> bytes:
        """The answer to a POST of that JSON, or to a GET without one; OSError when there is none."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            method = "GET" if body is None else "POST"
            connection.request(method, path, body, {"Content-Type": "application/json"})
            return connection.getresponse().read()
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from error
        finally:
            connection.close()

    def await_right(self, path: str, body: str, right: Callable[[bytes], bool]) -> float:
        """Seconds from the start to the first right answer; raises `NotReady`."""
        said = ""
        while time.monotonic() - self._started < _READY_SECONDS:
            if self._process.poll() is not None:
                raise NotReady(f"it ended with {self._process.returncode}: {self._last_words()}")
            with contextlib.suppress(OSError):
                raw = self.ask(path, body)
                if right(raw):
                    return time.monotonic() - self._started
                said = raw[:200].decode("utf-8", "replace")
            time.sleep(0.01)
        raise NotReady(f"no right answer in {_READY_SECONDS:g} s: {said or self._last_words()}")

    def cpu_seconds(self) -> float:
        """Processor time that the tree has used."""
        total = 0.0
        for process in self._tree():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def memory_mib(self) -> float:
        """Memory of the tree: each page shared between processes counts once (PSS)."""
        total = 0
        for process in self._tree():
            with contextlib.suppress(psutil.Error):
                total += process.memory_full_info().pss
        return total / 2**20

    def stop(self) -> None:
        """Ends the tree: asked first, then killed."""
        tree = self._tree()
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in tree:
                with contextlib.suppress(psutil.Error):
                    process.send_signal(number)
            _, tree = psutil.wait_procs(tree, timeout=_STOP_SECONDS)
        self._process.wait()

    def _tree(self) -> list[psutil.Process]:
        """The server's process, its descendants, and whoever else is in the session that it was given."""
        found = {}
        with contextlib.suppress(psutil.Error):
            root = psutil.Process(self._process.pid)
            found = {process.pid: process for process in (root, *root.children(recursive=True))}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                if os.getsid(process.pid) == self._process.pid:
                    found[process.pid] = process
        return list(found.values())

    def _last_words(self) -> str:
        """The last line of its log that names an error, else the last lines."""
        lines = [
            line.strip() for line in self._log.read_text("utf-8", "replace").splitlines() if line.strip()
        ]
        named = [line for line in lines if re.search(r"\w+Error: ", line)]
        return (named[-1] if named else " / ".join(lines[-3:]))[:300]
