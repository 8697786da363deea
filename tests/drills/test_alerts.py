"""A model that begins to fail, or to be slow: somebody is told, at once and once, and told when it is over.

The seconds from the onset to the receiver are printed (`pytest -s`).
"""

from __future__ import annotations

import json
import os
import signal
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
clear_seconds = 1
clear = 2
[rules.latency]
clear_seconds = 1
clear = 2
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
        status = servers.said("status").stdout
        assert "1 alert fires" in status or "alerts fire" in status
        shown = servers.said("alerts", "show", message["alerts"][0]["id"]).stdout
        assert "fairlead rollback shop" in shown
        servers.said("alerts", "ack", message["alerts"][0]["id"], "--why", "größe 💶")
        assert "attends to it since" in servers.said("alerts", "show", message["alerts"][0]["id"]).stdout
        (folder / "ill").unlink()
        wait_until(lambda: listen("resolved"), 60)
    assert len(heard("firing")) == len(heard("resolved")) == 1
    with fairlead.Admin(servers.admin_url) as admin:
        details = admin.alert(message["alerts"][0]["id"])
    assert details.alert.standing == "resolved"
    assert [one.told for one in details.events if one.told] == ["resolved", "firing"]


def test_a_change_of_the_file_is_taken_while_control_runs_and_a_broken_one_is_not(
    servers: Servers, folder: Path
) -> None:
    file = folder / "alerts.toml"
    file.write_text(ALERTS + '["größe"]\n')
    wait_until(lambda: "is not followed" in servers.said("alerts").stdout, 30)
    assert "größe" in servers.said("status").stdout
    assert "$OPS_URL" in servers.said("alerts", "channels").stdout, "what was in force stays so"
    file.write_text(ALERTS.replace("[channels.ops]", "[channels.others]"))
    os.kill(servers.pid_of("control"), signal.SIGHUP)
    wait_until(lambda: "others" in servers.said("alerts", "channels").stdout, 30)
    assert "is not followed" not in servers.said("alerts").stdout
    assert "others has taken it" in servers.said("alerts", "test", "others").stdout
    file.write_text(ALERTS)
    wait_until(lambda: "ops" in servers.said("alerts", "channels").stdout, 30)


def test_the_commands_of_alerts_say_who_is_told_and_silence_by_name(
    servers: Servers, receiver: Receiver
) -> None:
    before = len(receiver.posts)
    assert "ops has taken it" in servers.said("alerts", "test", "ops").stdout
    assert len(receiver.posts) == before + 1
    refused = servers.said("alerts", "test", "opps", check=False)
    assert (refused.exit_code, "There are log, ops" in refused.stderr) == (1, True)
    rules = {one["rule"]["name"]: one for one in json.loads(servers.said("alerts", "rules", "--json").stdout)}
    assert rules["errors"]["channels"] == ["log", "ops"]
    assert "latency" in servers.said("alerts", "rules").stdout
    assert "$OPS_URL" in servers.said("alerts", "channels").stdout
    wrong = servers.said("alerts", "silence", "--for", "soon", "--why", "x", check=False)
    assert (wrong.exit_code, "no span of time" in wrong.stderr) == (2, True)
    arguments = ("--model", "shop", "--rule", "lat*", "--for", "2h", "--why", "größe 💶")
    made = json.loads(servers.said("alerts", "silence", *arguments, "--json").stdout)
    assert "größe 💶" in servers.said("alerts", "silences").stdout
    ended = json.loads(servers.said("alerts", "unsilence", made["id"], "--json").stdout)
    assert ended["ended_at"] is not None
    assert "Nothing is silenced" in servers.said("alerts", "silences").stdout
    assert servers.said("alerts", "show", "none", check=False).exit_code == 1
    assert servers.said("alerts", "nosuchmodel", check=False).exit_code == 1
    metrics = urllib.request.urlopen(f"{servers.url}/metrics", timeout=5).read().decode()
    assert "# TYPE fairlead_alerts_firing gauge" in metrics
