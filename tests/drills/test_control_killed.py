"""Control, agent and ingest are killed; predictions go on, and nothing is lost or doubled."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import fairlead
from fairlead.client.admin import Admin
from fairlead.predictions.manifest import recover
from tests.drills.load import Load
from tests.models import SAMPLE, iris_contract, iris_onnx
from tests.servers import Servers
from tests.waiting import wait_until

pytestmark = pytest.mark.drill


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    with Servers(tmp_path / "data", FAIRLEAD_INGEST_FLUSH_SECONDS="0.5") as running:
        yield running


@pytest.fixture
def admin(servers: Servers) -> Iterator[Admin]:
    with Admin(servers.admin_url) as client:
        yield client


def register(servers: Servers, version: str, seed: int = 0, **options: object) -> None:
    fairlead.register(
        iris_onnx(seed), "iris", version, contract=iris_contract(), admin_url=servers.admin_url, **options
    )


def kill(servers: Servers, role: str) -> None:
    old = servers.pid_of(role)
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: (found := pid_or_none(servers, role)) is not None and found != old, 20)


def pid_or_none(servers: Servers, role: str) -> int | None:
    try:
        return servers.pid_of(role)
    except (LookupError, OSError):
        return None


def counted(admin: Admin) -> tuple[int, int]:
    """Records in the log, and distinct ones."""
    found = admin.sql("SELECT count(*), count(DISTINCT prediction_id) FROM predictions")
    return tuple(found.rows[0])


def test_predictions_go_on_and_the_log_is_whole_whatever_else_is_killed(servers: Servers, admin: Admin):
    register(servers, "v1", set_production=True)
    with Load(servers.port, "/v1/models/iris/predict", SAMPLE, callers=4) as load:
        for role in ("control", "ingest", "agent", "control", "ingest"):
            before = len(load.answered)
            kill(servers, role)
            wait_until(lambda: len(load.answered) > before + 100, 30)
    assert load.failed == []
    wait_until(lambda: reachable(admin), 30)
    assert counted(admin) == (len(load.answered), len(load.answered))
    # The same once all of it is in Parquet: a clean stop flushes, and a second start finds it.
    assert servers.stop() == 0
    manifest = recover(servers.folder.predictions)
    assert sum(file.rows for file in manifest.files if file.dataset == "predictions") == len(load.answered)
    servers.start()
    assert counted(admin) == (len(load.answered), len(load.answered))


def reachable(admin: Admin) -> bool:
    try:
        admin.sql("SELECT 1 AS one")
    except fairlead.FairleadError:
        return False
    return True


def test_a_local_rollback_works_with_control_dead_and_is_reconciled(servers: Servers, admin: Admin):
    register(servers, "v1", seed=0, set_production=True)
    register(servers, "v2", seed=1)
    admin.deploy("iris", "v2", strategy="direct")
    os.kill(servers.pid_of("agent"), signal.SIGSTOP)
    stopped = servers.pid_of("agent")
    try:
        kill(servers, "control")
        done = servers.cli("rollback", "iris", "--local", "--data", str(servers.folder.root))
        assert "v1" in done.stdout
        with fairlead.Client(servers.url) as client:
            answers = {client.predict("iris", SAMPLE, unit=f"u{n}").model_version for n in range(50)}
        assert answers == {"v1"}
        assert all(report.models["iris"].override == "v1" for report in servers.gateways())
    finally:
        os.kill(stopped, signal.SIGCONT)
    wait_until(lambda: reachable(admin), 30)
    wait_until(lambda: servers.folder.read_override("iris") is None, 30)
    wait_until(lambda: all(r.models["iris"].override is None for r in servers.gateways()), 30)
    assert admin.production_at("iris") == "v1"
    with fairlead.Client(servers.url) as client:
        assert {client.predict("iris", SAMPLE, unit=f"u{n}").model_version for n in range(50)} == {"v1"}


def test_a_rollback_under_load_loses_no_request_and_is_final(servers: Servers, admin: Admin):
    register(servers, "v1", seed=0, set_production=True)
    register(servers, "v2", seed=1)
    for _ in range(3):
        admin.deploy("iris", "v2", weight=50)
        with Load(servers.port, "/v1/models/iris/predict", SAMPLE) as load:
            wait_until(lambda: len(load.answered) > 200, 30)
            back = admin.rollback("iris")
            confirmed_at = time.perf_counter()
            count = len(load.answered)
            wait_until(lambda: len(load.answered) > count + 200, 30)
        assert back.unconfirmed == ()
        assert load.failed == []
        assert {version for _, _, version in load.answered.values()} == {"v1", "v2"}
        late = [v for sent_at, _, v in load.answered.values() if sent_at > confirmed_at and v == "v2"]
        assert late == []
