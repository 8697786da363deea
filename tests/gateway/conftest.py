"""A real gateway process over a data folder that the test laid out."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fairlead.process import RESOLVED
from fairlead.runtimes.effects import Effect
from fairlead.runtimes.leading import Leading
from fairlead.serving.folder import DataFolder
from fairlead.settings import Settings
from tests.models import data_folder, iris_onnx, lay_plan, lay_version, plan_of
from tests.waiting import wait_until


class GatewayProcess:
    """One gateway worker on a free port; stopped by its own process id."""

    def __init__(self, folder: DataFolder, **settings: Any) -> None:
        self.folder = folder
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = self._listener.getsockname()[1]
        settings = {"grpc_port": 0, **settings}
        self.settings = Settings(data=str(folder.root), log_format="json", **settings)
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        number = self._listener.fileno()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fairlead.process", "gateway", "0", str(number)],
            env={**os.environ, RESOLVED: msgspec.json.encode(self.settings).decode()},
            pass_fds=(number,),
        )
        wait_until(self.live, 20)
        return self.process

    def live(self) -> bool:
        try:
            return self.call("GET", "/health/live")[0] == 200
        except OSError:
            return False

    def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], Any]:
        """Status, headers and JSON (or text, or bytes) of one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            connection.request(method, path, data, headers or {})
            answer = connection.getresponse()
            content = answer.read()
            kind = answer.getheader("content-type", "")
            found = {name.lower(): value for name, value in answer.getheaders()}
            if "octet-stream" in kind:
                return answer.status, found, content
            return (
                answer.status,
                found,
                json.loads(content) if content and "json" in kind else content.decode(),
            )
        finally:
            connection.close()

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(30)

    def close(self) -> None:
        self.stop()
        self._listener.close()


_STILL = Effect(at=())
LEADING = Leading(
    scale="log_odds",
    base=(0.0, 0.0, 0.0),
    effects=(Effect(at=(0, 1, 2), slopes=(1.0, 0.0, -1.0), offsets=(0.0, 0.0, 0.0)), _STILL, _STILL, _STILL),
)
"""Only the first feature moves anything."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway with the model `iris`: v1 stable and control, v2 a canary at 10 %."""
    folder = data_folder(Path(tmp_path_factory.mktemp("gateway")) / "data")
    one = lay_version(folder, "v1", iris_onnx(0))
    two = lay_version(folder, "v2", iris_onnx(1), leading=LEADING)
    arms = {"stable": ("v1", "stable", 80), "control": ("v1", "control", 10), "canary": ("v2", "canary", 10)}
    lay_plan(folder, plan_of(arms), one, two)
    running = GatewayProcess(folder, default_model="iris")
    yield running
    running.close()
