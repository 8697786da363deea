"""Control as a process: it migrates, recovers, answers, and ends when it is told to."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2
import msgspec

from fairlead.process import RESOLVED
from fairlead.registry.registry import Registry
from fairlead.rollouts import moves
from fairlead.rollouts.traffic import Order, Traffic
from fairlead.routing import plans
from fairlead.settings import Settings
from fairlead.stores.blobs import Blobs
from fairlead.stores.database import Database
from tests.rollouts.fakes import FakeFleet
from tests.rollouts.shop import register
from tests.waiting import wait_until


def start(settings: Settings) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "fairlead.process", "control"],
        env={**os.environ, RESOLVED: msgspec.json.encode(settings).decode()},
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def control(settings: Settings) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A control that is ready, and the address of its API."""
    process = start(settings)
    url = f"http://127.0.0.1:{settings.admin_port}"
    assert process.stderr is not None
    with process.stderr:
        try:
            wait_until(lambda: process.poll() is not None or answers(url), 30)
            assert process.poll() is None, process.stderr.read()
            yield process, url
        finally:
            process.kill()
            process.wait()


def answers(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/health/ready").status_code == 200
    except httpx2.TransportError:
        return False


def shop(settings: Settings) -> Traffic:
    """A migrated database with v1 of `shop` in production and v2 registered."""
    settings.folder.mkdir(parents=True, exist_ok=True)
    database = Database(settings.database)
    database.migrate()
    blobs = Blobs(settings.artifacts)
    registry = Registry(database, blobs)
    register(registry, blobs, "v1", "v2")
    traffic = Traffic(database, registry, settings)
    traffic.deploy("shop", "v1", Order(who="ann"), strategy="direct")
    return traffic


def test_control_starts_on_an_empty_folder_and_ends_with_sigterm(tmp_path: Path, free_port: int) -> None:
    settings = Settings(data=str(tmp_path / "data"), admin_port=free_port)
    with control(settings) as (process, url):
        assert httpx2.get(f"{url}/api/v1/models").json() == []
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_a_port_in_use_is_named_with_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        process = start(Settings(data=str(tmp_path / "data"), admin_port=port))
        _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert f"127.0.0.1:{port}" in said
    assert "--admin-port" in said
    assert "Traceback" not in said


def test_control_gives_up_what_a_killed_one_left_behind(tmp_path: Path, free_port: int) -> None:
    settings = Settings(data=str(tmp_path / "data"), admin_port=free_port)
    traffic = shop(settings)
    with traffic.database.write() as connection:
        present = plans.active(connection, "shop")
        assert present is not None
        plans.propose(
            connection,
            moves.deploy(present, "v2", 5, "r"),
            command="deploy",
            who="ann",
            why="",
            now=traffic._clock(),
        )
    left = settings.folder / "run" / "upload-half"
    left.parent.mkdir()
    left.write_bytes(b"half")
    with FakeFleet(traffic.database, "g0").running(), control(settings) as (_, url):
        history = httpx2.get(f"{url}/api/v1/models/shop/plans").json()
        assert [(plan["generation"], plan["state"]) for plan in history] == [(2, "failed"), (1, "active")]
        assert "control stopped" in history[0]["reason"]
        assert not left.exists()
        deployed = httpx2.post(f"{url}/api/v1/models/shop/deploy", json={"version": "v2"})
        assert deployed.json()["generation"] == 3


def test_a_command_that_waits_is_answered_when_control_is_told_to_stop(
    tmp_path: Path, free_port: int
) -> None:
    settings = Settings(data=str(tmp_path / "data"), admin_port=free_port)
    traffic = shop(settings)
    fleet = FakeFleet(traffic.database, "g0")
    fleet.holding.set()
    with fleet.running(), control(settings) as (process, url), ThreadPoolExecutor(1) as pool:
        address = f"{url}/api/v1/models/shop/deploy"
        waiting = pool.submit(httpx2.post, address, json={"version": "v2"}, timeout=30)

        def pending() -> bool:
            with traffic.database.read() as connection:
                return plans.pending(connection, "shop") is not None

        wait_until(pending)
        process.send_signal(signal.SIGTERM)
        answer = waiting.result(20)
        assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
        assert process.wait(20) == 0
        assert not pending()


def test_importing_the_composition_root_loads_nothing_heavy() -> None:
    code = (
        "import sys, fairlead.app;"
        "heavy = {'fastapi', 'uvicorn', 'sqlalchemy', 'pydantic', 'numpy', 'obstore'} & set(sys.modules);"
        "print(*heavy)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == []
    assert done.returncode == 0, done.stderr


def test_control_does_not_import_what_only_ingest_needs() -> None:
    code = (
        "import sys, fairlead.admin.api;"
        "print(*{'duckdb', 'pyarrow', 'pandas', 'onnxruntime'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == []
    assert done.returncode == 0, done.stderr
