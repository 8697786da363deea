"""The model host and its death: requests go on, and the next one takes over what it finds."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from fairlead.engine.leases import Leases
from fairlead.engine.paths import connected, listening
from fairlead.engine.worker import WorkerEngine
from fairlead.errors import InvalidModelFile, NotReady
from fairlead.process import RESOLVED
from fairlead.runtimes import placement
from fairlead.runtimes.placement import Measured, MeasureTask, is_heavy, recall
from fairlead.settings import Settings
from tests.models import IRIS_RUNTIME, iris_contract, iris_onnx
from tests.waiting import wait_until

from .conftest import SPEC, Place, ask, until, worker_spec

Run = Callable[[Any], Any]


def start_host(data: Path, listener: socket.socket) -> subprocess.Popen[bytes]:
    """A host as the supervisor starts it."""
    number = listener.fileno()
    return subprocess.Popen(
        [sys.executable, "-m", "fairlead.process", "models", str(number)],
        env={**os.environ, RESOLVED: msgspec.json.encode(Settings(data=str(data))).decode()},
        pass_fds=[number],
    )


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_killed_host_fails_no_request_and_the_next_one_adopts_its_workers(
    folder: Path, tmp_path: Path, run: Run
) -> None:
    (tmp_path / "run").mkdir()
    path = tmp_path / "run" / "models.sock"
    listener = listening(path)
    hosts = [start_host(tmp_path, listener)]
    pids: list[int] = []

    async def story() -> None:
        leases = Leases(path)
        engine = WorkerEngine(leases, worker_spec(folder, SPEC, ("what", "x")), timeout=10.0)
        await engine.start()
        asked = 0

        async def keep_asking(stop: asyncio.Event) -> None:
            nonlocal asked
            while not stop.is_set():
                outputs = await engine.submit(ask("echo", float(asked)), 1, 5.0)
                assert outputs["value"].tolist() == [asked * 2.0]
                asked += 1

        stop = asyncio.Event()
        asking = asyncio.create_task(keep_asking(stop))
        pids.append(engine.pid)
        hosts[0].send_signal(signal.SIGKILL)
        hosts[0].wait()
        before = asked
        await until(lambda: asked > before + 100)
        hosts.append(start_host(tmp_path, listener))
        # Another gateway gets the same worker of the next host.
        other = WorkerEngine(Leases(path), worker_spec(folder, SPEC, ("what", "x")), timeout=10.0)
        await other.start()
        assert other.pid == engine.pid
        before = asked
        await until(lambda: asked > before + 100)
        stop.set()
        await asking
        # The adopted worker is watched, too.
        os.kill(engine.pid, signal.SIGKILL)
        await until(lambda: engine.healthy and engine.pid != pids[0])
        pids.append(engine.pid)
        assert (await engine.submit(ask("echo", 2.0), 1, 5.0))["value"].tolist() == [4.0]

    try:
        run(story())
        assert alive(pids[1])
    finally:
        for host in hosts:
            host.send_signal(signal.SIGTERM)
            assert host.wait(30) in (0, -signal.SIGKILL)
        listener.close()
    wait_until(lambda: not alive(pids[1]))


def test_a_worker_that_everybody_has_left_ends_by_itself(folder: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "run").mkdir()
    path = tmp_path / "run" / "models.sock"
    listener = listening(path)
    host = start_host(tmp_path, listener)

    async def story() -> int:
        engine = WorkerEngine(Leases(path), worker_spec(folder, SPEC, ("what", "x")), timeout=10.0)
        await engine.start()
        host.send_signal(signal.SIGKILL)
        host.wait()
        return engine.pid

    worker = run(story())
    listener.close()
    wait_until(lambda: not alive(worker), 30)


def test_without_a_host_an_engine_says_so(tmp_path: Path, folder: Path, run: Run) -> None:
    async def story() -> None:
        leases = Leases(tmp_path / "run" / "models.sock")
        assert not leases.reachable()
        with pytest.raises(NotReady, match="model host"):
            await WorkerEngine(leases, worker_spec(folder, SPEC, ())).start()

    run(story())


def test_changed_bounds_hold_for_the_worker_that_is_there(place: Place, folder: Path, run: Run) -> None:
    async def story() -> None:
        async with place:
            engine = place.engine(folder, memory_limit_mb=2_000)
            await engine.start()
            pid = engine.pid
            engine.adapt(engine._terms, memory_limit_mb=16, timeout=1.0)
            await until(lambda: not engine.healthy)
            with pytest.raises(NotReady, match="16 MB are allowed"):
                await engine.submit(ask("echo"), 1, None)
            engine.adapt(engine._terms, memory_limit_mb=2_000, timeout=1.0)
            await until(lambda: engine.healthy and engine.pid != pid)

    run(story())


def test_a_path_may_be_longer_than_a_sockets_address(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    with listening(deep / "x.sock") as listener, connected(deep / "x.sock") as caller:
        other, _ = listener.accept()
        with other:
            caller.sendall(b"hello")
            assert other.recv(5) == b"hello"
    with pytest.raises(OSError):
        connected(deep / "none.sock")


# --- measuring ----------------------------------------------------------------------------------------------


def test_a_version_is_measured_once_for_all_gateways(
    place: Place, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = tmp_path / "version"
    version.mkdir()
    (version / "model.onnx").write_bytes(iris_onnx())
    task = MeasureTask(digest="d1", folder=str(version), runtime=IRIS_RUNTIME, contract=iris_contract())
    probes: list[str] = []
    probe = placement.probe

    def counted(folder: str, *rest: Any) -> Any:
        probes.append(folder)
        return probe(folder, *rest)

    monkeypatch.setattr(placement, "probe", counted)

    async def story() -> list[Measured]:
        async with place:
            return await asyncio.gather(*(place.gateway().measure(task) for _ in range(3)))

    found = run(story())
    assert len(probes) == 1
    assert found == [recall(place.run / "measured", "d1")] * 3
    assert 0 < found[0].run_microseconds < 10_000
    assert run(story()) == found
    assert len(probes) == 1


def test_what_cannot_be_measured_is_refused_in_words(place: Place, tmp_path: Path, run: Run) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    task = MeasureTask(digest="d2", folder=str(tmp_path), runtime=IRIS_RUNTIME, contract=iris_contract())

    async def story() -> None:
        async with place:
            with pytest.raises(InvalidModelFile, match=r"model\.onnx"):
                await place.gateway().measure(task)

    run(story())


def test_time_and_memory_decide_where_a_version_belongs() -> None:
    def measured(microseconds: float, megabytes: int) -> Measured:
        return Measured(cpu="x", run_microseconds=microseconds, memory_bytes=megabytes * 2**20)

    assert not is_heavy(measured(8.0, 20))
    assert not is_heavy(measured(299.0, 100))
    assert is_heavy(measured(301.0, 20))
    assert is_heavy(measured(8.0, 2_000))


def test_a_measurement_of_another_processor_or_a_damaged_one_counts_for_nothing(tmp_path: Path) -> None:
    found = {"run_microseconds": 5.0, "memory_bytes": 7, "library": "onnxruntime 1.0 sparc64 vis"}
    assert placement.note(tmp_path, "d", found) is None
    assert recall(tmp_path, "d") is None
    mine = placement.note(tmp_path, "d", found | {"library": f"onnxruntime 1.0 {placement.cpu_name()}"})
    assert mine is not None
    assert recall(tmp_path, "d") == mine
    (tmp_path / "d.json").write_bytes(np.random.default_rng(0).bytes(30))
    assert recall(tmp_path, "d") is None
