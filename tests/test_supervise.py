import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fairlead.errors import DataFolderInUse, PortInUse
from fairlead.settings import Settings
from fairlead.supervise import Child, Supervisor, require_free_port
from tests.waiting import wait_until


def test_a_port_that_somebody_has_is_named_before_anything_starts(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortInUse, match=str(port)) as caught:
            Supervisor(Settings(data=str(tmp_path), grpc_port=0, port=port))
    assert "--port" in str(caught.value)


def test_a_port_shared_by_another_fairleads_workers_counts_as_taken():
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(PortInUse):
            require_free_port("127.0.0.1", other.getsockname()[1], "port")


def test_an_address_that_is_not_ours_is_refused_in_words(tmp_path):
    with pytest.raises(PortInUse, match=r"203\.0\.113\.1"):
        Supervisor(Settings(data=str(tmp_path), grpc_port=0, host="203.0.113.1", port=0))


def test_two_fairleads_never_share_a_data_folder(tmp_path):
    first = Supervisor(Settings(data=str(tmp_path), grpc_port=0, port=0), roles=("gateway",))
    with pytest.raises(DataFolderInUse, match="--data"):
        Supervisor(Settings(data=str(tmp_path), grpc_port=0, port=0), roles=("gateway",))
    first.stop()
    Supervisor(Settings(data=str(tmp_path), grpc_port=0, port=0), roles=("gateway",)).stop()


def test_a_child_that_dies_young_waits_longer_each_time_and_a_steady_one_not_at_all():
    child = Child("x", lambda: subprocess.Popen([sys.executable, "-c", ""]))
    waits = []
    for _ in range(10):
        child.start()
        assert child.process is not None
        child.process.wait()
        child.died(child.started_at + 0.01)
        waits.append(child.start_at - (child.started_at + 0.01))
    assert waits == sorted(waits)
    assert waits[:3] == pytest.approx([0.0, 0.1, 0.2])
    assert waits[-1] == pytest.approx(5.0)
    child.start()
    assert child.process is not None
    child.process.wait()
    child.died(child.started_at + 60)
    assert child.start_at == child.started_at + 60


def test_a_worker_that_came_as_far_as_serving_is_replaced_within_a_quarter_of_a_second():
    child = Child("x", lambda: subprocess.Popen([sys.executable, "-c", ""]))
    for _ in range(10):
        child.start()
        assert child.process is not None
        child.process.wait()
        child.died(child.started_at + 0.01, served=True)
        assert child.start_at <= child.started_at + 0.01 + 0.25


def test_children_never_outlive_a_supervisor_that_was_killed(tmp_path: Path):
    script = (
        "import sys\n"
        "from fairlead.settings import Settings\n"
        "from fairlead.supervise import Supervisor\n"
        "Supervisor(Settings(data=sys.argv[1], grpc_port=0, port=0, workers=2), roles=('gateway',)).run()\n"
    )
    supervisor = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "data")])
    reports = tmp_path / "data" / "run" / "gateways"
    wait_until(lambda: reports.is_dir() and len(list(reports.glob("*.json"))) == 2, 30)
    listed = Path(f"/proc/{supervisor.pid}/task/{supervisor.pid}/children").read_text().split()
    children = [int(pid) for pid in listed]
    assert len(children) == 3  # with their model host
    supervisor.send_signal(signal.SIGKILL)
    supervisor.wait()
    wait_until(lambda: not any(map(running, children)), 30)


def running(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False


def test_a_supervisor_told_to_stop_stops_its_children_in_order(tmp_path: Path):
    supervisor = Supervisor(Settings(data=str(tmp_path), grpc_port=0, port=0, workers=1), roles=("gateway",))
    ready = threading.Event()
    pids: list[int] = []

    def on_ready(running_one: Supervisor) -> None:
        pids.extend(child.process.pid for child in running_one.children if child.process)
        ready.set()
        os.kill(os.getpid(), signal.SIGTERM)

    before = time.monotonic()
    supervisor.run(on_ready)
    assert ready.is_set()
    assert not any(map(running, pids))
    assert time.monotonic() - before < 60
