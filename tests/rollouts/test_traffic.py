"""Commands of traffic on real databases: prepared by all, activated at once, confirmed by all, or nothing."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from fairlead.errors import (
    FairleadError,
    GenerationConflict,
    InvalidPlan,
    MalformedRequest,
    ModelNotFound,
    NothingToRollBack,
    NotReady,
    PrepareFailed,
    RolloutInProgress,
    VersionNotFound,
)
from fairlead.registry.registry import Registry
from fairlead.rollouts.confirmation import Confirmation
from fairlead.rollouts.traffic import Order, Traffic
from fairlead.routing import plans
from fairlead.settings import Settings
from fairlead.stores.blobs import Blobs
from fairlead.stores.database import Database
from tests.rollouts.fakes import FakeFleet, put_gateway, report
from tests.rollouts.shop import register
from tests.waiting import wait_until

ANN = Order(who="ann")
QUICK = Settings(prepare_seconds=20.0, confirm_seconds=5.0)


@pytest.fixture
def registry(database: Database, blobs: Blobs) -> Registry:
    """A registry whose model `shop` has the versions v1 to v4."""
    made = Registry(database, blobs)
    register(made, blobs, "v1", "v2", "v3", "v4")
    return made


@pytest.fixture
def traffic(database: Database, registry: Registry) -> Traffic:
    """Traffic commands, without any gateway."""
    return Traffic(database, registry, QUICK)


@pytest.fixture
def fleet(database: Database, traffic: Traffic) -> Iterator[FakeFleet]:
    """Two gateways that follow, and v1 in production."""
    with FakeFleet(database, "g0", "g1").running() as running:
        traffic.deploy("shop", "v1", ANN, strategy="direct")
        yield running


@pytest.fixture
def aside() -> Iterator[Callable[..., Future[Confirmation]]]:
    """Runs a command beside the test."""
    with ThreadPoolExecutor(4) as pool:
        yield pool.submit


def weights(traffic: Traffic, model: str = "shop") -> dict[str, float]:
    with traffic.database.read() as connection:
        plan = plans.active(connection, model)
    return {} if plan is None else plan.weights()


def waiting_generation(traffic: Traffic) -> int | None:
    with traffic.database.read() as connection:
        found = plans.pending(connection, "shop")
    return None if found is None else found.plan.generation


# --- the ordinary way ---------------------------------------------------------------------------------------


def test_a_canary_is_confirmed_by_every_gateway(traffic: Traffic, fleet: FakeFleet) -> None:
    answer = traffic.deploy("shop", "v2", Order(who="ann", why="try it"), weight=5)
    assert (answer.model, answer.generation) == ("shop", 2)
    assert answer.weights == {"v1": 95.0, "v2": 5.0}
    assert (answer.confirmed, answer.unconfirmed, answer.note) == (["g0", "g1"], [], None)
    assert answer.took_ms > 0
    stages = {version.version: version.stage for version in traffic.registry.versions("shop")}
    assert stages == {"v1": "production", "v2": "canary", "v3": "none", "v4": "none"}
    entry = traffic.registry.audit("shop")[0]
    assert (entry.action, entry.who, entry.why) == ("deploy", "ann", "try it")
    assert entry.details == {"generation": 2, "from": {"v1": 100.0}, "to": {"v1": 95.0, "v2": 5.0}}


def test_a_rollout_from_canary_to_production_and_back(traffic: Traffic, fleet: FakeFleet) -> None:
    traffic.deploy("shop", "v2", ANN, weight=5)
    assert traffic.deploy("shop", "v2", ANN, weight=25).weights == {"v1": 75.0, "v2": 25.0}
    assert traffic.set_weights("shop", {"v1": 50, "v2": 50}, ANN).weights == {"v1": 50.0, "v2": 50.0}
    assert traffic.promote("shop", ANN).weights == {"v2": 100.0}
    assert traffic.rollback("shop", ANN).weights == {"v1": 100.0}
    history = [change.to_stage for change in traffic.registry.stage_history("shop", "v2")]
    assert history == ["canary", "production", "none"]
    assert traffic.registry.in_production_at("shop", datetime.now(UTC)) == "v1"


def test_rolling_back_twice_does_not_toggle(traffic: Traffic, fleet: FakeFleet) -> None:
    traffic.deploy("shop", "v2", ANN, strategy="direct")
    assert traffic.rollback("shop", ANN).weights == {"v1": 100.0}
    with pytest.raises(NothingToRollBack):
        traffic.rollback("shop", ANN)
    assert weights(traffic) == {"v1": 100.0}


def test_a_rolled_back_version_is_never_the_fallback(traffic: Traffic, fleet: FakeFleet) -> None:
    traffic.deploy("shop", "v2", ANN, strategy="direct")
    traffic.rollback("shop", ANN)
    traffic.deploy("shop", "v3", ANN, strategy="blue-green")
    assert traffic.rollback("shop", ANN).weights == {"v1": 100.0}


def test_a_rollback_passes_over_archived_versions(traffic: Traffic, fleet: FakeFleet) -> None:
    traffic.deploy("shop", "v2", ANN, strategy="direct")
    traffic.deploy("shop", "v3", ANN, strategy="direct")
    traffic.registry.archive("shop", "v2", who="ann")
    with pytest.raises(InvalidPlan, match="'v2' of 'shop' is archived"):
        traffic.rollback("shop", ANN, to="v2")
    assert traffic.rollback("shop", ANN).weights == {"v1": 100.0}


def test_a_rollback_asks_nobody_to_prepare_what_is_still_loaded(traffic: Traffic, fleet: FakeFleet) -> None:
    traffic.deploy("shop", "v2", ANN, strategy="direct")
    fleet.holding.set()
    assert traffic.rollback("shop", ANN).confirmed == ["g0", "g1"]


def test_a_rollback_to_what_is_not_loaded_any_more_is_prepared_first(
    traffic: Traffic, fleet: FakeFleet
) -> None:
    fleet.cannot_load["v3"] = "the file is gone."
    with pytest.raises(PrepareFailed, match="the file is gone"):
        traffic.rollback("shop", ANN, to="v3")
    assert weights(traffic) == {"v1": 100.0}


def test_an_alias_may_stand_for_a_version(traffic: Traffic, fleet: FakeFleet) -> None:
    traffic.registry.set_alias("shop", "champion", "v2", who="ann")
    assert traffic.deploy("shop", "champion", ANN).weights == {"v1": 95.0, "v2": 5.0}
    with pytest.raises(InvalidPlan, match="two weights"):
        traffic.set_weights("shop", {"champion": 50, "v2": 50}, ANN)


def test_weights_may_be_the_first_command(traffic: Traffic) -> None:
    assert traffic.set_weights("shop", {"v1": 30, "v2": 70}, ANN).weights == {"v2": 70.0, "v1": 30.0}


# --- refusals -----------------------------------------------------------------------------------------------


REFUSED: list[tuple[Callable[[Traffic], object], type[FairleadError], str]] = [
    (lambda t: t.deploy("nothing", "v1", ANN), ModelNotFound, "no model 'nothing'"),
    (lambda t: t.deploy("shop", "v9", ANN), VersionNotFound, "no version or alias 'v9'"),
    (lambda t: t.deploy("shop", "v1", ANN), InvalidPlan, "no version in production"),
    (lambda t: t.promote("shop", ANN), InvalidPlan, "no traffic yet"),
    (lambda t: t.rollback("shop", ANN), InvalidPlan, "no traffic yet"),
    (lambda t: t.set_weights("shop", {}, ANN), InvalidPlan, "No weights"),
    (lambda t: t.set_weights("shop", {"v1": float("nan")}, ANN), InvalidPlan, "nan"),
]


def test_what_makes_no_sense_is_refused_and_leaves_no_trace(traffic: Traffic) -> None:
    before = len(traffic.registry.audit())
    for command, error, says in REFUSED:
        with pytest.raises(error, match=says):
            command(traffic)
    with traffic.database.read() as connection:
        assert plans.head(connection, "shop") is None
    assert len(traffic.registry.audit()) == before


def test_an_archived_version_takes_no_traffic(traffic: Traffic, fleet: FakeFleet) -> None:
    traffic.registry.archive("shop", "v2", who="ann")
    with pytest.raises(InvalidPlan, match="archived"):
        traffic.deploy("shop", "v2", ANN)


def test_a_command_decided_on_an_old_generation_is_refused(traffic: Traffic, fleet: FakeFleet) -> None:
    traffic.deploy("shop", "v2", Order(who="ann", expected=1))
    with pytest.raises(GenerationConflict, match="serves generation 2 and not 1"):
        traffic.promote("shop", Order(who="bob", expected=1))


def test_one_rollout_owns_the_traffic_unless_it_is_superseded(traffic: Traffic, fleet: FakeFleet) -> None:
    traffic.deploy("shop", "v2", ANN)
    with pytest.raises(RolloutInProgress):
        traffic.deploy("shop", "v3", ANN)
    assert traffic.deploy("shop", "v3", ANN, supersede=True).weights == {"v1": 95.0, "v3": 5.0}
    with traffic.database.read() as connection:
        head = plans.head(connection, "shop")
        assert head is not None
        assert head.owner
    traffic.rollback("shop", ANN)
    with traffic.database.read() as connection:
        head = plans.head(connection, "shop")
        assert head is not None
        assert head.owner is None


# --- gateways that do not follow ----------------------------------------------------------------------------


def test_a_gateway_that_cannot_load_stops_the_command_and_is_named(
    traffic: Traffic, fleet: FakeFleet
) -> None:
    fleet.cannot_load["v2"] = "The file is no ONNX model."
    with pytest.raises(
        PrepareFailed, match=r"Gateway g\d cannot load .* The file is no ONNX model"
    ) as caught:
        traffic.deploy("shop", "v2", ANN)
    assert caught.value.details["gateway"] in ("g0", "g1")
    assert weights(traffic) == {"v1": 100.0}
    assert waiting_generation(traffic) is None
    assert traffic.deploy("shop", "v3", ANN).weights == {"v1": 95.0, "v3": 5.0}


def test_an_old_failure_does_not_fail_a_new_proposal(traffic: Traffic, fleet: FakeFleet) -> None:
    fleet.cannot_load["v2"] = "not yet."
    with pytest.raises(PrepareFailed):
        traffic.deploy("shop", "v2", ANN)
    fleet.cannot_load.clear()
    assert traffic.deploy("shop", "v2", ANN).confirmed == ["g0", "g1"]


def test_gateways_that_do_not_load_in_time_are_named(registry: Registry, fleet: FakeFleet) -> None:
    fleet.holding.set()
    hasty = Traffic(registry.database, registry, Settings(prepare_seconds=0.3))
    with pytest.raises(PrepareFailed, match=r"not loaded by g0, g1 within 0.3 s"):
        hasty.deploy("shop", "v2", ANN)
    assert weights(hasty) == {"v1": 100.0}
    assert waiting_generation(hasty) is None


def test_gateways_that_do_not_switch_in_time_are_named_with_what_they_serve(
    registry: Registry, fleet: FakeFleet
) -> None:
    fleet.stubborn.set()
    hasty = Traffic(registry.database, registry, Settings(confirm_seconds=0.3))
    answer = hasty.deploy("shop", "v2", ANN)
    assert weights(hasty) == {"v1": 95.0, "v2": 5.0}
    assert answer.confirmed == []
    assert [(g.gateway, g.generation, g.reason) for g in answer.unconfirmed] == [
        ("g0", 1, "not reported in time"),
        ("g1", 1, "not reported in time"),
    ]


def test_a_silent_gateway_is_not_waited_for_but_named(traffic: Traffic, fleet: FakeFleet) -> None:
    put_gateway(traffic.database, "gone", silent_for=60)
    report(traffic.database, "gone", "shop", active_generation=1)
    answer = traffic.deploy("shop", "v2", ANN)
    assert answer.confirmed == ["g0", "g1"]
    (gone,) = answer.unconfirmed
    assert (gone.gateway, gone.generation) == ("gone", 1)
    assert gone.reason.startswith("silent for 6")


def test_a_gateway_that_falls_silent_while_it_prepares_is_let_go(
    traffic: Traffic, fleet: FakeFleet, aside: Callable[..., Future[Confirmation]]
) -> None:
    put_gateway(traffic.database, "dying", silent_for=4.5)
    answer = aside(traffic.deploy, "shop", "v2", ANN).result(10)
    assert answer.confirmed == ["g0", "g1"]
    assert [gateway.gateway for gateway in answer.unconfirmed] == ["dying"]


def test_nothing_is_activated_when_every_gateway_falls_silent_while_preparing(
    database: Database, registry: Registry
) -> None:
    put_gateway(database, "g0")
    hasty = Traffic(database, registry, Settings(prepare_seconds=1.0))
    skewed = iter([timedelta()])  # the proposal sees it alive; from then on its heartbeat is too old
    hasty._clock = lambda: datetime.now(UTC) + next(skewed, timedelta(seconds=6))
    with pytest.raises(PrepareFailed):
        hasty.deploy("shop", "v1", ANN, strategy="direct")
    assert weights(hasty) == {}


def test_without_a_live_gateway_a_command_is_carried_out_and_says_so(traffic: Traffic) -> None:
    put_gateway(traffic.database, "gone", silent_for=60)
    answer = traffic.deploy("shop", "v1", ANN, strategy="direct")
    assert weights(traffic) == {"v1": 100.0}
    assert answer.confirmed == []
    assert [gateway.gateway for gateway in answer.unconfirmed] == ["gone"]
    assert answer.note is not None
    assert "No gateway is live" in answer.note


def test_a_new_control_waits_a_little_for_the_first_gateway_to_report(
    database: Database, registry: Registry, aside: Callable[..., Future[Confirmation]]
) -> None:
    young = Traffic(database, registry, QUICK, settle_seconds=60)
    first = aside(young.deploy, "shop", "v1", ANN, strategy="direct")
    with FakeFleet(database, "g0").running():
        assert first.result(20).confirmed == ["g0"]
    settled = Traffic(database, registry, QUICK, settle_seconds=0.05)
    put_gateway(database, "g0", silent_for=60)
    assert settled.deploy("shop", "v2", ANN).note is not None


# --- several at once ----------------------------------------------------------------------------------------


def test_of_two_commands_at_once_one_wins_and_the_other_is_told(
    traffic: Traffic, fleet: FakeFleet, aside: Callable[..., Future[Confirmation]]
) -> None:
    order = Order(who="ann", expected=1)
    running = [aside(traffic.deploy, "shop", version, order) for version in ("v2", "v3")]
    errors = [error for error in (each.exception(20) for each in running) if error is not None]
    assert len(errors) == 1
    assert isinstance(errors[0], GenerationConflict)
    (winner,) = [each.result() for each in running if each.exception() is None]
    assert weights(traffic) == winner.weights


def test_a_command_is_told_while_another_is_being_prepared(
    traffic: Traffic, fleet: FakeFleet, aside: Callable[..., Future[Confirmation]]
) -> None:
    fleet.holding.set()
    first = aside(traffic.deploy, "shop", "v2", ANN)
    wait_until(lambda: waiting_generation(traffic) == 2)
    with pytest.raises(GenerationConflict, match=r"Generation 2 .* being prepared"):
        traffic.set_weights("shop", {"v1": 50, "v3": 50}, ANN)
    fleet.holding.clear()
    assert first.result(20).weights == {"v1": 95.0, "v2": 5.0}


def test_a_superseding_deploy_ends_the_one_that_waits(
    traffic: Traffic, fleet: FakeFleet, aside: Callable[..., Future[Confirmation]]
) -> None:
    fleet.holding.set()
    first = aside(traffic.deploy, "shop", "v2", ANN)
    wait_until(lambda: waiting_generation(traffic) == 2)
    second = aside(traffic.deploy, "shop", "v3", Order(who="bob"), supersede=True)
    with pytest.raises(GenerationConflict, match=r"overtaken by generation 3 \(deploy by bob\)"):
        first.result(20)
    fleet.holding.clear()
    assert second.result(20).weights == {"v1": 95.0, "v3": 5.0}


def test_a_rollback_calls_off_what_is_being_prepared(
    traffic: Traffic, fleet: FakeFleet, aside: Callable[..., Future[Confirmation]]
) -> None:
    traffic.deploy("shop", "v2", ANN, strategy="direct")
    fleet.holding.set()
    first = aside(traffic.deploy, "shop", "v3", ANN, strategy="direct")
    wait_until(lambda: waiting_generation(traffic) == 3)
    assert traffic.rollback("shop", ANN).weights == {"v2": 100.0}
    with pytest.raises(GenerationConflict, match="overtaken"):
        first.result(20)
    assert traffic.rollback("shop", ANN).weights == {"v1": 100.0}


def test_a_command_that_is_overtaken_before_it_is_confirmed_says_so(
    traffic: Traffic, fleet: FakeFleet, aside: Callable[..., Future[Confirmation]]
) -> None:
    fleet.stubborn.set()
    first = aside(traffic.deploy, "shop", "v2", ANN)
    wait_until(lambda: weights(traffic) == {"v1": 95.0, "v2": 5.0})
    second = aside(traffic.rollback, "shop", ANN)
    with pytest.raises(GenerationConflict, match="overtaken by 3"):
        first.result(20)
    fleet.stubborn.clear()
    assert second.result(20).confirmed == ["g0", "g1"]


def test_a_stopping_server_ends_the_waiting_and_leaves_nothing_locked(
    traffic: Traffic, fleet: FakeFleet, aside: Callable[..., Future[Confirmation]]
) -> None:
    fleet.holding.set()
    first = aside(traffic.deploy, "shop", "v2", ANN)
    wait_until(lambda: waiting_generation(traffic) == 2)
    traffic.stop()
    with pytest.raises(NotReady):
        first.result(20)
    assert waiting_generation(traffic) is None


# --- repetition and crashes ---------------------------------------------------------------------------------


def test_a_command_repeated_under_its_key_gets_the_first_answer(traffic: Traffic, fleet: FakeFleet) -> None:
    order = Order(who="ann", key="k1", expected=1)
    first = traffic.deploy("shop", "v2", order)
    traffic.rollback("shop", ANN)
    assert traffic.deploy("shop", "v2", order) == first
    assert weights(traffic) == {"v1": 100.0}
    with pytest.raises(MalformedRequest, match="used for another command"):
        traffic.deploy("shop", "v3", order)


def test_a_repetition_joins_the_command_that_is_under_way(
    traffic: Traffic, fleet: FakeFleet, aside: Callable[..., Future[Confirmation]]
) -> None:
    fleet.holding.set()
    order = Order(who="ann", key="k1")
    first = aside(traffic.deploy, "shop", "v2", order)
    wait_until(lambda: waiting_generation(traffic) == 2)
    second = aside(traffic.deploy, "shop", "v2", order)
    fleet.holding.clear()
    assert first.result(20).generation == second.result(20).generation == 2


def test_a_command_that_failed_may_be_repeated_under_its_key(traffic: Traffic, fleet: FakeFleet) -> None:
    order = Order(who="ann", key="k1")
    fleet.cannot_load["v2"] = "no room."
    with pytest.raises(PrepareFailed):
        traffic.deploy("shop", "v2", order)
    fleet.cannot_load.clear()
    assert traffic.deploy("shop", "v2", order).generation == 3


def _deploy_until_killed(url: str, artifacts: str, key: str) -> None:
    database = Database(url)
    traffic = Traffic(database, Registry(database, Blobs(artifacts)), QUICK)
    traffic.deploy("shop", "v2", Order(who="ann", key=key))


def test_control_killed_between_proposal_and_activation_leaves_no_model_locked(
    traffic: Traffic, fleet: FakeFleet, migrated_url: str, blobs: Blobs
) -> None:
    fleet.holding.set()
    process = multiprocessing.get_context("spawn").Process(
        target=_deploy_until_killed, args=(migrated_url, blobs.url, "k1")
    )
    process.start()
    wait_until(lambda: waiting_generation(traffic) == 2, timeout=30)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert waiting_generation(traffic) == 2

    assert traffic.recover() == [("shop", 2)]
    assert traffic.recover() == []
    assert weights(traffic) == {"v1": 100.0}
    fleet.holding.clear()
    again = traffic.deploy("shop", "v2", Order(who="ann", key="k1"))
    assert (again.generation, again.weights) == (3, {"v1": 95.0, "v2": 5.0})


def test_a_command_that_was_activated_before_control_died_is_answered_by_its_repetition(
    traffic: Traffic, fleet: FakeFleet, migrated_url: str, blobs: Blobs
) -> None:
    fleet.stubborn.set()
    process = multiprocessing.get_context("spawn").Process(
        target=_deploy_until_killed, args=(migrated_url, blobs.url, "k1")
    )
    process.start()
    wait_until(lambda: weights(traffic) == {"v1": 95.0, "v2": 5.0}, timeout=30)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    fleet.stubborn.clear()
    again = traffic.deploy("shop", "v2", Order(who="ann", key="k1"))
    assert (again.generation, again.confirmed) == (2, ["g0", "g1"])


def test_models_do_not_wait_for_each_other(
    traffic: Traffic, blobs: Blobs, fleet: FakeFleet, aside: Callable[..., Future[Confirmation]]
) -> None:
    register(traffic.registry, blobs, "v1", "v2", model="other")
    traffic.deploy("other", "v1", ANN, strategy="direct")
    traffic.deploy("other", "v2", ANN, strategy="direct")
    fleet.holding.set()
    slow = aside(traffic.deploy, "shop", "v2", ANN)
    wait_until(lambda: waiting_generation(traffic) == 2)
    assert traffic.rollback("other", ANN).confirmed == ["g0", "g1"]
    assert not slow.done()
    fleet.holding.clear()
    assert slow.result(20).weights == {"v1": 95.0, "v2": 5.0}
