"""The agent between real databases and a real data folder; gateways are threads that follow the folder."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from fairlead.agent import Agent
from fairlead.contracts.uncertainty import Uncertainty
from fairlead.errors import PrepareFailed
from fairlead.process import RESOLVED
from fairlead.registry import levels
from fairlead.registry.registry import Registry
from fairlead.rollouts.fleet import fleet
from fairlead.rollouts.traffic import Order, Traffic
from fairlead.routing import plans
from fairlead.runtimes.machine import cpu_name
from fairlead.runtimes.placement import recall
from fairlead.serving.folder import DataFolder, Override
from fairlead.settings import Settings
from fairlead.stores.blobs import Blobs
from fairlead.stores.database import Database
from fairlead.stores.tables import gateways
from tests.gateways import FolderGateway
from tests.rollouts.shop import register
from tests.waiting import wait_until

ANN = Order(who="ann")


class Machine:
    """A machine with a data folder, an agent and whatever gateways a test starts."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = DataFolder(settings.folder).make()
        self.database = Database(settings.database)
        self.blobs = Blobs(settings.artifacts)
        self.registry = Registry(self.database, self.blobs)
        self.traffic = Traffic(self.database, self.registry, settings)

    @contextmanager
    def agent(self) -> Iterator[None]:
        stop = threading.Event()
        thread = threading.Thread(target=Agent(self.settings).run, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(20)
            assert not thread.is_alive()

    @contextmanager
    def serving(self, *versions: str) -> Iterator[FolderGateway]:
        """An agent and a gateway, the versions registered, and put into production one after the other."""
        register(self.registry, self.blobs, *versions)
        with self.agent(), FolderGateway(self.folder).running() as gateway:
            wait_until(lambda: self.known() == ["g0"])
            for version in versions:
                answer = self.traffic.deploy("shop", version, ANN, strategy="direct")
                assert answer.confirmed == ["g0"]
            yield gateway

    def known(self) -> list[str]:
        with self.database.read() as connection:
            return [gateway.name for gateway in fleet(connection)]

    def stable(self) -> str | None:
        with self.database.read() as connection:
            plan = plans.active(connection, "shop")
        return None if plan is None else plan.stable()

    def override(self, version: str, base_generation: int, secret: bytes | None = None) -> Override:
        made = Override(
            model="shop",
            version=version,
            base_generation=base_generation,
            at=time.time(),
            who="night watch",
            why="conversions fell",
        ).signed(secret or self.folder.secret())
        self.folder.write_override(made)
        return made


@pytest.fixture
def machine(database: Database, migrated_url: str, tmp_path: Path) -> Machine:
    """A machine on an empty, migrated database."""
    return Machine(
        Settings(
            data=str(tmp_path / "data"), database_url=migrated_url, prepare_seconds=20, confirm_seconds=10
        )
    )


# --- plans to gateways, reports back ------------------------------------------------------------------------


def test_a_rollout_walks_through_the_agent_to_the_gateway_and_back(machine: Machine) -> None:
    with machine.serving("v1") as gateway:
        register(machine.registry, machine.blobs, "v2")
        assert machine.traffic.deploy("shop", "v2", ANN, weight=5).confirmed == ["g0"]
        assert machine.traffic.promote("shop", ANN).confirmed == ["g0"]
        rollback = machine.traffic.rollback("shop", ANN)
        assert (rollback.generation, rollback.confirmed, rollback.unconfirmed) == (4, ["g0"], [])
        assert gateway.history == [("v1", 1), ("v1", 2), ("v2", 3), ("v1", 4)]


def test_the_production_version_before_stays_at_hand(machine: Machine) -> None:
    with machine.serving("v1", "v2", "v3"):
        written = machine.folder.read_plans("shop")
        assert written is not None
        assert written.active is not None
        assert written.active.keep == ("v2",)
        assert set(written.active.versions) == {"v2", "v3"}
        assert written.prepare is None


def test_what_a_plan_names_lies_verified_in_the_versions_folder(machine: Machine) -> None:
    with machine.serving("v1"):
        spec = machine.registry.spec("shop", "v1")
        file = machine.folder.versions / spec.manifest.digest / "model.onnx"
        assert file.read_bytes() == b"shop v1"


def test_what_registration_measured_on_the_same_kind_of_processor_says_where_a_version_runs(
    machine: Machine,
) -> None:
    found = {"run_microseconds": 7.5, "memory_bytes": 11, "library": f"onnxruntime 1.0 {cpu_name()}"}
    elsewhere = found | {"library": "onnxruntime 1.0 sparc64 vis"}
    (here,) = register(machine.registry, machine.blobs, "v1", probe=found)
    (there,) = register(machine.registry, machine.blobs, "v2", probe=elsewhere)
    (nowhere,) = register(machine.registry, machine.blobs, "v3")
    with machine.agent(), FolderGateway(machine.folder).running():
        wait_until(lambda: machine.known() == ["g0"])
        for version in ("v1", "v2", "v3"):
            machine.traffic.deploy("shop", version, ANN, strategy="direct")
    known = recall(machine.folder.measured, here.digest)
    assert known is not None
    assert (known.run_microseconds, known.memory_bytes) == (7.5, 11)
    assert recall(machine.folder.measured, there.digest) is None
    assert recall(machine.folder.measured, nowhere.digest) is None


def test_a_change_of_settings_reaches_the_folder(machine: Machine) -> None:
    with machine.serving("v1"):
        machine.registry.configure("shop", None, {"timeout_ms": 250}, who="ann")

        def timeout() -> float:
            written = machine.folder.read_plans("shop")
            assert written is not None
            assert written.active is not None
            return written.active.versions["v1"].settings.timeout_ms

        wait_until(lambda: timeout() == 250)


def test_what_labels_teach_of_how_far_intervals_reach_comes_to_the_folder(machine: Machine) -> None:
    said = Uncertainty(kind="interval", quantile=2.0, n=30)
    register(machine.registry, machine.blobs, "v1", uncertainty=said, scores=(1.0, 2.0, 3.0))

    def reach() -> float | None:
        written = machine.folder.read_plans("shop")
        assert written is not None
        assert written.active is not None
        held = written.active.versions["v1"].uncertainty
        return None if held is None else held.quantile

    with machine.agent(), FolderGateway(machine.folder).running():
        wait_until(lambda: machine.known() == ["g0"])
        generation = machine.traffic.deploy("shop", "v1", ANN, strategy="direct").generation
        assert reach() == 2.0
        machine.registry.configure("shop", None, {"adaptive_coverage": 0.01}, who="ann")
        with machine.database.write() as connection:
            level = levels.level_of(connection, "shop", "v1")
            assert level is not None
            now = datetime.now(UTC)
            levels.teach(
                connection, "shop", "v1", level, outside=0.01, quantile=9.0, labels=5, through=now, at=now
            )
        wait_until(lambda: reach() == 9.0)
        written = machine.folder.read_plans("shop")
        assert written is not None
        assert written.active is not None
        assert written.active.plan.generation == generation


def test_a_damaged_folder_is_replaced_before_a_new_generation_is_prepared(machine: Machine) -> None:
    with machine.serving("v1"):
        (manifest,) = register(machine.registry, machine.blobs, "v2")
        damaged = machine.folder.versions / manifest.digest
        damaged.mkdir()
        (damaged / "model.onnx").write_bytes(b"rubbish")
        machine.traffic.deploy("shop", "v2", ANN)
        assert (damaged / "model.onnx").read_bytes() == b"shop v2"


def test_files_that_cannot_be_had_fail_the_command_with_the_reason_and_nothing_else(machine: Machine) -> None:
    with machine.serving("v1") as gateway:
        (manifest,) = register(machine.registry, machine.blobs, "v2")
        blob = Path(machine.settings.artifacts.removeprefix("file://")) / manifest.files[0].sha256
        content = blob.read_bytes()
        blob.unlink()
        register(machine.registry, machine.blobs, "v1", model="other")
        with pytest.raises(PrepareFailed, match=f"has no blob {blob.name}"):
            machine.traffic.deploy("shop", "v2", ANN)
        assert machine.traffic.deploy("other", "v1", ANN, strategy="direct").confirmed == ["g0"]
        assert gateway.history == [("v1", 1), ("v1", 1)]
        blob.write_bytes(content)
        assert machine.traffic.deploy("shop", "v2", ANN).confirmed == ["g0"]


def test_a_gateway_that_cannot_load_is_named(machine: Machine) -> None:
    with machine.serving("v1") as gateway:
        register(machine.registry, machine.blobs, "v2")
        gateway.cannot_load["v2"] = "The file is no ONNX model."
        with pytest.raises(PrepareFailed, match=r"Gateway g0 .* The file is no ONNX model"):
            machine.traffic.deploy("shop", "v2", ANN)
        assert machine.stable() == "v1"


def test_a_gateway_that_leaves_is_forgotten_and_one_that_is_killed_falls_silent(machine: Machine) -> None:
    with machine.serving("v1"):
        with FolderGateway(machine.folder, "g1").running():
            wait_until(lambda: machine.known() == ["g0", "g1"])
        machine.folder.remove_report("g1")
        wait_until(lambda: machine.known() == ["g0"])


def test_a_report_that_a_dead_gateway_left_long_ago_is_removed(machine: Machine) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = FolderGateway(machine.folder, "dead")._report
    machine.folder.write_report(msgspec.structs.replace(left, pid=gone.pid, at=time.time() - 3600))
    with machine.serving("v1"):
        assert machine.known() == ["g0"]
        assert [report.name for report in machine.folder.read_reports()] == ["g0"]


# --- when something is away ---------------------------------------------------------------------------------


def test_the_agent_waits_for_a_database_that_is_not_migrated_yet(
    database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("fairlead.agent._PATIENCE_SECONDS", 0.3)
    machine = Machine(Settings(data=str(tmp_path / "data"), database_url=database_url))
    with machine.agent(), FolderGateway(machine.folder).running():
        wait_until(lambda: [r for r in caplog.records if "waiting" in r.message])
        machine.database.migrate()
        wait_until(lambda: machine.known() == ["g0"])
    assert len([r for r in caplog.records if r.message.startswith("waiting")]) == 1
    assert [r.message for r in caplog.records].count("following again") == 1


def test_a_new_agent_goes_on_from_database_and_folder(machine: Machine) -> None:
    with machine.serving("v1", "v2"):
        pass
    with FolderGateway(machine.folder).running() as gateway:
        assert wait_until(lambda: gateway.history) == [("v2", 2)]
        with machine.agent():
            assert machine.traffic.rollback("shop", ANN).confirmed == ["g0"]


def test_a_machine_that_comes_later_gets_what_is_active(machine: Machine) -> None:
    register(machine.registry, machine.blobs, "v1")
    machine.traffic.deploy("shop", "v1", ANN, strategy="direct")
    with machine.agent(), FolderGateway(machine.folder).running() as gateway:
        assert wait_until(lambda: gateway.history) == [("v1", 1)]


def test_an_active_version_that_cannot_be_had_is_tried_again(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairlead.rollouts.files._RETRY_SECONDS", 0.05)
    monkeypatch.setattr("fairlead.rollouts.delivery._LOOK_AGAIN_SECONDS", 0.05)
    (manifest,) = register(machine.registry, machine.blobs, "v1")
    machine.traffic.deploy("shop", "v1", ANN, strategy="direct")
    blob = Path(machine.settings.artifacts.removeprefix("file://")) / manifest.files[0].sha256
    blob.rename(blob.with_suffix(".away"))

    def error() -> str | None:
        with machine.database.read() as connection:
            return next((gateway.of("shop").error for gateway in fleet(connection)), None)

    with machine.agent(), FolderGateway(machine.folder).running() as gateway:
        assert "has no blob" in wait_until(error)
        blob.with_suffix(".away").rename(blob)
        assert wait_until(lambda: gateway.history) == [("v1", 1)]
        wait_until(lambda: error() is None)


def test_a_damaged_plans_file_is_written_anew(machine: Machine) -> None:
    with machine.serving("v1"):
        pass
    (machine.folder.plans / "shop.json").write_text('{"model": "shop", "act')
    with machine.agent():
        wait_until(lambda: b"active" in (machine.folder.plans / "shop.json").read_bytes())


# --- local overrides ----------------------------------------------------------------------------------------


def test_an_override_becomes_a_rollback_everywhere_and_is_removed(machine: Machine) -> None:
    with machine.serving("v1", "v2") as gateway:
        machine.override("v1", 2)
        wait_until(lambda: machine.stable() == "v1")
        wait_until(lambda: machine.folder.read_override("shop") is None)
        assert [version for version, _ in gateway.history] == ["v1", "v2", "v1", "v1"]
        wait_until(lambda: gateway.history[-1] == ("v1", 3))
    entry = machine.registry.audit("shop")[0]
    assert (entry.action, entry.who) == ("rollback", "night watch")
    assert entry.why == "conversions fell (local override reconciled)"


def test_an_override_that_was_made_while_the_agent_was_away_is_reconciled_when_it_is_back(
    machine: Machine,
) -> None:
    with machine.serving("v1", "v2"):
        pass
    with FolderGateway(machine.folder).running() as gateway:
        machine.override("v1", 2)
        wait_until(lambda: gateway.history[-1:] == [("v1", 2)])
        with machine.agent():
            wait_until(lambda: machine.folder.read_override("shop") is None)
        assert machine.stable() == "v1"
        assert "v2" not in [version for version, _ in gateway.history[1:]]


def test_an_override_on_an_older_generation_is_void(machine: Machine) -> None:
    with machine.serving("v1", "v2", "v3"):
        machine.override("v1", 2)
        wait_until(lambda: machine.folder.read_override("shop") is None)
        assert machine.stable() == "v3"


def test_an_override_to_what_is_served_anyway_is_removed(machine: Machine) -> None:
    with machine.serving("v1"):
        machine.override("v1", 1)
        wait_until(lambda: machine.folder.read_override("shop") is None)
        assert machine.stable() == "v1"


def test_an_override_that_is_not_signed_by_this_deployment_has_no_effect(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    with machine.serving("v1", "v2"):
        machine.override("v1", 2, secret=b"somebody else's")
        wait_until(lambda: [r for r in caplog.records if "not signed" in r.message])
        (machine.folder.overrides / "other.json").write_text("no json")
        wait_until(lambda: [r for r in caplog.records if "cannot be read" in r.message])
        assert machine.stable() == "v2"
        assert machine.folder.read_override("shop") is not None


def test_an_override_stays_until_a_gateway_has_left_what_it_fled_from(machine: Machine) -> None:
    with machine.serving("v1", "v2") as gateway:
        gateway.frozen.set()
        machine.override("v1", 2)
        wait_until(lambda: machine.stable() == "v1")
        assert machine.folder.read_override("shop") is not None
        gateway.frozen.clear()
        wait_until(lambda: machine.folder.read_override("shop") is None)


# --- the process --------------------------------------------------------------------------------------------


def test_the_process_starts_on_an_empty_folder_and_ends_with_sigterm(tmp_path: Path) -> None:
    settings = Settings(data=str(tmp_path / "data"))
    process = subprocess.Popen(
        [sys.executable, "-m", "fairlead.process", "agent"],
        env={**os.environ, RESOLVED: msgspec.json.encode(settings).decode()},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process.stderr as log:
        assert "waiting" in log.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_files_that_no_plan_names_any_more_are_swept_away_in_time(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with machine.serving("v1"):
        left = machine.folder.versions / ("f" * 64)
        left.mkdir()
        files = Agent(machine.settings)._delivery.files
        files.sweep()
        assert left.is_dir()
        monkeypatch.setattr("fairlead.rollouts.files._UNNAMED_SECONDS", -1.0)
        files.sweep()
        assert not left.exists()
        assert len(list(machine.folder.versions.iterdir())) == 1


def test_the_agent_forgets_its_machines_gateways_that_are_gone(machine: Machine) -> None:
    with machine.serving("v1"):
        with machine.database.write() as connection:
            row = connection.execute(sa.select(gateways)).mappings().one()
            connection.execute(gateways.insert().values({**row, "name": "old", "slot": 9}))
        wait_until(lambda: machine.known() == ["g0"])
    shutil.rmtree(machine.folder.root)
