"""A model that begins to fail, or to be slow: somebody is told, at once and once, and told when it is over.

The seconds from the onset to the receiver are printed (`pytest -s`).
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fairlead
from tests.alerts.receiver import Receiver
from tests.drills.ailing_model import Ailing
from tests.drills.load import Load
from tests.servers import Servers
from tests.waiting import wait_until

pytestmark = pytest.mark.drill

ROOT = str(Path(__file__).parent.parent.parent)
ALERTS = """
[rules.errors]
clear_seconds = 5
clear = 3
[rules.latency]
clear_seconds = 5
clear = 3
[limits]
p99_ms = 150
[channels.ops]
type = "webhook"
url_env = "OPS_URL"
[delivery]
hosts = ["127.0.0.1"]
private = ["127.0.0.0/8"]
"""


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("alerts")


@pytest.fixture(scope="module")
def servers(folder: Path, receiver: Receiver) -> Iterator[Servers]:
    (folder / "alerts.toml").write_text(ALERTS)
    own = {"FAIRLEAD_ALERTS_FILE": str(folder / "alerts.toml"), "OPS_URL": receiver.url, "PYTHONPATH": ROOT}
    with Servers(folder / "data", "--trust-pickle", workers=2, **own) as running:
        fairlead.register(
            Ailing(str(folder / "ill")), "shop", "v1", reference={"x": np.arange(20, dtype=float)},
            trust_pickle=True, set_production=True, admin_url=running.admin_url,
        )  # fmt: skip
        with fairlead.Admin(running.admin_url) as admin:
            admin.configure("shop", None, {"cache_seconds": 0})
        yield running


@pytest.mark.parametrize(
    ("illness", "rule", "within"), [("fail", "errors", "failed answers"), ("0.3", "latency", "p99")]
)
def test_who_is_to_be_told_hears_of_it_once_and_that_it_is_over(
    servers: Servers, receiver: Receiver, folder: Path, illness: str, rule: str, within: str
) -> None:
    def heard(told: str) -> list[tuple[float, Any]]:
        return [
            (at, one) for at, one in list(arrived.items())
            if (one["rule"], one["told"]) == (rule, told)
        ]  # fmt: skip

    arrived: dict[float, Any] = {}
    seen = 0

    def listen(told: str) -> bool:
        nonlocal seen
        messages = receiver.messages()
        for message in messages[seen:]:
            arrived[time.monotonic()] = message
        seen = len(messages)
        return bool(heard(told))

    seen = len(receiver.posts)
    with Load(servers.port, "/v1/models/shop/predict", {"x": 1.0}, callers=4) as load:
        wait_until(lambda: len(load.answered) > 200, 30)
        onset = time.monotonic()
        (folder / "ill").write_text(illness)
        wait_until(lambda: listen("firing"), 30)
        ((at, message),) = heard("firing")
        print(f"\n{rule}: told {at - onset:.2f} s after the onset")
        assert [one["finding"]["subject"] for one in message["alerts"]] == [within]
        assert message["model"] == "shop"
        status = servers.cli("status").stdout
        assert "1 alert fires" in status or "alerts fire" in status
        shown = servers.cli("alerts", "show", message["alerts"][0]["id"]).stdout
        assert "fairlead rollback shop" in shown
        (folder / "ill").unlink()
        wait_until(lambda: listen("resolved"), 60)
    assert len(heard("firing")) == len(heard("resolved")) == 1
    with fairlead.Admin(servers.admin_url) as admin:
        details = admin.alert(message["alerts"][0]["id"])
    assert details.alert.standing == "resolved"
    assert [one.told for one in details.events if one.told] == ["resolved", "firing"]


def test_the_commands_of_alerts_say_who_is_told_and_silence_by_name(
    servers: Servers, receiver: Receiver
) -> None:
    before = len(receiver.posts)
    assert "ops has taken it" in servers.cli("alerts", "test", "ops").stdout
    assert len(receiver.posts) == before + 1
    refused = servers.cli("alerts", "test", "opps", check=False)
    assert (refused.returncode, "There are log, ops" in refused.stderr) == (1, True)
    rules = {one["rule"]["name"]: one for one in json.loads(servers.cli("alerts", "rules", "--json").stdout)}
    assert rules["errors"]["channels"] == ["log", "ops"]
    assert "latency" in servers.cli("alerts", "rules").stdout
    assert "$OPS_URL" in servers.cli("alerts", "channels").stdout
    wrong = servers.cli("alerts", "silence", "--for", "soon", "--why", "x", check=False)
    assert (wrong.returncode, "no span of time" in wrong.stderr) == (2, True)
    arguments = ("--model", "shop", "--rule", "lat*", "--for", "2h", "--why", "größe 💶")
    made = json.loads(servers.cli("alerts", "silence", *arguments, "--json").stdout)
    assert "größe 💶" in servers.cli("alerts", "silences").stdout
    ended = json.loads(servers.cli("alerts", "unsilence", made["id"], "--json").stdout)
    assert ended["ended_at"] is not None
    assert "Nothing is silenced" in servers.cli("alerts", "silences").stdout
    assert servers.cli("alerts", "show", "none", check=False).returncode == 1
    assert servers.cli("alerts", "nosuchmodel", check=False).returncode == 1
    metrics = urllib.request.urlopen(f"{servers.url}/metrics", timeout=5).read().decode()
    assert "# TYPE fairlead_alerts_firing gauge" in metrics
