"""A measured server's processes: all are found, all are ended, and what went wrong is told."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest
from bench.peers.processes import NotReady, ServerProcess, free_ports

from tests.waiting import wait_until

SERVER = """
import http.server, os, pathlib, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
pathlib.Path("pids").write_text(f"{os.getpid()} {child.pid}")
server.serve_forever()
"""


def start(folder: Path, program: str) -> ServerProcess:
    (port,) = free_ports(1)
    return ServerProcess([sys.executable, "-c", program, str(port)], {}, folder, port)


def test_a_server_is_awaited_weighed_and_ended_with_every_process_that_it_started(tmp_path: Path) -> None:
    with start(tmp_path, SERVER) as server:
        assert server.await_right("/", "hello", lambda raw: raw == b"hello") > 0
        pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
        assert all(psutil.pid_exists(pid) for pid in pids)
        assert server.memory_mib() > 1
        assert server.cpu_seconds() > 0
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in pids))


def test_a_server_that_ends_before_it_answers_is_reported_with_the_error_that_it_named(
    tmp_path: Path,
) -> None:
    with (
        start(tmp_path, "raise RuntimeError('no such model')") as server,
        pytest.raises(NotReady, match="it ended with 1: RuntimeError: no such model"),
    ):
        server.await_right("/", "{}", lambda raw: True)
