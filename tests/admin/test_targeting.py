"""What comes before a split, over HTTP and from the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import uvicorn
from click.testing import CliRunner

from fairlead.cli.main import fairlead
from fairlead.rollouts.commands import Rollouts
from fairlead.rollouts.reading import read_spec
from fairlead.rollouts.traffic import Order
from tests.admin.conftest import Api
from tests.servers import free_port
from tests.waiting import wait_until

BETA = {"name": "beta", "header": "x-group", "one_of": ["beta"], "version": "v2"}


def test_rules_are_set_shown_and_taken_away(shop: Api) -> None:
    status, done = shop.call("PUT", "/models/shop/targeting", {"rules": [BETA], "why": "try"}, if_match='"1"')
    assert (status, done["generation"], done["weights"]) == (200, 2, {"v1": 100})
    _, found = shop.call("GET", "/models/shop/targeting")
    assert found == {"model": "shop", "generation": 2, "rules": [BETA], "holdout": None, "layer": None}
    _, traffic = shop.call("GET", "/models/shop/traffic")
    assert [(arm["name"], arm["version"], arm["share"]) for arm in traffic["arms"]] == [
        ("stable", "v1", 1.0),
        ("rule:beta", "v2", 0.0),
    ]
    assert (
        shop.refused("PUT", "/models/shop/targeting", {"rules": []}, if_match='"1"')[1]
        == "generation_conflict"
    )
    shop.call("PUT", "/models/shop/targeting", {"rules": []})
    assert shop.call("GET", "/models/shop/targeting")[1]["rules"] == []


@pytest.mark.parametrize(
    ("rules", "code"),
    [
        ([{"name": "r"}], "invalid_plan"),
        ([{"name": "r", "units": ["u"], "verson": "v2"}], "malformed_request"),
        ([{"name": "r", "units": "u"}], "malformed_request"),
        ([{"name": "r", "feature": "x", "above": "1"}], "malformed_request"),
        ([{"name": "r", "units": ["u"], "version": "v9"}], "version_not_found"),
        ([BETA, BETA], "invalid_plan"),
    ],
)
def test_rules_that_say_nothing_clear_are_refused(shop: Api, rules: list[Any], code: str) -> None:
    assert shop.refused("PUT", "/models/shop/targeting", {"rules": rules})[1] == code
    assert shop.call("GET", "/models/shop/targeting")[1]["generation"] == 1


def test_a_command_sent_again_under_its_key_is_carried_out_once(shop: Api) -> None:
    for _ in range(2):
        _, done = shop.call("PUT", "/models/shop/targeting", {"rules": [BETA]}, idempotency_key="k")
        assert done["generation"] == 2
    code = shop.refused("PUT", "/models/shop/targeting", {"rules": []}, idempotency_key="k")[1]
    assert code == "malformed_request"


def test_a_holdout_has_a_share_and_an_end(shop: Api) -> None:
    status, _ = shop.call("PUT", "/models/shop/holdout", {"percent": 5, "until": "2999-01-01T00:00:00Z"})
    assert status == 200
    held = shop.call("GET", "/models/shop/targeting")[1]["holdout"]
    assert (held["percent"], held["until"]) == (5, "2999-01-01T00:00:00Z")
    assert shop.refused("PUT", "/models/shop/holdout", {"percent": 100})[1] == "malformed_request"
    naive = {"percent": 5, "until": "2999-01-01T00:00:00"}
    assert shop.refused("PUT", "/models/shop/holdout", naive)[1] == "malformed_request"
    past = {"percent": 5, "until": "2000-01-01T00:00:00Z"}
    assert shop.refused("PUT", "/models/shop/holdout", past)[1] == "invalid_plan"
    shop.call("PUT", "/models/shop/holdout", {"percent": 0})
    assert shop.refused("PUT", "/models/shop/holdout", {"percent": 0})[1] == "invalid_plan"


def test_layers_are_listed_with_who_is_in_them(shop: Api) -> None:
    assert shop.call("GET", "/layers") == (200, [])
    plan = {"steps": [{"weight": 50}], "layer": "home", "traffic": 30}
    # No controller runs here: the rollout begins, and nothing moves.
    started = Rollouts(shop.database, Path("nowhere")).start("shop", "v2", read_spec(plan), Order(who="ann"))
    _, (layer,) = shop.call("GET", "/layers")
    share = {"rollout": started.rollout.id, "model": "shop", "percent": 30, "ended": False}
    assert layer == {"name": "home", "free": 70, "shares": [share]}


# --- from the command line ----------------------------------------------------------------------------------


@pytest.fixture
def address(shop: Api) -> Iterator[str]:
    """The API on a port."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(shop.app, port=port, log_level="error", lifespan="off"))
    thread = Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started, 10)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


def run(address: str, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(fairlead, [*arguments, "--admin-url", address])
    return done.exit_code, done.output


def test_the_commands_set_and_show_what_comes_before_the_split(address: str, tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(
        "rules:\n"
        "  - {name: staff, header: X-Group, one_of: [staff], version: v2}\n"
        "  - {name: pilot, units: [Zo\u00eb, u2, u3, u4, u5, u6], version: v2}\n"
        "  - {name: minors, feature: age, at_least: 12, below: 18}\n",
        "utf-8",
    )
    assert run(address, "targeting", "shop", "--set", str(file), "--why", "pilot")[0] == 0
    assert run(address, "holdout", "shop", "5", "--until", "2999-01-01")[0] == 0
    status, shown = run(address, "targeting", "shop")
    assert status == 0
    for text in (
        "staff: header x-group is one of staff → v2",
        "pilot: units Zo\u00eb, u2, u3, u4, u5 and 1 more → v2",
        "minors: feature age is at least 12 and below 18 → the version in production",
        "5 % are held out",
        "until 2999-01-01 00:00 UTC",
    ):
        assert text in shown
    status, told = run(address, "targeting", "shop", "--json")
    assert [rule["name"] for rule in json.loads(told)["rules"]] == ["staff", "pilot", "minors"]
    assert run(address, "targeting", "shop", "--clear")[0] == 0
    assert run(address, "holdout", "shop", "0")[0] == 0
    assert "has no rules" in run(address, "targeting", "shop")[1]
    assert run(address, "layers", "--json") == (0, "[]\n")


def test_wrong_usage_is_told_apart_from_what_is_refused(address: str, tmp_path: Path) -> None:
    wrong = tmp_path / "rules.yaml"
    wrong.write_text("rule: []\n", "utf-8")
    assert run(address, "targeting", "shop", "--set", str(wrong))[0] == 2
    wrong.write_text("rules: [}\n", "utf-8")
    assert run(address, "targeting", "shop", "--set", str(wrong))[0] == 2
    assert run(address, "targeting", "shop", "--set", str(wrong), "--clear")[0] == 2
    assert run(address, "holdout", "shop", "100")[0] == 2
    assert run(address, "holdout", "shop", "5", "--until", "soon")[0] == 2
    assert run(address, "holdout", "shop", "0")[0] == 1
    assert run(address, "targeting", "nothing")[0] == 1
