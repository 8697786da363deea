"""A step is judged by what it has seen itself: weights that change cannot turn a verdict around."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from fairlead.experiments.aggregates import Proportion
from fairlead.rollouts import moves
from fairlead.rollouts.logged import outcome_of, units_of
from fairlead.rollouts.reading import read_spec
from fairlead.rollouts.spec import Metric
from fairlead.rollouts.states import Rollout, rephase
from fairlead.routing.plan import Plan
from tests.rollouts.shop_log import ShopLog
from tests.rollouts.test_exposed import FIRST, split
from tests.rollouts.test_exposed import units_of as named

MORNING = datetime(2026, 11, 1, 8, tzinfo=UTC)
EVENING = MORNING + timedelta(hours=10)
SALE = Metric(name="sale", kind="goal", higher_is="better")

NARROW = split(FIRST, 20)
WIDE = split(NARROW, 80)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[ShopLog]:
    made = ShopLog(tmp_path)
    yield made
    made.close()


def rollout_at(plan: Plan, since: datetime) -> Rollout:
    spec = read_spec({"strategy": "ab", "steps": [{"weight": 20}, {"weight": 80}], "metrics": [
        {"name": "sale", "kind": "goal", "higher_is": "better"}
    ]})  # fmt: skip
    return Rollout(
        id="e1",
        model="shop",
        stable="v1",
        candidate="v2",
        spec=spec,
        started_at=MORNING,
        entered_at=since,
        state="canary",
        generation=plan.generation,
    )


def meet(log: ShopLog, plan: Plan, at: datetime, arm: str, units: int, sales: int) -> None:
    for number, unit in enumerate(named(plan, arm, units)):
        log.request(plan, unit, at)
        if number < sales:
            log.outcome(at + timedelta(minutes=1), unit=unit, metric="sale")


def rate(found: object) -> float:
    assert isinstance(found, Proportion)
    return found.successes / found.n


def test_units_of_an_earlier_weight_turn_no_verdict_around(log: ShopLog) -> None:
    # The morning sells well and the evening badly, the candidate better in both: 55 to 50 %, and 15 to 10 %.
    # It has a fifth of its units from the morning and control half: all together it would lose, 23 to 30 %.
    meet(log, NARROW, MORNING, "canary", 20, 11)
    meet(log, NARROW, MORNING, "control", 20, 10)
    meet(log, WIDE, EVENING, "canary", 80, 12)
    meet(log, WIDE, EVENING, "control", 20, 2)
    now = EVENING + timedelta(hours=1)
    rollout = rollout_at(WIDE, EVENING)
    found = outcome_of(log.rows, rollout, SALE, now)
    assert found is not None
    assert (rate(found.control), rate(found.canary)) == (0.10, 0.15)
    assert units_of(log.rows, rollout) == {"canary": 80, "control": 20}
    earlier = outcome_of(log.rows, rollout_at(NARROW, MORNING), SALE, now)
    assert earlier is not None
    assert (rate(earlier.control), rate(earlier.canary)) == (0.50, 0.55)
    pooled = {"control": (10 + 2) / 40, "canary": (11 + 12) / 100}
    assert pooled["canary"] < pooled["control"]


def test_a_phase_that_rules_begin_counts_from_its_beginning(log: ShopLog) -> None:
    meet(log, NARROW, MORNING, "canary", 20, 20)
    meet(log, NARROW, MORNING, "control", 20, 0)
    after = moves.target(NARROW, ())
    meet(log, after, EVENING, "canary", 10, 1)
    meet(log, after, EVENING, "control", 10, 1)
    rollout = rephase(rollout_at(NARROW, MORNING), after.generation, EVENING)
    found = outcome_of(log.rows, rollout, SALE, EVENING + timedelta(hours=1))
    assert found is not None
    assert (rate(found.control), rate(found.canary)) == (0.1, 0.1)


def test_what_rules_holdouts_and_pins_decided_is_no_exposure(log: ShopLog) -> None:
    meet(log, NARROW, MORNING, "canary", 5, 1)
    meet(log, NARROW, MORNING, "control", 5, 1)
    for role in ("rule", "holdout", "pin"):
        for number in range(3):
            log.request(NARROW, f"{role}-{number}", MORNING, arm=role, role=role, served_version="v2")
    assert units_of(log.rows, rollout_at(NARROW, MORNING)) == {"canary": 5, "control": 5}


def test_an_experiment_goes_on_under_its_name_when_rules_change() -> None:
    assert moves.target(NARROW, ()).experiment == NARROW.experiment == "e1"
    assert msgspec.structs.replace(moves.target(NARROW, ()), generation=NARROW.generation) == NARROW
