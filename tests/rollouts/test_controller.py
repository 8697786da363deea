"""Rollouts on real databases: widened while the candidate does well, rolled back when it does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fairlead.errors import (
    InvalidRollout,
    MalformedRequest,
    RolloutInProgress,
    RolloutNotFound,
    StoreUnavailable,
    VersionNotFound,
)
from fairlead.rollouts import ledger
from fairlead.rollouts.controller import Controller
from fairlead.rollouts.reading import preset, read_spec
from fairlead.rollouts.traffic import Order
from fairlead.routing import plans
from fairlead.stores.blobs import Blobs
from fairlead.stores.database import Database
from fairlead.telemetry.counters import ArmKey
from tests.rollouts.fakes import FakeFleet
from tests.rollouts.running import ANN, STEPS, Shop
from tests.rollouts.shop import register
from tests.waiting import wait_until


def test_a_candidate_that_does_well_gets_everything_step_by_step(shop: Shop) -> None:
    rollout = shop.start().rollout
    assert (rollout.state, rollout.step) == ("canary", 0)
    assert shop.weights() == {"v1": 95.0, "v2": 5.0}
    shop.first.look()
    assert shop.weights() == {"v1": 95.0, "v2": 5.0}, "nobody has asked anything yet"
    shop.serve(4_000)
    shop.first.look()
    assert shop.weights() == {"v1": 50.0, "v2": 50.0}
    shop.serve(4_000)
    shop.first.look()
    assert shop.weights() == {"v2": 100.0}
    assert shop.entry(rollout.id).rollout.state == "baking"
    shop.serve(1_000, seconds=130)
    shop.first.look()
    assert shop.entry(rollout.id).rollout.state == "succeeded"
    assert shop.journal(rollout.id) == [
        "preflight", "canary", "canary", "canary", "canary", "promoting", "promoting", "baking", "succeeded"
    ]  # fmt: skip


def test_a_candidate_that_fails_is_rolled_back_and_its_journal_says_why(shop: Shop) -> None:
    rollout = shop.start().rollout
    shop.serve(400, canary_errors=40, seconds=5)
    shop.first.look()
    assert shop.entry(rollout.id).rollout.state == "rolled_back"
    assert shop.weights() == {"v1": 100.0}
    with shop.database.read() as connection:
        aborting, back = ledger.events(connection, rollout.id)[-2:]
    assert "error_rate is 10 % for the candidate" in aborting.reason
    assert aborting.evidence["observation"]["canary"]["failures"] == 40
    assert back.generation == 3
    shop.first.look()
    assert shop.weights() == {"v1": 100.0}


def test_a_candidate_that_fails_on_copies_never_answers_anybody(shop: Shop) -> None:
    rollout = shop.start(spec=preset(shadow=True)).rollout
    assert (rollout.state, shop.weights()) == ("shadow", {"v1": 100.0})
    shop.serve(400, canary_errors=40, seconds=5)
    shop.first.look()
    assert shop.entry(rollout.id).rollout.state == "rolled_back"
    assert shop.weights() == {"v1": 100.0}
    assert shop.journal(rollout.id) == ["preflight", "shadow", "shadow", "aborting", "rolled_back"]


def test_copies_that_did_well_are_followed_by_the_canary(shop: Shop) -> None:
    rollout = shop.start(spec=preset(shadow=True)).rollout
    shop.serve(4_000, seconds=601)
    shop.first.look()
    found = shop.entry(rollout.id).rollout
    assert (found.state, found.step, shop.weights()) == ("canary", 1, {"v1": 99.0, "v2": 1.0})


def test_what_was_counted_before_a_step_says_nothing_of_it(shop: Shop) -> None:
    shop.block.row(ArmKey("shop", "v2", "canary", "canary")).answered("failed", 0.001, 5_000)
    rollout = shop.start().rollout
    shop.serve(4_000)
    shop.first.look()
    assert shop.entry(rollout.id).rollout.step == 1


def test_a_candidate_that_fails_after_it_got_everything_goes_back_to_the_version_before(shop: Shop) -> None:
    rollout = shop.start(spec=read_spec({"strategy": "blue-green", "bake": "10m"})).rollout
    assert shop.weights() == {"v2": 100.0}
    shop.serve(1_000, canary_errors=100)
    shop.first.look()
    assert shop.entry(rollout.id).rollout.state == "rolled_back"
    assert shop.weights() == {"v1": 100.0}


def test_a_version_that_no_gateway_can_load_moves_nothing_and_is_rolled_back(
    database: Database, blobs: Blobs, tmp_path: Path
) -> None:
    shop = Shop(database, blobs, tmp_path)
    fleet = FakeFleet(database, "g0")
    fleet.cannot_load["v2"] = "out of memory"
    with fleet.running():
        shop.traffic().deploy("shop", "v1", ANN, strategy="direct")
        rollout = shop.start().rollout
        assert shop.entry(rollout.id).rollout.state == "rolled_back"
        assert shop.weights() == {"v1": 100.0}
        with database.read() as connection:
            reasons = [event.reason for event in ledger.events(connection, rollout.id)]
    assert any("out of memory" in reason for reason in reasons)


@pytest.mark.parametrize("name", ["pause", "widen", "promote", "abort"])
def test_people_may_command_a_rollout(shop: Shop, name: Any) -> None:
    rollout = shop.start().rollout
    shop.rollouts.command("shop", name, ANN)
    shop.first.look()
    expected = {
        "pause": ("paused", {"v1": 95.0, "v2": 5.0}),
        "widen": ("canary", {"v1": 50.0, "v2": 50.0}),
        "promote": ("baking", {"v2": 100.0}),
        "abort": ("rolled_back", {"v1": 100.0}),
    }
    assert (shop.entry(rollout.id).rollout.state, shop.weights()) == expected[name]


def test_a_paused_rollout_does_not_go_on_but_is_still_rolled_back(shop: Shop) -> None:
    rollout = shop.start().rollout
    shop.rollouts.command("shop", "pause", ANN)
    shop.serve(4_000)
    shop.first.look()
    assert shop.weights() == {"v1": 95.0, "v2": 5.0}
    shop.serve(400, canary_errors=200)
    shop.first.look()
    assert shop.entry(rollout.id).rollout.state == "rolled_back"


def test_a_rollback_by_hand_ends_the_rollout_and_other_commands_are_refused_beside_it(shop: Shop) -> None:
    rollout = shop.start().rollout
    with pytest.raises(RolloutInProgress, match=rollout.id):
        shop.traffic().set_weights("shop", {"v1": 50, "v2": 50}, ANN)
    with pytest.raises(RolloutInProgress):
        shop.rollouts.start("shop", "v3", STEPS, ANN)
    shop.traffic().rollback("shop", ANN)
    assert shop.entry(rollout.id).rollout.state == "rolled_back"
    shop.first.look()
    assert shop.weights() == {"v1": 100.0}


def test_a_rollout_that_supersedes_another_begins_at_its_own_first_step(shop: Shop) -> None:
    first = shop.start().rollout
    second = shop.start("v3", supersede=True).rollout
    assert shop.entry(first.id).rollout.state == "superseded"
    assert shop.weights() == {"v1": 95.0, "v3": 5.0}
    assert second.state == "canary"


def test_what_cannot_be_rolled_out_is_refused(shop: Shop) -> None:
    with pytest.raises(InvalidRollout, match="in production already"):
        shop.rollouts.start("shop", "v1", STEPS, ANN)
    with pytest.raises(VersionNotFound, match="v22"):
        shop.rollouts.start("shop", "v22", STEPS, ANN)
    register(shop.registry, shop.registry.blobs, "v1", model="new")
    with pytest.raises(InvalidRollout, match="compared"):
        shop.rollouts.start("new", "v1", preset(), ANN)
    with pytest.raises(RolloutNotFound):
        shop.rollouts.command("shop", "pause", ANN)


def test_a_start_that_is_said_again_under_its_key_begins_one_rollout(shop: Shop) -> None:
    order = Order(who="ann", key="k1")
    first = shop.rollouts.start("shop", "v2", STEPS, order)
    shop.first.look()
    assert shop.rollouts.start("shop", "v2", STEPS, order).rollout.id == first.rollout.id
    with pytest.raises(MalformedRequest, match="another command"):
        shop.rollouts.start("shop", "v3", STEPS, order)


class Killed(BaseException):
    """What a controller that is killed at this point never sees."""


@contextmanager
def killed_at(monkeypatch: pytest.MonkeyPatch, place: Any, name: str, *, after: bool) -> Iterator[None]:
    """Within the block that function ends its controller, before it does its work or right after."""
    real: Callable[..., Any] = getattr(place, name)

    def deadly(*arguments: Any, **named: Any) -> Any:
        if after:
            real(*arguments, **named)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(place, name, deadly)
        yield


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    ("place", "name"),
    [(ledger, "hold"), (ledger, "move"), (plans, "propose"), (plans, "activate"), (Controller, "_write")],
    ids=lambda value: getattr(value, "__name__", value),
)
@pytest.mark.parametrize("bad", [False, True], ids=["goes on", "rolls back"])
def test_another_controller_finishes_what_a_killed_one_began(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, place: Any, name: str, after: bool, bad: bool
) -> None:
    rollout = shop.start().rollout
    shop.serve(4_000, canary_errors=400 if bad else 0)
    with killed_at(monkeypatch, place, name, after=after), pytest.raises(Killed):
        shop.first.look()
    other = shop.controller("second")
    other.look()
    shop.now += timedelta(seconds=11)  # the lease of the first is over
    other.look()
    found = shop.entry(rollout.id).rollout
    assert (found.state, found.step) == (("rolled_back", 0) if bad else ("canary", 1))
    assert shop.weights() == ({"v1": 100.0} if bad else {"v1": 50.0, "v2": 50.0})
    with closing(shop.database.watch()), shop.database.read() as connection:
        revisions = [event.revision for event in ledger.events(connection, rollout.id)]
    assert revisions == list(range(1, len(revisions) + 1))
    states = shop.journal(rollout.id)
    assert states.count("rolled_back") == int(bad)


def test_a_control_that_starts_leaves_alone_what_another_one_is_preparing_for_a_rollout(
    database: Database, blobs: Blobs, tmp_path: Path
) -> None:
    shop, fleet = Shop(database, blobs, tmp_path), FakeFleet(database, "g0")
    with fleet.running(), ThreadPoolExecutor(1) as aside:
        shop.traffic().deploy("shop", "v1", ANN, strategy="direct")
        rollout = shop.start().rollout
        fleet.holding.set()
        shop.rollouts.command("shop", "widen", ANN)
        looking = aside.submit(shop.first.look)
        wait_until(lambda: pending(database))
        assert shop.traffic().recover() == []
        fleet.holding.clear()
        looking.result()
    found = shop.entry(rollout.id).rollout
    assert (found.state, found.step, found.generation) == ("canary", 1, 3)


def pending(database: Database) -> bool:
    with database.read() as connection:
        return plans.pending(connection, "shop") is not None


def test_a_log_that_is_away_for_a_moment_pauses_nothing(shop: Shop) -> None:
    def away(sql: str) -> Any:
        raise StoreUnavailable("The prediction log cannot be asked.")

    shop.first = Controller(
        shop.database, shop.traffic(), shop.counters, name="first", clock=shop.clock, ask=away
    )
    spec = read_spec(
        {"steps": [{"weight": 5}, {"weight": 100}], "metrics": [{"name": "brier", "margin": 0.1}]}
    )
    rollout = shop.start(spec=spec).rollout
    shop.serve(100)
    for _ in range(6):
        shop.first.look()
    found = shop.entry(rollout.id).rollout
    assert (found.state, found.errors) == ("canary", 1)
    shop.serve(400, canary_errors=200)
    shop.first.look()
    assert shop.entry(rollout.id).rollout.state == "rolled_back", "the counters are there"
