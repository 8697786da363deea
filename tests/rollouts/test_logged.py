"""What the judge of a step is told by the log: every event at its own time, and as the report says."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from msgspec.structs import astuple

from fairlead.experiments.aggregates import Mean, Proportion, Ratio
from fairlead.experiments.question import Question
from fairlead.rollouts.experiments import split_share
from fairlead.rollouts.exposed import evidence_of
from fairlead.rollouts.logged import known_outcomes, outcome_of, units_of
from fairlead.rollouts.observation import Outcome
from fairlead.rollouts.spec import Metric
from fairlead.routing.plan import Plan
from tests.rollouts.shop_log import ShopLog
from tests.rollouts.test_exposed import FIRST, HALF, NOW, day, split
from tests.rollouts.test_exposed import units_of as named
from tests.rollouts.test_phases import rollout_at

WEEK = 7 * 86_400.0


@pytest.fixture
def log(tmp_path: Path) -> Iterator[ShopLog]:
    made = ShopLog(tmp_path)
    yield made
    made.close()


def metric(name: str, window: float = WEEK) -> Metric:
    return Metric(name=name, kind="goal", higher_is="better", window=window)


def judged(
    log: ShopLog, name: str, window: float = WEEK, *, plan: Plan = HALF, now: datetime = NOW
) -> Outcome | None:
    return outcome_of(log.rows, rollout_at(plan, day(0)), metric(name, window), now)


def pair(log: ShopLog) -> tuple[str, str]:
    """A unit of the candidate and one of control, each met once."""
    (treated,), (control,) = named(HALF, "canary", 1), named(HALF, "control", 1)
    for unit in (treated, control):
        log.request(HALF, unit, day(10), request_id=f"of-{unit}")
    return treated, control


def test_purchases_from_before_the_exposure_do_not_count(log: ShopLog) -> None:
    treated, _ = pair(log)
    for at, value in ((1, 100.0), (9.99, 50.0), (11, 7.0)):
        log.outcome(day(at), unit=treated, metric="revenue", value=value, mode="add", outcome_id=str(at))
    found = judged(log, "revenue")
    assert found == Outcome(canary=Mean(1, 7.0, 49.0), control=Mean(1, 0.0, 0.0))


def test_a_later_purchase_does_not_push_one_in_time_out_of_the_window(log: ShopLog) -> None:
    treated, _ = pair(log)
    for at in (11, 25):
        log.outcome(day(at), unit=treated, metric="revenue", value=7.0, mode="add", outcome_id=str(at))
    found = judged(log, "revenue")
    assert found is not None
    assert found.canary == Mean(1, 7.0, 49.0)


def test_a_correction_after_the_window_changes_nothing_in_it(log: ShopLog) -> None:
    treated, _ = pair(log)
    log.outcome(day(11), request_id=f"of-{treated}", metric="revenue", value=50.0)
    log.outcome(day(12), request_id=f"of-{treated}", metric="revenue", value=20.0)
    log.outcome(day(25), request_id=f"of-{treated}", metric="revenue", value=0.0)
    found = judged(log, "revenue")
    assert found is not None
    assert found.canary == Mean(1, 20.0, 400.0)


def test_a_delivery_that_is_repeated_counts_once(log: ShopLog) -> None:
    treated, _ = pair(log)
    for received in (11, 11, 30):
        log.outcome(
            day(11), unit=treated, metric="revenue", value=7.0, mode="add", outcome_id="one",
            received_at=round(day(received).timestamp() * 1e6),
        )  # fmt: skip
    found = judged(log, "revenue")
    assert found is not None
    assert found.canary == Mean(1, 7.0, 49.0)


def test_an_event_that_comes_late_counts_at_its_own_time(log: ShopLog) -> None:
    treated, control = pair(log)
    for unit, at in ((treated, 11), (control, 9)):
        log.outcome(day(at), unit=unit, received_at=round(day(29).timestamp() * 1e6))
    found = judged(log, "conversion")
    assert found == Outcome(canary=Proportion(1, 1), control=Proportion(1, 0))


def test_a_unit_that_asks_often_and_under_one_request_id_has_each_outcome_once(log: ShopLog) -> None:
    treated, _ = pair(log)
    for number in range(3):
        log.request(HALF, treated, day(10.5 + number), request_id="again")
    log.outcome(day(11), request_id="again", metric="revenue", value=7.0)
    log.outcome(day(11), unit=treated, metric="revenue", value=1.0)
    found = judged(log, "revenue")
    assert found is not None
    assert found.canary == Mean(1, 8.0, 64.0)


def test_the_exposure_is_the_first_of_the_present_phase(log: ShopLog) -> None:
    wider = split(HALF, 80)
    (treated,), (control,) = named(HALF, "canary", 1), named(wider, "control", 1)
    for unit in (treated, control):
        log.request(HALF, unit, day(1))
        log.request(wider, unit, day(10))
    log.outcome(day(2), unit=treated, metric="revenue", value=100.0, mode="add", outcome_id="before")
    log.outcome(day(12), unit=treated, metric="revenue", value=7.0, mode="add", outcome_id="after")
    found = outcome_of(log.rows, rollout_at(wider, day(9)), metric("revenue"), NOW)
    assert found is not None
    assert found.canary == Mean(1, 7.0, 49.0)


def test_a_unit_counts_once_its_window_is_over(log: ShopLog) -> None:
    pair(log)
    assert judged(log, "conversion", now=day(16.9)) is None
    assert judged(log, "conversion", now=day(17.1)) is not None
    assert judged(log, "conversion", window=0.0, now=day(10.1)) is not None


def test_requests_without_a_unit_are_judged_by_request(log: ShopLog) -> None:
    """They are drawn one by one; the report, which is about customers, leaves them out."""
    for arm in ("canary", "control"):
        for number, request in enumerate(named(HALF, arm, 3)):
            log.request(HALF, request, day(10), unit_kind="request", request_id=request)
            if number == 0 and arm == "canary":
                log.outcome(day(11), request_id=request)
    found = judged(log, "conversion")
    assert found == Outcome(canary=Proportion(3, 1), control=Proportion(3, 0))
    assert units_of(log.rows, rollout_at(HALF, day(0))) == {}


def test_accuracy_is_a_ratio_over_each_units_answers(log: ShopLog) -> None:
    """A unit that asks a thousand times is no thousand units."""
    treated, control = pair(log)
    for unit, right in ((treated, (1.0, 1.0, 0.0)), (control, (0.0,))):
        for number, label in enumerate(right):
            log.request(HALF, unit, day(11), request_id=f"{unit}-{number}", prediction="1")
            log.outcome(day(12), request_id=f"{unit}-{number}", metric="label", value=label)
    found = judged(log, "accuracy")
    assert found == Outcome(
        canary=Ratio(1, 2.0, 3.0, 4.0, 9.0, 6.0), control=Ratio(1, 0.0, 1.0, 0.0, 1.0, 0.0)
    )


def test_a_label_that_is_corrected_after_the_window_stays_what_it_was(log: ShopLog) -> None:
    treated, control = pair(log)
    log.outcome(day(11), request_id=f"of-{treated}", metric="label", value=1.0)
    log.outcome(day(29), request_id=f"of-{treated}", metric="label", value=0.0)
    log.outcome(day(29), request_id=f"of-{control}", metric="label", value=1.0)
    found = judged(log, "accuracy")
    assert found is not None
    assert (found.canary.mean, found.control.mean) == (1.0, None), "control's label came too late"


def test_what_another_version_answered_before_the_exposure_is_not_the_candidates(log: ShopLog) -> None:
    """In the report, which goes through the phases: a unit of the rest that the candidate got later."""
    quarter = split(FIRST, 25)
    wider = split(quarter, 60)
    unit = next(name for name in named(wider, "canary", 50) if name in set(named(quarter, "stable", 300)))
    log.request(quarter, unit, day(1), request_id="rest", prediction="1")
    log.request(wider, unit, day(10), request_id="met", prediction="0")
    for request in ("rest", "met"):
        log.outcome(day(11), request_id=request, metric="label", value=1.0)
    known = {plan.generation: plan for plan in (quarter, wider)}
    found = evidence_of(
        log.rows, "shop", "e1", Question(name="accuracy"), lambda came: split_share(known, came), NOW
    )
    assert found.arms[1] == Ratio(1, 0.0, 1.0, 0.0, 1.0, 0.0)


def test_labels_are_no_outcome_to_compare_by_name(log: ShopLog) -> None:
    log.outcome(day(1), unit="u", metric="label")
    log.outcome(day(1), unit="u", metric="it's ✓")
    assert known_outcomes(log.rows, "shop") == {"accuracy", "brier", "absolute_error", "it's ✓"}


@pytest.mark.parametrize("name", ["conversion", "revenue", "accuracy", "brier", "x'; DROP"])
@pytest.mark.parametrize("window", [0.0, WEEK])
def test_judge_and_report_say_the_same_of_one_phase(log: ShopLog, name: str, window: float) -> None:
    chance = random.Random(f"{name} {window}")
    told = "label" if name in ("accuracy", "brier") else name
    for number in range(60):
        for _ in range(chance.randrange(1, 4)):
            request = f"r{chance.randrange(100_000)}"
            log.request(HALF, f"u{number}", day(chance.uniform(0, 28)), request_id=request, prediction="1")
            for _ in range(chance.randrange(3)):
                by = {"unit": f"u{number}"} if chance.random() < 0.5 else {"request_id": request}
                log.outcome(
                    day(chance.uniform(-5, 30)), **by, metric=told,
                    value=float(chance.randrange(2)),
                    mode=chance.choice(["set", "add"]), outcome_id=chance.choice([None, "a", "b"]),
                )  # fmt: skip
    found = judged(log, name, window)
    said = evidence_of(
        log.rows, "shop", "e1", Question(name=name, window=window),
        lambda came: split_share({HALF.generation: HALF}, came), NOW,
    )  # fmt: skip
    assert found is not None
    for mine, theirs in zip((found.control, found.canary), said.arms, strict=True):
        assert type(mine) is type(theirs)
        assert [round(value, 9) for value in astuple(mine)] == [round(value, 9) for value in astuple(theirs)]
