"""A gate that fails, or a version that is archived, while its rollout is under way."""

from __future__ import annotations

import pytest

from fairlead.errors import GateClosed, InUse
from fairlead.gate import ledger as gates
from fairlead.gate.spec import GateSpec
from fairlead.rollouts.reading import read_spec
from fairlead.rollouts.traffic import Order
from tests.rollouts.running import ANN, Shop

DECIDED = Order(who="ann", override="the rows of the gate are a year old")


def judged(shop: Shop, state: gates.State, version: str = "v2") -> None:
    with shop.database.write() as connection:
        gates.add(
            connection, model="shop", version=version, against="v1", spec=GateSpec(), data_digest=None,
            now=shop.now, who="ci", why="", state=state,
        )  # fmt: skip


def test_a_candidate_whose_gate_fails_keeps_what_it_has_until_a_later_run_passes(shop: Shop) -> None:
    rollout = shop.start().rollout
    judged(shop, "failed")
    shop.serve(4_000)
    shop.first.look()
    assert (shop.entry(rollout.id).rollout.step, shop.weights()) == (0, {"v1": 95.0, "v2": 5.0})
    assert "gate of 'shop' is closed for 'v2'" in (shop.rollouts.get("shop", None).held or "")
    judged(shop, "passed")
    shop.first.look()
    assert shop.weights() == {"v1": 50.0, "v2": 50.0}
    assert shop.rollouts.get("shop", None).held is None


@pytest.mark.parametrize("name", ["widen", "promote"])
def test_people_go_past_a_gate_that_failed_meanwhile_only_with_a_reason(shop: Shop, name: str) -> None:
    shop.start()
    judged(shop, "failed")
    with pytest.raises(GateClosed, match="'v2'"):
        shop.rollouts.command("shop", name, ANN)  # type: ignore[arg-type]
    assert shop.weights() == {"v1": 95.0, "v2": 5.0}
    shop.rollouts.command("shop", name, DECIDED)  # type: ignore[arg-type]
    shop.first.look()
    assert shop.weights() == ({"v1": 50.0, "v2": 50.0} if name == "widen" else {"v2": 100.0})


def test_a_failed_gate_keeps_nobody_from_going_back(shop: Shop) -> None:
    rollout = shop.start().rollout
    judged(shop, "failed")
    shop.serve(400, canary_errors=200)
    shop.first.look()
    assert shop.entry(rollout.id).rollout.state == "rolled_back"
    shop.start("v3")
    judged(shop, "failed", "v3")
    shop.rollouts.command("shop", "abort", ANN)
    shop.first.look()
    assert shop.weights() == {"v1": 100.0}


def test_a_gate_that_fails_before_the_first_step_lets_nothing_begin(shop: Shop) -> None:
    entry = shop.rollouts.start("shop", "v2", read_spec({"steps": [{"weight": 5}]}), ANN)
    judged(shop, "failed")
    shop.first.look()
    assert (shop.entry(entry.rollout.id).rollout.state, shop.weights()) == ("pending", {"v1": 100.0})
    judged(shop, "overridden")
    shop.first.look()
    assert shop.weights() == {"v1": 95.0, "v2": 5.0}


def test_a_candidate_that_sees_traffic_cannot_be_archived_nor_the_version_beside_it(shop: Shop) -> None:
    shop.start()
    for version in ("v1", "v2"):
        with pytest.raises(InUse, match=version):
            shop.registry.archive("shop", version, who="ann")


def test_a_candidate_that_was_archived_before_its_first_step_moves_nothing(shop: Shop) -> None:
    entry = shop.rollouts.start("shop", "v2", read_spec({"steps": [{"weight": 5}]}), ANN)
    shop.registry.archive("shop", "v2", who="ann")
    shop.first.look()
    assert (shop.entry(entry.rollout.id).rollout.state, shop.weights()) == ("rolled_back", {"v1": 100.0})
    reasons = [event.reason for event in shop.rollouts.get("shop", entry.rollout.id).journal]
    assert "Version 'v2' is archived." in reasons


def test_a_candidate_that_fails_goes_back_to_a_version_that_was_archived_during_the_bake(shop: Shop) -> None:
    rollout = shop.start(spec=read_spec({"strategy": "blue-green", "bake": "10m"})).rollout
    shop.registry.archive("shop", "v1", who="ann")
    shop.serve(1_000, canary_errors=100)
    shop.first.look()
    assert shop.entry(rollout.id).rollout.state == "rolled_back"
    assert shop.weights() == {"v1": 100.0}
    stages = {version.version: version.stage for version in shop.registry.versions("shop")}
    assert stages["v1"] == "production"
