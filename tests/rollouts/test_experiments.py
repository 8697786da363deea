"""A rollout that splits the traffic, from its plans in the database and the log's records to a verdict."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fairlead.errors import ExperimentNotFound, MalformedRequest, ModelNotFound, Overloaded
from fairlead.experiments.question import Question
from fairlead.registry.registry import Registry
from fairlead.rollouts.commands import Rollouts
from fairlead.rollouts.controller import Controller
from fairlead.rollouts.experiments import Experiments
from fairlead.rollouts.reading import read_spec
from fairlead.rollouts.traffic import Order, Traffic
from fairlead.routing import plans
from fairlead.routing.assign import slot_of
from fairlead.routing.plan import Plan
from fairlead.settings import Settings
from fairlead.stores.blobs import Blobs
from fairlead.stores.database import Database
from tests.rollouts.fakes import FakeFleet
from tests.rollouts.shop import register
from tests.rollouts.shop_log import ShopLog

ANN = Order(who="ann")
AB = {
    "strategy": "ab",
    "steps": [{"weight": 10, "deadline": "30d"}, {"weight": 60, "deadline": "30d"}, {"weight": 100}],
    "metrics": [
        {"name": "conversion", "kind": "goal", "higher_is": "better", "window": "1d"},
        {"name": "refunds", "kind": "guardrail", "margin": 0.2, "margin_is": "relative", "window": "1d"},
        {"name": "error_rate"},
    ],
}


class Shop:
    """A model in production, its rollouts, and a log that is written by hand."""

    def __init__(self, database: Database, blobs: Blobs, folder: Path) -> None:
        self.database = database
        self.log = ShopLog(folder)
        self.now = datetime(2026, 11, 1, 12, tzinfo=UTC)
        registry = Registry(database, blobs)
        register(registry, blobs, "v1", "v2", "v3")
        self.traffic = Traffic(database, registry, Settings(prepare_seconds=20.0, confirm_seconds=5.0))
        self.rollouts = Rollouts(database, folder / "counters", self.clock)
        self.controller = Controller(
            database, self.traffic, folder / "counters", name="first", clock=self.clock
        )
        self.experiments = Experiments(database, self.log, self.clock)

    def clock(self) -> datetime:
        return self.now

    def plan(self) -> Plan:
        with self.database.read() as connection:
            found = plans.active(connection, "shop")
        assert found is not None
        return found

    def start(self, spec: dict[str, Any] = AB) -> str:
        entry = self.rollouts.start("shop", "v2", read_spec(spec), ANN)
        self.controller.look()
        return entry.rollout.id

    def command(self, name: Any) -> None:
        self.rollouts.command("shop", name, ANN)
        self.controller.look()

    def visits(self, units: range, rates: dict[str, int]) -> None:
        """Each unit asks once; of those of an arm, every so manyth converts within the hour."""
        plan = self.plan()
        seen: dict[str, int] = {}
        for number in units:
            arm = self.log.request(plan, f"u{number}", self.now)
            seen[arm] = seen.get(arm, 0) + 1
            if arm in rates and seen[arm] % rates[arm] == 0:
                self.log.outcome(self.now + timedelta(hours=1), unit=f"u{number}")
        self.now += timedelta(days=1)


@pytest.fixture
def shop(database: Database, blobs: Blobs, tmp_path: Path) -> Iterator[Shop]:
    made = Shop(database, blobs, tmp_path)
    with FakeFleet(database, "g0").running():
        made.traffic.deploy("shop", "v1", ANN, strategy="direct")
        yield made
    made.log.close()


def test_an_experiment_is_reported_through_its_phases_while_it_runs_and_after(shop: Shop) -> None:
    name = shop.start()
    assert shop.plan().experiment == name
    shop.visits(range(4_000), {"control": 10, "canary": 10})
    shop.command("widen")
    shop.visits(range(2_000, 6_000), {"control": 4, "canary": 4})
    shop.now += timedelta(days=2)
    found = shop.experiments.report("shop", None)
    assert (found.experiment.id, found.experiment.goal, found.experiment.state) == (
        name,
        "conversion",
        "canary",
    )
    first, second = found.experiment.phases
    assert first.weights == {"stable": 80.0, "control": 10.0, "canary": 10.0}
    assert second.weights == {"control": 40.0, "canary": 60.0}
    assert first.control_units + first.treated_units == pytest.approx(800, abs=100)
    report = found.report
    assert not report.split.mismatch, report.split
    assert report.split.freedom == 3, "new units of both phases, and those that came back"
    assert [metric.metric for metric in report.metrics] == ["conversion", "refunds"]
    conversion = report.metrics[0]
    assert conversion.shape == "proportion"
    assert conversion.lift.estimate == pytest.approx(0.0, abs=0.06), "pooled it would be far above"
    assert report.finding == "not yet known"
    assert report.metrics[1].finding == "cannot be told"

    shop.command("abort")
    after = shop.experiments.report("shop", name)
    assert after.experiment.state == "rolled_back"
    assert after.report.sentence == report.sentence
    assert [one.id for one in shop.experiments.of_model("shop")] == [name]


def test_a_shadow_and_a_direct_deploy_are_no_experiments(shop: Shop) -> None:
    entry = shop.rollouts.start(
        "shop", "v2", read_spec({"strategy": "shadow", "steps": [{"mirror": 50}]}), ANN
    )
    shop.controller.look()
    assert shop.plan().experiment is None
    assert shop.experiments.of_model("shop") == []
    for name in (None, entry.rollout.id, "nothing"):
        with pytest.raises(ExperimentNotFound):
            shop.experiments.report("shop", name)
    with pytest.raises(ModelNotFound):
        shop.experiments.report("shoes", None)


def test_an_experiment_of_another_model_is_not_found_here(
    shop: Shop, blobs: Blobs, database: Database
) -> None:
    name = shop.start()
    register(Registry(database, blobs), blobs, "v1", model="shoes")
    with pytest.raises(ExperimentNotFound):
        shop.experiments.report("shoes", name)


def test_before_anybody_came_it_says_so(shop: Shop) -> None:
    shop.start()
    report = shop.experiments.report("shop", None).report
    assert report.sentence == "It cannot be told because no customer has met either version yet."
    assert report.units == 0


def test_metrics_may_be_asked_beside_the_rollouts_own(shop: Shop) -> None:
    shop.start()
    shop.visits(range(500), {"control": 2, "canary": 2})
    shop.now += timedelta(days=2)
    for metric in ("revenue", "orders"):
        shop.log.outcome(shop.now, unit="a stranger", metric=metric)
    also = [Question(name="revenue/orders"), Question(name="conversion"), Question(name="revenue/orders")]
    report = shop.experiments.report("shop", None, also).report
    assert [metric.metric for metric in report.metrics] == ["conversion", "refunds", "revenue/orders"]
    for wrong in ("", "/orders", "p99", "x" * 201):
        with pytest.raises(MalformedRequest):
            shop.experiments.report("shop", None, [Question(name=wrong)])
    with pytest.raises(MalformedRequest, match="Nothing measures 'revenues'"):
        shop.experiments.report("shop", None, [Question(name="orders/revenues")])
    with pytest.raises(MalformedRequest, match="more than 20"):
        shop.experiments.report("shop", None, [Question(name=f"m{n}") for n in range(19)])


def test_a_split_by_hand_after_the_experiment_adds_nothing_to_it(shop: Shop) -> None:
    name = shop.start()
    shop.visits(range(300), {})
    before = shop.experiments.report("shop", name).report.units
    shop.command("abort")
    shop.traffic.set_weights("shop", {"v1": 50, "v2": 50}, ANN)
    assert shop.plan().experiment is None
    shop.visits(range(300, 900), {})
    assert shop.experiments.report("shop", name).report.units == before


def test_a_split_by_hand_of_several_versions_is_said_to_be_no_experiment(shop: Shop) -> None:
    shop.traffic.set_weights("shop", {"v1": 50, "v2": 25, "v3": 25}, ANN)
    shop.visits(range(100), {})
    with pytest.raises(ExperimentNotFound, match="split by hand") as caught:
        shop.experiments.report("shop", None)
    assert "--strategy ab" in caught.value.remedy


def test_one_report_at_a_time_asks_the_log_and_who_waits_too_long_is_refused(shop: Shop) -> None:
    shop.start()
    asked, go_on = threading.Event(), threading.Event()

    class Slow:
        def rows(self, sql: str) -> list[dict[str, Any]]:
            asked.set()
            assert go_on.wait(30.0)
            return shop.log.rows(sql)

        def call(self, op: str, **args: Any) -> Any:
            return shop.log.call(op, **args)

    experiments = Experiments(shop.database, Slow(), shop.clock, patience=0.01)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(experiments.report, "shop", None)
        try:
            assert asked.wait(30.0)
            with pytest.raises(Overloaded):
                experiments.report("shop", None)
            with pytest.raises(Overloaded):
                experiments.audit("shop", None)
        finally:
            go_on.set()
        assert first.result().report.units == 0
    assert experiments.report("shop", None).report.units == 0, "and then it is free again"


def test_the_audit_finds_every_record_as_the_plans_have_it(shop: Shop) -> None:
    shop.start()
    shop.visits(range(500), {})
    shop.command("widen")
    shop.visits(range(250, 900), {})
    plan = shop.plan()
    shop.log.request(plan, "pinned", shop.now, arm="pin", role="pin")
    shop.log.request(plan, "by-hand", shop.now, arm="override", role="stable")
    shop.log.request(plan, "refused", shop.now, arm=None, role=None, assigned_version=None)
    shop.log.request(plan, "fallback", shop.now, served_version="v0", degraded="fallback_version")
    found = shop.experiments.audit("shop", None).audit
    assert (found.records, found.recomputed, found.differing) == (1_154, 1_151, 0)
    assert found.kinds == {"override": 1, "pin": 1, "split": 1_151, "unassigned": 1}
    assert found.sentence == (
        "All 1,151 records say what the plan gave their unit; "
        "3 more cannot be recomputed from the log "
        "(local rollbacks 1, pins 1, refused before a plan was asked 1)."
    )
    assert found.not_recomputed == {"override": 1, "pin": 1, "unassigned": 1}


def _arm_of(plan: Plan, unit: str) -> str:
    return plan.arms[plan.slots[slot_of(plan.salt, unit)]].name


@pytest.mark.parametrize(
    "wrong",
    [
        {"arm": "canary", "role": "canary", "assigned_version": "v2"},
        {"assigned_version": "v9"},
        {"role": "canary"},
        {"generation": 99},
        {"unit": None},
        {"source": "shadow"},
    ],
)
def test_the_audit_lists_what_the_plan_did_not_give(shop: Shop, wrong: dict[str, Any]) -> None:
    name = shop.start()
    plan = shop.plan()
    unit = next(name for name in map(str, range(999)) if _arm_of(plan, name) == "control")
    shop.log.raw(
        shop.now, **{"unit": unit, "arm": "control", "role": "control", "generation": plan.generation,
                     "experiment": name, "request_id": "odd", **wrong},
    )  # fmt: skip
    found = shop.experiments.audit("shop", None).audit
    assert found.differing == 1
    assert found.different[0].request_id == "odd"
    assert "do not say what the plan gave" in found.sentence


def test_exposures_come_as_rows_in_portions_that_make_a_whole(shop: Shop) -> None:
    name = shop.start()
    shop.visits(range(400), {})
    rows = [row for portion in shop.experiments.exposures("shop", name) for row in portion]
    parts = [
        row
        for part in range(7)
        for row in shop.log.call("exposures", model="shop", experiment=name, part=part, parts=7)
    ]
    assert sorted(row["unit"] for row in parts) == sorted(row["unit"] for row in rows)
    assert {row["arm"] for row in rows} == {"control", "canary"}
    table = shop.log.rows(f"SELECT * FROM exposures WHERE experiment = '{name}'")
    assert len(table) == len(rows)
