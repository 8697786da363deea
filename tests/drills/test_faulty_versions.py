"""Versions that fail in every way: only their own requests do, and a heavy model beside them loses none."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import fairlead
from fairlead.errors import CircuitOpen, DeadlineExceeded, NotReady, RuntimeFailed
from tests.drills.faulty_model import Faulty
from tests.drills.load import Load
from tests.heavy import dense_onnx
from tests.models import SAMPLE, iris_contract
from tests.servers import Servers
from tests.waiting import wait_until

pytestmark = pytest.mark.drill

ROOT = str(Path(__file__).parent.parent.parent)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("faulty") / "data"
    with Servers(folder, "--trust-pickle", workers=2, PYTHONPATH=ROOT) as running:
        fairlead.register(
            dense_onnx(), "heavy", "v1", contract=iris_contract(), set_production=True,
            admin_url=running.admin_url,
        )  # fmt: skip
        fairlead.register(
            Faulty(), "faulty", "v1", reference={"x": np.arange(20, dtype=float)}, trust_pickle=True,
            set_production=True, admin_url=running.admin_url,
        )  # fmt: skip
        with fairlead.Admin(running.admin_url) as admin:
            admin.configure(
                "faulty", None, {"timeout_ms": 1000.0, "memory_limit_mb": 300, "cache_seconds": 0}
            )
            admin.configure("heavy", None, {"cache_seconds": 0})
        yield running


def workers(servers: Servers) -> dict[int, str]:
    """The model workers of these servers, with the folder that each works in."""
    found = {}
    for child in _children(servers.pid_of("models")):
        if b"fairlead.engine.worker_main" in Path(f"/proc/{child}/cmdline").read_bytes():
            found[child] = os.readlink(f"/proc/{child}/cwd")
    return found


def _children(pid: int) -> list[int]:
    return [int(child) for child in re.findall(r"\d+", Path(f"/proc/{pid}/task/{pid}/children").read_text())]


def doubled(client: fairlead.Client, x: float) -> float | None:
    try:
        return float(client.predict("faulty", {"x": x}).prediction)
    except (NotReady, RuntimeFailed, CircuitOpen, DeadlineExceeded):
        return None


def test_a_heavy_model_is_loaded_once_for_all_gateways_and_a_light_one_in_each(servers: Servers) -> None:
    with fairlead.Client(servers.url) as client:
        assert client.predict("heavy", SAMPLE).prediction in (0, 1, 2)
        wait_until(lambda: doubled(client, 1.0) == 2.0, 30)
    assert len(workers(servers)) == 2
    assert len(set(workers(servers).values())) == 2


@pytest.mark.parametrize(
    ("trouble", "errors"),
    [
        (901.0, (RuntimeFailed,)),
        (902.0, (RuntimeFailed,)),
        (903.0, (RuntimeFailed,)),
        (904.0, (RuntimeFailed,)),
        (905.0, (RuntimeFailed,)),
        (906.0, (DeadlineExceeded,)),
        (907.0, (RuntimeFailed, DeadlineExceeded)),
        (908.0, (DeadlineExceeded,)),
    ],
    ids=["raises", "wrong shape", "NaN", "segfault", "abort", "hangs", "eats memory", "spins"],
)
def test_a_version_that_fails_loses_its_own_requests_and_no_other(
    servers: Servers, trouble: float, errors: tuple[type[Exception], ...]
) -> None:
    with fairlead.Client(servers.url) as client:
        wait_until(lambda: doubled(client, 1.0) == 2.0, 30)
        with Load(servers.port, "/v1/models/heavy/predict", SAMPLE, callers=4) as load:
            with pytest.raises(errors):
                client.predict("faulty", {"x": trouble})
            wait_until(lambda: doubled(client, 2.0) == 4.0, 30)
            before = len(load.answered)
            wait_until(lambda: len(load.answered) > before + 20)
        assert load.failed == []


def test_a_model_host_that_is_killed_fails_no_request_and_loads_nothing_again(servers: Servers) -> None:
    with fairlead.Client(servers.url) as client:
        wait_until(lambda: doubled(client, 1.0) == 2.0, 30)
        host, held = servers.pid_of("models"), workers(servers)
        with (
            Load(servers.port, "/v1/models/heavy/predict", SAMPLE, callers=2) as load,
            Load(servers.port, "/v1/models/faulty/predict", {"x": 1.0}, callers=2) as other,
        ):
            wait_until(lambda: len(load.answered) > 20 and len(other.answered) > 20)
            os.kill(host, signal.SIGKILL)
            wait_until(lambda: _another(servers, host))
            before = len(load.answered)
            wait_until(lambda: len(load.answered) > before + 50)
        assert (load.failed, other.failed) == ([], [])
        # The next host watches what it found: a worker that dies now is replaced.
        heavy = next(pid for pid in held if _answers_heavy(held[pid]))
        assert Path(f"/proc/{heavy}").exists()
        os.kill(heavy, signal.SIGKILL)
        wait_until(lambda: any(_answers_heavy(folder) for folder in workers(servers).values()), 30)

        def answers() -> bool:
            try:
                return client.predict("heavy", SAMPLE).prediction in (0, 1, 2)
            except (NotReady, RuntimeFailed, CircuitOpen):
                return False

        wait_until(answers, 30)


def _another(servers: Servers, host: int) -> bool:
    try:
        return servers.pid_of("models") != host
    except LookupError:  # there is none at the moment
        return False


def _answers_heavy(folder: str) -> bool:
    return Path(folder, "model.onnx").exists()
