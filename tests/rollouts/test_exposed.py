"""Who was exposed to what, and what became of them, as the log tells it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from fairlead.experiments.aggregates import Mean, Proportion, Ratio
from fairlead.experiments.question import Evidence, Question
from fairlead.rollouts import moves
from fairlead.rollouts.experiments import split_share
from fairlead.rollouts.exposed import evidence_of, exposed
from fairlead.routing.plan import Plan
from tests.rollouts.shop_log import ShopLog

T0 = datetime(2026, 11, 1, 12, tzinfo=UTC)
NOW = T0 + timedelta(days=30)
FIRST = moves.start("shop", "v1", salt="s", rollout="r0")


def split(before: Plan, weight: float, experiment: str = "e1") -> Plan:
    return msgspec.structs.replace(
        moves.deploy(before, "v2", weight, experiment, supersede=True), experiment=experiment
    )


HALF = split(FIRST, 50)
QUARTER = split(FIRST, 25)
WIDER = split(QUARTER, 60)


def day(number: float) -> datetime:
    return T0 + timedelta(days=number)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[ShopLog]:
    made = ShopLog(tmp_path)
    yield made
    made.close()


def units_of(plan: Plan, arm: str, count: int) -> list[str]:
    """So many units that the plan gives that arm."""
    from fairlead.routing.assign import slot_of

    names = (f"u{number}" for number in range(100_000))
    found = (name for name in names if plan.arms[plan.slots[slot_of(plan.salt, name)]].name == arm)
    return [next(found) for _ in range(count)]


def evidence(log: ShopLog, question: Question, *plans: Plan) -> Evidence:
    known = {plan.generation: plan for plan in plans or (HALF,)}
    return evidence_of(log.rows, "shop", "e1", question, lambda came: split_share(known, came), NOW)


def test_a_unit_counts_once_in_the_arm_of_its_first_exposure(log: ShopLog) -> None:
    (treated,), controls = units_of(HALF, "canary", 1), units_of(HALF, "control", 2)
    for unit in (treated, treated, *controls):
        log.request(HALF, unit, day(1))
    log.request(HALF, controls[0], day(2), arm="canary", role="canary")
    found = exposed(log.rows, "shop", "e1")
    assert found.units == {(2, 0): (2, 1)}
    assert found.switched == 1
    assert found.first == found.last == day(1)


def test_what_the_split_did_not_decide_is_no_exposure(log: ShopLog) -> None:
    (unit,) = units_of(HALF, "canary", 1)
    log.request(HALF, unit, day(1), unit_kind="request")
    log.request(HALF, unit, day(1), source="shadow")
    for beside in ("pin", "rule", "holdout"):
        log.request(HALF, unit, day(1), arm=beside, role=beside)
    log.request(HALF, unit, day(1), arm="override", role="stable")
    log.request(HALF, unit, day(1), experiment=None)
    log.request(HALF, unit, day(1), experiment="e2")
    assert exposed(log.rows, "shop", "e1").units == {}
    log.request(HALF, unit, day(3), served_version="v1", degraded="fallback_version", error_code="x")
    assert exposed(log.rows, "shop", "e1").units == {(2, 0): (0, 1)}, "the assigned arm's failure is its own"


def test_units_that_come_back_are_a_stratum_of_their_own(log: ShopLog) -> None:
    """From 25 % to 60 % the rest splits 35 to 15, and new units 60 to 40: pooled, that is a mismatch."""
    rest = units_of(QUARTER, "stable", 400)
    for unit in rest:
        log.request(QUARTER, unit, day(1))
        log.request(WIDER, unit, day(2))
    found = exposed(log.rows, "shop", "e1")
    (came,) = found.units
    assert came == (WIDER.generation, QUARTER.generation)
    control, treated = found.units[came]
    assert control + treated == 400
    assert split_share({2: QUARTER, 3: WIDER}, came) == pytest.approx(0.7)
    assert split_share({2: QUARTER, 3: WIDER}, (3, 0)) == pytest.approx(0.6)
    assert treated == pytest.approx(280, abs=45)


def test_an_outcome_counts_within_its_window_by_unit_or_request(log: ShopLog) -> None:
    control, treated = units_of(HALF, "control", 3), units_of(HALF, "canary", 3)
    for unit in (*control, *treated):
        log.request(HALF, unit, day(1), request_id=f"of-{unit}")
    log.outcome(day(2), unit=treated[0])
    log.outcome(day(2), request_id=f"of-{treated[1]}")
    log.outcome(day(2), request_id=f"of-{control[0]}")
    log.outcome(day(9), unit=control[1])  # after its window
    log.outcome(day(0), unit=control[2])  # before its exposure
    log.outcome(day(2), unit="somebody else")
    found = evidence(log, Question(name="conversion", window=7 * 86_400))
    assert found.shape == "proportion"
    assert found.arms == (Proportion(3, 1), Proportion(3, 2))


def test_a_unit_whose_window_is_not_over_does_not_count_yet(log: ShopLog) -> None:
    early, late = units_of(HALF, "canary", 2)
    log.request(HALF, early, day(1))
    log.request(HALF, late, day(29))
    log.outcome(day(2), unit=early)
    log.outcome(day(29.5), unit=late)
    found = evidence(log, Question(name="conversion", window=7 * 86_400))
    assert found.arms[1] == Proportion(1, 1)


def test_what_a_unit_did_before_does_not_hide_what_it_did_in_time(log: ShopLog) -> None:
    """Outcomes of a unit that accumulate are one number in the table `outcomes`; in an experiment each event
    counts at its own time."""
    (unit,), (other,) = units_of(HALF, "canary", 1), units_of(HALF, "control", 1)
    for one in (unit, other):
        log.request(HALF, one, day(10))
    for number, at in enumerate((1, 11, 12, 25)):
        log.outcome(day(at), unit=unit, metric="revenue", value=10.0 + number, mode="add", outcome_id=str(at))
    log.outcome(day(26), unit=unit, metric="revenue", value=11.0, mode="add", outcome_id="11")  # told again
    found = evidence(log, Question(name="revenue", window=7 * 86_400))
    assert found.arms[1] == Mean(1, 23.0, 529.0)
    assert found.foreseen == 1


def test_the_last_set_of_a_request_is_what_counts(log: ShopLog) -> None:
    (unit,) = units_of(HALF, "canary", 1)
    log.request(HALF, unit, day(1), request_id="r")
    log.outcome(day(2), request_id="r", metric="revenue", value=50.0)
    log.outcome(day(3), request_id="r", metric="revenue", value=20.0)
    assert evidence(log, Question(name="revenue")).arms[1] == Mean(1, 20.0, 400.0)


def test_two_outcomes_divided_are_a_ratio_of_sums_by_unit(log: ShopLog) -> None:
    unit, quiet = units_of(HALF, "canary", 2)
    for one in (unit, quiet):
        log.request(HALF, one, day(1))
    log.outcome(day(2), unit=unit, metric="revenue", value=30.0)
    log.outcome(day(2), unit=unit, metric="orders", value=2.0)
    found = evidence(log, Question(name="revenue/orders"))
    assert found.shape == "ratio"
    assert found.arms[1] == Ratio(2, 30.0, 2.0, 900.0, 4.0, 60.0)
    assert found.arms[1].mean == 15.0


def test_a_labels_quality_is_a_ratio_over_the_requests_of_each_unit(log: ShopLog) -> None:
    unit, silent = units_of(HALF, "canary", 2)
    for number, label in enumerate((1.0, 1.0, 0.0)):
        log.request(HALF, unit, day(1), request_id=f"r{number}", prediction="1")
        log.outcome(day(2), request_id=f"r{number}", metric="label", value=label)
    log.request(HALF, silent, day(1), request_id="unlabelled")
    found = evidence(log, Question(name="accuracy"))
    assert found.arms[1] == Ratio(2, 2.0, 3.0, 4.0, 9.0, 6.0)
    assert found.arms[1].mean == pytest.approx(2 / 3)


def test_an_outcome_that_never_came_is_said_to_be_missing(log: ShopLog) -> None:
    log.request(HALF, "u1", day(1))
    assert evidence(log, Question(name="conversoin")).problem == (
        "no outcome 'conversoin' of 'shop' has come yet"
    )
    log.outcome(day(2), unit="nobody", metric="conversoin")
    assert evidence(log, Question(name="conversoin")).problem is None, "it has come, though for nobody here"


@pytest.mark.parametrize("name", ["it's", 'a"b', "Ümsatz 💶", "x'; DROP TABLE predictions; --"])
def test_names_of_outcomes_are_texts_whatever_stands_in_them(log: ShopLog, name: str) -> None:
    (unit,) = units_of(HALF, "canary", 1)
    log.request(HALF, unit, day(1))
    log.outcome(day(2), unit=unit, metric=name)
    assert evidence(log, Question(name=name)).arms[1] == Proportion(1, 1)


def test_what_was_done_before_takes_variance_out(log: ShopLog) -> None:
    for number in range(300):
        unit = f"u{number}"
        usual = 10.0 * (number % 7)
        log.outcome(day(0), unit=unit, metric="revenue", value=usual, mode="add", outcome_id=f"b{number}")
        log.request(HALF, unit, day(1))
        after = usual + number % 3
        log.outcome(day(2), unit=unit, metric="revenue", value=after, mode="add", outcome_id=f"a{number}")
    found = evidence(log, Question(name="revenue", window=86_400 * 2))
    assert found.foreseen == 300
    assert found.removed > 0.99
    (stratum,) = found.strata
    assert stratum.adjusted is not None
    raw, held = stratum.treated.variance, stratum.adjusted[1].variance
    assert raw is not None
    assert held is not None
    assert held < raw / 50
