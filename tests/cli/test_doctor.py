"""The doctor looks at everything, changes nothing, and says what to mend."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fairlead.cli.doctor import Finding, examine
from fairlead.cli.main import fairlead
from fairlead.serving.folder import DataFolder, GatewayReport, ModelReport
from fairlead.stores.database import Database
from tests.client.listening import Answer, listening


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free_port: int) -> None:
    for name in [name for name in os.environ if name.startswith("FAIRLEAD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FAIRLEAD_PORT", "0")
    monkeypatch.setenv("FAIRLEAD_ADMIN_PORT", "0")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    return DataFolder(tmp_path / "data").make()


def found(folder: DataFolder) -> dict[str, Finding]:
    return {finding.about: finding for finding in examine({"data": str(folder.root)})}


def report(folder: DataFolder, ago: float = 0.0, **state: Any) -> None:
    """A gateway's report as it was so many seconds ago."""
    now = time.time()
    told = GatewayReport(
        name="g0", host="h", pid=1, slot=0, address="", started_at=now, at=now - ago,
        models={"iris": ModelReport(**state)},
    )  # fmt: skip
    folder.write_report(told)


def test_a_fresh_machine_is_well_and_nothing_is_made(tmp_path: Path) -> None:
    result = CliRunner().invoke(fairlead, ["doctor", "--data", str(tmp_path / "new"), "--json"])
    findings = json.loads(result.stdout)
    assert result.exit_code == 0
    assert {finding["state"] for finding in findings} == {"ok"}
    assert not (tmp_path / "new").exists()
    assert [finding["about"] for finding in findings] == [
        "python", "libraries", "settings", "data folder", "disk", "port", "admin port", "database",
        "artifacts", "gateways", "clock",
    ]  # fmt: skip


def test_an_unknown_setting_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRLEAD_WORKRES", "2")
    result = CliRunner().invoke(fairlead, ["doctor"])
    assert result.exit_code == 1
    assert "WORKRES" in result.stdout
    assert "'workers'" in result.stdout


def test_a_current_database_is_well_and_another_schema_is_not(folder: DataFolder) -> None:
    database = Database(f"sqlite:///{folder.root / 'fairlead.db'}")
    database.migrate()
    database.close()
    assert found(folder)["database"].state == "ok"
    with sqlite3.connect(folder.root / "fairlead.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'later'")
    finding = found(folder)["database"]
    assert finding.state == "failed"
    assert "fairlead migrate" in finding.remedy


def test_a_database_that_is_none_is_a_finding(folder: DataFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder.root / "fairlead.db").write_bytes(b"no database at all, however long it is" * 100)
    assert found(folder)["database"].state == "failed"
    monkeypatch.setenv("FAIRLEAD_DATABASE_URL", "mysql://somewhere")
    finding = found(folder)["database"]
    assert (finding.state, "postgresql" in finding.remedy) == ("failed", True)


def test_a_database_that_is_away_is_a_finding(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch, free_port: int
) -> None:
    monkeypatch.setenv("FAIRLEAD_DATABASE_URL", f"postgresql://u:secret@127.0.0.1:{free_port}/x")
    finding = found(folder)["database"]
    assert finding.state == "failed"
    assert "secret" not in finding.found
    assert found(folder)["clock"].state == "failed"


def test_the_clock_is_compared_with_that_of_postgresql(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch, postgres_url: str
) -> None:
    monkeypatch.setenv("FAIRLEAD_DATABASE_URL", postgres_url)
    finding = found(folder)["clock"]
    assert finding.state == "ok"
    assert "the database's" in finding.found


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_port_that_another_program_has_is_named(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch, taken_port: int
) -> None:
    monkeypatch.setenv("FAIRLEAD_PORT", str(taken_port))
    monkeypatch.setattr("fairlead.cli.doctor._ANSWER_SECONDS", 0.1)
    finding = found(folder)["port"]
    assert finding.state == "failed"
    assert str(taken_port) in finding.found


def test_a_port_that_a_fairlead_has_is_well(folder: DataFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(lambda asked: Answer(200, {"status": "live"})) as server:
        monkeypatch.setenv("FAIRLEAD_ADMIN_PORT", server.url.rpartition(":")[2])
        finding = found(folder)["admin port"]
    assert finding.state == "ok"
    assert "a Fairlead answers" in finding.found
    assert server.asked[0].path == "/health/live"


def test_live_silent_overridden_and_failing_gateways_are_told_apart(folder: DataFolder) -> None:
    report(folder, active=3)
    assert (found(folder)["gateways"].state, "1 live: g0" in found(folder)["gateways"].found) == ("ok", True)
    report(folder, active=3, override="v1")
    assert "iris is overridden to v1" in found(folder)["gateways"].found
    report(folder, active=3, failed_generation=4, error="The file is damaged.")
    assert found(folder)["gateways"].state == "failed"
    report(folder, ago=60, active=3)
    assert (found(folder)["gateways"].state, "silent: g0" in found(folder)["gateways"].found) == (
        "warning",
        True,
    )


def test_a_clock_that_went_back_is_noticed(folder: DataFolder) -> None:
    report(folder, ago=-3_600)
    assert found(folder)["clock"].state == "failed"


def test_a_secret_that_others_can_read_is_a_warning(folder: DataFolder) -> None:
    folder.secret()
    assert found(folder)["data folder"].state == "ok"
    (folder.root / "secret").chmod(0o644)
    assert "chmod 600" in found(folder)["data folder"].remedy


def test_a_file_in_the_folders_place_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    assert found(DataFolder(tmp_path / "data"))["data folder"].state == "failed"


def test_warnings_alone_leave_the_status_at_0(folder: DataFolder) -> None:
    report(folder, ago=60)
    result = CliRunner().invoke(fairlead, ["doctor", "--data", str(folder.root)])
    assert result.exit_code == 0
    assert "silent: g0" in result.stdout
