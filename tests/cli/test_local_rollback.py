"""A rollback on one machine, with nothing but its data folder and its gateways."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from fairlead.cli.local_rollback import roll_back_locally
from fairlead.cli.main import fairlead
from fairlead.errors import InvalidSetting, ModelNotFound, NothingToRollBack, VersionNotFound
from fairlead.registry.versions import VersionSpec
from fairlead.routing.plan import Plan
from fairlead.serving.folder import DataFolder, ModelPlans
from tests.gateways import FolderGateway
from tests.models import data_folder, lay_plan, lay_version, plan_of
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> list[VersionSpec]:
    folder = data_folder(tmp_path_factory.mktemp("versions"))
    return [lay_version(folder, name, name.encode()) for name in ("v1", "v2", "v3")]


@pytest.fixture
def folder(tmp_path: Path, specs: list[VersionSpec]) -> DataFolder:
    """v2 is in production at generation 5, v1 is kept for a rollback, and v3 is a canary."""
    found = data_folder(tmp_path)
    lay_plan(found, split(), *specs, keep=("v1",))
    return found


def split() -> Plan:
    return plan_of({"stable": ("v2", "stable", 90), "canary": ("v3", "canary", 10)}, generation=5)


def whole() -> Plan:
    return plan_of({"stable": ("v2", "stable", 100)}, generation=5)


def back(folder: DataFolder, to: str | None = None, seconds: float = 5.0):  # type: ignore[no-untyped-def]
    return roll_back_locally(folder, "iris", to=to, who="ops", why="it is night", seconds=seconds)


def test_a_split_ends_in_favour_of_the_version_in_production(folder: DataFolder) -> None:
    gateways = [FolderGateway(folder, name) for name in ("g0", "g1")]
    with gateways[0].running(), gateways[1].running():
        done = back(folder)
    assert (done.version, done.generation) == ("v2", 5)
    assert done.confirmed == ["g0", "g1"]
    assert done.unconfirmed == []
    assert gateways[1].history[-1] == ("v2", 5)


def test_without_a_split_it_goes_back_to_the_version_that_is_kept(
    folder: DataFolder, specs: list[VersionSpec]
) -> None:
    lay_plan(folder, whole(), *specs[:2], keep=("v1",))
    with FolderGateway(folder).running():
        assert back(folder).version == "v1"
        assert back(folder).version == "v1"  # and a second time does not toggle


def test_the_override_is_signed_with_who_and_why(folder: DataFolder) -> None:
    back(folder)
    override = folder.read_override("iris")
    assert override is not None
    assert override.verifies(folder.secret())
    assert (override.who, override.why, override.base_generation) == ("ops", "it is night", 5)
    assert not msgspec.structs.replace(override, version="v3").verifies(folder.secret())


def test_any_loaded_version_may_be_named(folder: DataFolder) -> None:
    with FolderGateway(folder).running():
        assert back(folder, to="v3").version == "v3"


def test_a_version_that_is_not_loaded_here_is_refused(folder: DataFolder) -> None:
    with pytest.raises(VersionNotFound, match="'v9'") as refused:
        back(folder, to="v9")
    assert "v1, v2, v3" in refused.value.remedy
    assert folder.read_override("iris") is None


def test_nothing_to_go_back_to_is_refused(folder: DataFolder, specs: list[VersionSpec]) -> None:
    lay_plan(folder, whole(), specs[1])
    with pytest.raises(NothingToRollBack):
        back(folder)
    folder.write_plans(ModelPlans(model="iris"))
    with pytest.raises(NothingToRollBack, match="no traffic"):
        back(folder)


@pytest.mark.parametrize("name", ["irsi", "../plans/iris", ""])
def test_a_model_that_is_not_served_here_is_refused(folder: DataFolder, name: str) -> None:
    with pytest.raises(ModelNotFound):
        roll_back_locally(folder, name, to=None, who="", why="", seconds=0)


def test_a_folder_that_is_no_data_folder_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="no Fairlead data folder"):
        back(DataFolder(tmp_path / "nothing"))
    assert not (tmp_path / "nothing").exists()


def test_a_gateway_that_does_not_follow_is_named(folder: DataFolder) -> None:
    quick, stuck = FolderGateway(folder, "g0"), FolderGateway(folder, "g1")
    with quick.running(), stuck.running():
        wait_until(lambda: {report.name for report in folder.read_reports()} == {"g0", "g1"})
        stuck.frozen.set()
        done = back(folder, seconds=0.3)
    assert done.confirmed == ["g0"]
    assert done.unconfirmed == ["g1"]


def test_the_agent_may_be_quicker_and_make_a_plan_of_it(folder: DataFolder, specs: list[VersionSpec]) -> None:
    gateway = FolderGateway(folder)

    def reconcile() -> None:
        """The override becomes generation 6 before the gateway has looked."""
        wait_until(lambda: folder.read_override("iris"))
        lay_plan(folder, plan_of({"stable": ("v2", "stable", 100)}, generation=6), *specs)
        folder.remove_override("iris")
        gateway.frozen.clear()

    with gateway.running():
        wait_until(lambda: gateway.history == [("v2", 5)])
        gateway.frozen.set()
        agent = threading.Thread(target=reconcile)
        agent.start()
        done = back(folder)
        agent.join()
    assert (done.version, done.confirmed) == ("v2", ["g0"])
    assert gateway.history == [("v2", 5), ("v2", 6)]


def test_the_command_needs_no_server_and_says_who_confirmed(folder: DataFolder) -> None:
    arguments = ["rollback", "iris", "--local", "--to", "v1", "--data", str(folder.root)]
    with FolderGateway(folder).running():
        said = CliRunner().invoke(fairlead, arguments)
        told = CliRunner().invoke(fairlead, [*arguments, "--json"])
    assert said.exit_code == told.exit_code == 0
    assert "g0" in said.stdout
    assert json.loads(told.stdout)["confirmed"] == ["g0"]


def test_the_status_is_3_when_no_gateway_is_there_to_confirm(folder: DataFolder) -> None:
    result = CliRunner().invoke(fairlead, ["rollback", "iris", "--local", "--data", str(folder.root)])
    assert result.exit_code == 3
    assert "No gateway is live" in result.stdout
    assert folder.read_override("iris") is not None
