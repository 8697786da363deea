"""The tutorial's own files and commands, run as a newcomer would, in an empty folder."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.servers import free_port

TUTORIAL = Path(__file__).parent.parent / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def steps() -> list[tuple[str, str, str]]:
    """(language, file name or nothing, content) of every block, in order."""
    found = []
    for language, rest, content in BLOCK.findall(TUTORIAL.read_text()):
        name = re.search(r"file=(\S+)", rest)
        found.append((language, name[1] if name else "", content))
    return found


@pytest.mark.timeout(300)
def test_the_tutorial_takes_a_newcomer_to_a_canary_in_under_five_minutes(tmp_path: Path):
    port, admin_port = free_port(), free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FAIRLEAD_")}
    environment |= {
        "PATH": f"{Path(sys.executable).parent}:{environment['PATH']}",
        "FAIRLEAD_URL": f"http://localhost:{port}",
        "FAIRLEAD_ADMIN_URL": f"http://localhost:{admin_port}",
        "FAIRLEAD_GRPC_PORT": "0",
        "COLUMNS": "120",
    }
    script = ["set -euo pipefail", "trap 'kill %1; wait' EXIT"]
    for language, name, content in steps():
        if name:
            (tmp_path / name).write_text(content)
        elif language == "bash":
            script.append(content)
    text = "\n".join(script).replace("localhost:8000", f"localhost:{port}")
    text = text.replace("localhost:8080", f"localhost:{admin_port}")
    text = text.replace("fairlead up ", f"fairlead up --port {port} --admin-port {admin_port} ")
    started = time.monotonic()
    shell = subprocess.Popen(
        ["bash", "-c", text], cwd=tmp_path, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = shell.communicate(timeout=280)
    except subprocess.TimeoutExpired:
        os.killpg(shell.pid, signal.SIGKILL)
        raise
    assert shell.returncode == 0, output + (tmp_path / "up.log").read_text()
    assert time.monotonic() - started < 300
    said = output.split("v2 is registered and takes no traffic yet")
    assert len(said) == 2
    for word in ("canary", "control", "p50", "p99"):
        assert word in said[1]
    assert "data_contract_violation" in said[0]
    assert (tmp_path / "contract.toml").read_text().count("\n[[inputs]]") == 30
