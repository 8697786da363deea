"""Control is killed while it judges a version: nobody takes that for a verdict, and nothing is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fairlead
from fairlead.client.admin import Admin
from fairlead.client.gates import GateRun
from fairlead.contracts.contract import Contract, Field, Output
from fairlead.contracts.document import to_toml
from fairlead.errors import GateClosed
from tests.servers import Servers
from tests.waiting import wait_until

pytestmark = pytest.mark.drill

CONTRACT = Contract(inputs=(Field(name="x", type="float"),), output=Output(kind="number"))
SLOWLY = "import time\ndef model(columns):\n    time.sleep(0.3)\n    return {'value': columns['x'] * 2}\n"
AT_ONCE = "def model(columns):\n    return {'value': columns['x'] * 2}\n"
GATE = {"data": "rows.csv", "target": "y", "metrics": [{"name": "mae", "margin": 0.1}]}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """One Fairlead with three versions of a pickle, the second of which takes its time."""
    folder = tmp_path_factory.mktemp("gates")
    (folder / "rows.csv").write_text("x,y\n" + "".join(f"{n},{2 * n}\n" for n in range(400)))
    with Servers(folder / "data", "--trust-pickle", workers=1) as running:
        for version, source in (("v1", AT_ONCE), ("v2", SLOWLY), ("v3", AT_ONCE)):
            place = folder / version
            place.mkdir()
            (place / "doubling.py").write_text(source)
            (place / "model.pkl").write_bytes(b"cdoubling\nmodel\n.")
            fairlead.register(
                place, "shop", version, contract=to_toml(CONTRACT), trust_pickle=True,
                set_production=version == "v1", admin_url=running.admin_url,
            )  # fmt: skip
        yield running


@pytest.fixture
def admin(servers: Servers) -> Iterator[Admin]:
    with Admin(servers.admin_url) as client:
        yield client


def ended(admin: Admin, version: str, gate: dict[str, Any], rows: Path) -> GateRun:
    run = admin.run_gate("shop", version, gate, data=rows)
    return wait_until(lambda: found if (found := admin.gate("shop", run.id)).over else None, 60)


def test_a_killed_gate_is_interrupted_and_never_passed_and_the_next_one_works(
    servers: Servers, admin: Admin
) -> None:
    place = servers.folder.root.parent
    (place / "gate.json").write_text(json.dumps(GATE))
    admin.configure("shop", None, {"gate_required": True})
    waiting = subprocess.Popen(
        [sys.executable, "-m", "fairlead", "gate", "shop", "v2", "--file", str(place / "gate.json")],
        env=servers.environment | {"FAIRLEAD_ADMIN_URL": servers.admin_url},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        # Production has answered in a moment: what scores for so long is the candidate.
        (run,) = wait_until(lambda: [one for one in admin.gates("shop") if one.state == "running"], 30)
        asked = wait_until(servers.scoring, 30)
        control = servers.pid_of("control")
        os.kill(control, signal.SIGKILL)
        said, _ = waiting.communicate(timeout=60)
    finally:
        waiting.kill()
        waiting.wait()
    assert waiting.returncode == 1, said
    assert "passes" not in said
    wait_until(lambda: not servers.scoring())
    assert not any(process.is_running() and process.status() != "zombie" for process in asked)

    states: list[str] = []

    def over() -> GateRun | None:
        try:
            found = admin.gate("shop", run.id)
        except fairlead.FairleadError:  # the next control is starting
            return None
        states.append(found.state)
        return found if found.over else None

    found = wait_until(over, 60)
    assert (found.state, found.report) == ("interrupted", None)
    assert {*states} <= {"running", "interrupted"}
    assert servers.pid_of("control") != control
    with pytest.raises(GateClosed):
        admin.deploy("shop", "v2", strategy="blue-green")

    after = ended(admin, "v3", GATE, place / "rows.csv")
    assert (after.state, after.against) == ("passed", "v1"), after.reason
    admin.deploy("shop", "v3", strategy="blue-green")
    assert [one.state for one in admin.gates("shop")] == ["passed", "interrupted"]
    wait_until(lambda: not servers.scoring())
    assert not [*servers.folder.run.glob("gate-*"), *servers.folder.run.glob("score-*")]
