"""Parts of layers over all that rollouts do, with gateways that are late: nobody meets two experiments."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from fairlead.errors import FairleadError, InvalidRollout
from fairlead.registry.registry import Registry
from fairlead.rollouts import layers
from fairlead.rollouts.beside import set_rules
from fairlead.rollouts.commands import Rollouts
from fairlead.rollouts.controller import Controller
from fairlead.rollouts.reading import read_spec
from fairlead.rollouts.spec import RolloutSpec
from fairlead.rollouts.traffic import Order, Traffic
from fairlead.routing import plans
from fairlead.routing.plan import Plan
from fairlead.routing.targeting import Rule
from fairlead.settings import Settings
from fairlead.stores.blobs import Blobs
from fairlead.stores.database import Database
from tests.rollouts.fakes import put_gateway, report
from tests.rollouts.shop import register

ANN = Order(who="ann")
MODELS = ("books", "shop", "toys")
GATEWAYS = ("g0", "g1")


def layered(percent: float) -> RolloutSpec:
    steps = [{"weight": 50, "minimum": "1m", "events": 300}, {"weight": 100}]
    return read_spec({"steps": steps, "layer": "home", "traffic": percent})


class Street:
    """Three models in production and two gateways, of which each serves the generation that it was told."""

    def __init__(self, database: Database, blobs: Blobs, folder: Path) -> None:
        self.database = database
        registry = Registry(database, blobs)
        counters = folder / "counters"
        self.now = datetime.now(UTC)
        self.rollouts = Rollouts(database, counters, lambda: self.now)
        # To whoever moves traffic the gateways are silent, and nobody waits for them: a plan is active at
        # once, and they serve it when the test says so. To whoever looks at layers they live.
        later = self.now + timedelta(hours=1)
        self.traffic = Traffic(database, registry, Settings(confirm_seconds=0.1), lambda: later)
        self.controller = Controller(database, self.traffic, counters, name="first", clock=lambda: self.now)
        self.serving: dict[tuple[str, str], int] = {}
        for model in MODELS:
            register(registry, blobs, "v1", "v2", "v3", model=model)
            self.traffic.deploy(model, "v1", ANN, strategy="direct")
        for name in GATEWAYS:
            put_gateway(database, name)
        self.catch_up()

    def plan(self, model: str) -> Plan:
        with self.database.read() as connection:
            found = plans.active(connection, model)
        assert found is not None
        return found

    def begin(self, model: str, percent: float, version: str = "v2", *, supersede: bool = False) -> str:
        started = self.rollouts.start(model, version, layered(percent), ANN, supersede=supersede)
        return started.rollout.id

    def follow(self, gateway: str, model: str) -> None:
        """The gateway begins to serve the newest plan, and has not said so yet."""
        self.serving[gateway, model] = self.plan(model).generation

    def tell(self, gateway: str) -> None:
        """The gateway reports what it serves."""
        for model in MODELS:
            generation = self.serving[gateway, model]
            report(self.database, gateway, model, active_generation=generation)

    def catch_up(self) -> None:
        for gateway in GATEWAYS:
            for model in MODELS:
                self.follow(gateway, model)
            self.tell(gateway)

    def slots(self, gateway: str, model: str) -> set[int]:
        """The layer's slots whose units the gateway splits among the model's versions."""
        with self.database.read() as connection:
            row = plans.get(connection, model, self.serving[gateway, model])
        assert row is not None
        ranges = row.plan.layer.ranges if row.plan.layer else ()
        return {slot for start, stop in ranges for slot in range(start, stop)}

    def layer(self) -> layers.LayerState:
        with self.database.read() as connection:
            (found,) = layers.listed(connection, self.now)
        return found


@pytest.fixture
def street(database: Database, blobs: Blobs, tmp_path: Path) -> Street:
    return Street(database, blobs, tmp_path)


def test_a_superseded_rollout_keeps_its_part_until_its_plan_has_left_every_gateway(street: Street) -> None:
    first = street.begin("shop", 80)
    street.controller.look()
    street.catch_up()
    second = street.begin("shop", 10, "v3", supersede=True)
    with pytest.raises(InvalidRollout, match="the rest is with shop"):
        street.begin("books", 30)  # the old plan is active still
    assert [(share.rollout, share.ended) for share in street.layer().shares] == [
        (second, False),
        (first, True),
    ]
    street.controller.look()
    street.follow("g0", "shop")
    street.tell("g0")
    with pytest.raises(InvalidRollout, match="room for"):
        street.begin("books", 30)  # one gateway is late
    street.follow("g1", "shop")
    street.tell("g1")
    assert street.layer().free == 90
    street.begin("books", 90)


def test_a_gateway_that_serves_more_than_it_has_reported_keeps_the_part_too(street: Street) -> None:
    street.begin("shop", 80)
    street.controller.look()
    street.follow("g0", "shop")  # and its report is of the plan before
    street.traffic.rollback("shop", ANN)
    with pytest.raises(InvalidRollout, match="the rest is with shop"):
        street.begin("books", 30)
    street.catch_up()
    street.begin("books", 100)


def test_what_a_model_had_of_a_layer_does_not_stand_in_the_way_of_its_next_rollout(street: Street) -> None:
    street.begin("shop", 80)
    street.controller.look()
    street.catch_up()
    street.begin("shop", 100, "v3", supersede=True)
    assert street.layer().free == 0


def test_a_gateway_that_is_silent_keeps_nothing(street: Street) -> None:
    identifier = street.begin("shop", 100)
    street.controller.look()
    street.catch_up()
    street.rollouts.command("shop", "abort", ANN, identifier)
    street.controller.look()
    with pytest.raises(InvalidRollout, match="room for 0 %"):
        street.begin("books", 1)
    for name in GATEWAYS:
        put_gateway(street.database, name, silent_for=60)
    street.begin("books", 100)


def test_a_rollout_aborted_before_it_moved_leaves_no_split_that_nobody_watches(street: Street) -> None:
    street.begin("shop", 80)
    street.controller.look()
    street.begin("shop", 80, "v3", supersede=True)
    street.rollouts.command("shop", "abort", ANN)
    street.controller.look()
    plan = street.plan("shop")
    assert (plan.weights(), plan.layer, plan.experiment) == ({"v1": 100.0}, None, None)


def test_a_split_made_by_hand_outlives_a_rollout_that_moved_nothing(street: Street) -> None:
    street.traffic.set_weights("shop", {"v1": 60, "v2": 40}, ANN)
    street.begin("shop", 80, "v3")
    street.rollouts.command("shop", "abort", ANN)
    street.controller.look()
    assert street.plan("shop").weights() == {"v1": 60.0, "v2": 40.0}


def test_a_layer_of_another_name_takes_nothing_away_whatever_rules_and_units_are_called(
    street: Street,
) -> None:
    street.begin("shop", 70)
    street.controller.look()
    for unit in ('"layer":{"name":"home",', "home", '\\"layer\\":{\\"name\\":\\"home\\"', "%", "Zoë"):
        set_rules(street.traffic, "books", [Rule(name="r", units=(unit,))], ANN)
        assert [(share.model, share.percent) for share in street.layer().shares] == [("shop", 70)]


# --- every order of what may happen -------------------------------------------------------------------------


class Neighbours(RuleBasedStateMachine):
    """Rollouts of one layer by three models, begun, superseded, aborted, ended; gateways follow later."""

    template: Path

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        root = Path(self.folder.name)
        shutil.copyfile(self.template, root / "fairlead.db")
        self.database = Database(f"sqlite:///{root}/fairlead.db")
        (root / "artifacts").mkdir()
        self.street = Street(self.database, Blobs(f"file://{root}/artifacts"), root)

    @rule(
        model=st.sampled_from(MODELS),
        percent=st.sampled_from([50, 80, 100]),
        version=st.sampled_from(["v2", "v3"]),
        supersede=st.booleans(),
        moves=st.booleans(),
    )
    def somebody_begins(self, model: str, percent: float, version: str, supersede: bool, moves: bool) -> None:
        with contextlib.suppress(FairleadError):
            self.street.begin(model, percent, version, supersede=supersede)
        if moves:
            self.street.controller.look()

    @rule(
        model=st.sampled_from(MODELS),
        name=st.sampled_from(["abort", "promote", "rollback", "direct", "weights", "rules"]),
    )
    def somebody_commands(self, model: str, name: Any) -> None:
        street = self.street
        with contextlib.suppress(FairleadError):
            if name == "rollback":
                street.traffic.rollback(model, ANN)
            elif name == "direct":
                street.traffic.deploy(model, "v1", ANN, strategy="direct", supersede=True)
            elif name == "weights":
                street.traffic.set_weights(model, {"v1": 50, "v2": 50}, ANN)
            elif name == "rules":
                set_rules(street.traffic, model, [Rule(name="r", units=("u",))], ANN)
            else:
                street.rollouts.command(model, name, ANN)

    @rule()
    def the_controller_looks(self) -> None:
        self.street.controller.look()

    @rule(gateway=st.sampled_from(GATEWAYS), told=st.booleans())
    def a_gateway_follows(self, gateway: str, told: bool) -> None:
        for model in MODELS:
            self.street.follow(gateway, model)
        if told:
            self.street.tell(gateway)

    @rule(gateway=st.sampled_from(GATEWAYS), model=st.sampled_from(MODELS))
    def a_gateway_follows_in_one_model(self, gateway: str, model: str) -> None:
        self.street.follow(gateway, model)

    @invariant()
    def no_slot_of_the_layer_is_in_experiments_of_two_models(self) -> None:
        parts = {
            model: set().union(*(self.street.slots(gateway, model) for gateway in GATEWAYS))
            for model in MODELS
        }
        for one, other in combinations(MODELS, 2):
            assert not parts[one] & parts[other], (one, other)

    def teardown(self) -> None:
        """Once all have ended and every gateway knows, the whole layer is free."""
        if not hasattr(self, "street"):
            return
        with self.database.read() as connection:
            named = bool(layers.listed(connection, self.street.now))
        for model in MODELS:
            self.somebody_commands(model, "abort")
        self.street.controller.look()
        for model in MODELS:
            self.somebody_commands(model, "rollback")
        self.street.catch_up()
        if named:
            assert (self.street.layer().free, self.street.layer().shares) == (100, [])
        self.database.close()
        self.folder.cleanup()


def test_in_every_order_no_unit_is_in_two_experiments_of_a_layer(tmp_path: Path) -> None:
    class Here(Neighbours):
        template = tmp_path / "template.db"

    empty = Database(f"sqlite:///{Here.template}")
    empty.migrate()
    empty.close()
    run_state_machine_as_test(Here, settings=settings(max_examples=15, stateful_step_count=20, deadline=None))
