"""A whole `fairlead up` for tests: its own folder, free ports, ended by its own process id."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
from click.testing import CliRunner, Result

from fairlead.cli.main import fairlead
from fairlead.serving.folder import DataFolder, GatewayReport
from tests.waiting import wait_until

__all__ = ["Servers", "free_port"]


def free_port() -> int:
    """A port that nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Servers:
    """`fairlead up`, from the start of the `with` to its end."""

    def __init__(self, folder: Path, *flags: str, workers: int = 2, **environment: str) -> None:
        self.folder = DataFolder(folder)
        self.port, self.admin_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.admin_url = f"http://127.0.0.1:{self.admin_port}"
        self._flags = [
            "--data", str(folder), "--port", str(self.port), "--admin-port", str(self.admin_port),
            "--workers", str(workers), *flags,
        ]  # fmt: skip
        self.workers = workers
        clean = {name: value for name, value in os.environ.items() if not name.startswith("FAIRLEAD_")}
        own = {"FAIRLEAD_LOG_FORMAT": "text", "FAIRLEAD_GRPC_PORT": "0"}
        self.environment = clean | own | environment
        self.log = folder.parent / f"{folder.name}.log"

    def __enter__(self) -> Servers:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Starts everything and waits until gateways and control answer."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fairlead", "up", *self._flags],
                env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        wait_until(lambda: self.process.poll() is not None or self._answers(), 60)
        assert self.process.poll() is None, self.log.read_text()

    def stop(self) -> int:
        """Ends everything in order; returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def cli(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a command against these servers."""
        addresses = {"FAIRLEAD_URL": self.url, "FAIRLEAD_ADMIN_URL": self.admin_url}
        return subprocess.run(
            [sys.executable, "-m", "fairlead", *arguments],
            env=self.environment | addresses, capture_output=True, text=True, check=check, timeout=120,
        )  # fmt: skip

    def said(self, *arguments: str, check: bool = True) -> Result:
        """What such a command says and answers, run in this process: a process of its own takes a second."""
        addresses = {"FAIRLEAD_URL": self.url, "FAIRLEAD_ADMIN_URL": self.admin_url}
        done = CliRunner().invoke(fairlead, arguments, env=addresses)
        assert not check or done.exit_code == 0, done.output
        return done

    def pid_of(self, role: str) -> int:
        """The process id of the agent, control or ingest, found among the supervisor's children."""
        for child in _children(self.process.pid):
            command = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            if role.encode() in command:
                return child
        raise LookupError(role)

    def scoring(self) -> list[psutil.Process]:
        """The processes that score rows for control, even where the one that started them is gone."""
        found = []
        for process in psutil.process_iter(["cmdline", "cwd"]):
            place = process.info["cwd"] or ""
            if "fairlead.evaluation.scoring_main" in (process.info["cmdline"] or []):
                found += [process] if place.startswith(str(self.folder.root)) else []
        return found

    def gateways(self) -> list[GatewayReport]:
        """The reports of the gateways."""
        return self.folder.read_reports()

    def _answers(self) -> bool:
        try:
            for url in (f"{self.url}/health/live", f"{self.admin_url}/api/v1/health/live"):
                urllib.request.urlopen(url, timeout=2).close()
        except (OSError, urllib.error.URLError):
            return False
        return len(self.gateways()) == self.workers


def _children(pid: int) -> list[int]:
    found: list[Any] = re.findall(r"\d+", Path(f"/proc/{pid}/task/{pid}/children").read_text())
    return [int(child) for child in found]
