"""When a model is retrained: alarms, clock, cooldown, budget, and what is under way."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fairlead.monitoring.findings import Finding
from fairlead.retraining.policy import DAY, Policy
from fairlead.retraining.triggers import BUDGET_SPAN, Cause, History, allowed, decide

T0 = datetime(2026, 11, 1, tzinfo=UTC)


def policy(**changes: Any) -> Policy:
    return Policy(**{"model": "shop", "trainer": "t", "cooldown": 2 * DAY, "budget": 2, **changes})


def found(hours: float = 0.0, **changes: Any) -> Finding:
    end = T0 + timedelta(hours=hours)
    fields = {
        "model": "shop", "kind": "drift", "subject": "age", "status": "alarm", "sentence": "Age has shifted.",
        "start": end - timedelta(hours=1), "end": end,
    }  # fmt: skip
    return Finding(**(fields | changes))


def test_an_alarm_causes_a_retraining_that_learns_from_when_it_began() -> None:
    decision = decide(policy(), History(), [found()], T0)
    assert decision.cause is not None
    assert (decision.cause.kind, decision.cause.since) == ("alarm", T0 - timedelta(hours=1))
    assert decision.sentence == "Age has shifted."


def test_findings_that_are_no_alarm_of_a_named_kind_and_model_cause_nothing() -> None:
    others = [
        found(status="ok"), found(status="insufficient"), found(status="error"), found(kind="latency"),
        found(model="other"),
    ]  # fmt: skip
    assert decide(policy(), History(), others, T0).cause is None
    assert decide(policy(on=()), History(), [found()], T0).cause is None


def test_many_alarms_are_one_cause() -> None:
    decision = decide(policy(), History(), [found(), found(subject="country"), found(subject="age")], T0)
    assert decision.cause is not None
    assert decision.sentence == "Age has shifted. And 1 more."
    assert len(decision.cause.findings) == 2


def test_an_alarm_has_to_be_raised_by_as_many_looks_in_a_row_as_asked() -> None:
    asked = policy(confirm=3)
    looks = [found(1), found(2), found(3)]
    assert decide(asked, History(), looks[:2], T0).cause is None
    assert decide(asked, History(), [looks[0], found(2, status="ok"), looks[2], found(4)], T0).cause is None
    assert decide(asked, History(), [found(1), found(1), found(1)], T0).cause is None
    decision = decide(asked, History(), looks[::-1], T0)
    assert decision.cause is not None
    assert decision.cause.since == T0


def test_an_alarm_that_is_over_causes_nothing() -> None:
    assert decide(policy(), History(), [found(1), found(2, status="ok")], T0).cause is None


def test_an_alarm_that_a_retraining_has_answered_counts_only_when_found_again() -> None:
    began = T0 + timedelta(hours=5)
    history = History(begun=(began,), ended=began)
    later = began + timedelta(days=3)
    assert decide(policy(), history, [found(4)], later).cause is None
    assert decide(policy(), history, [found(4), found(6)], later).cause is not None


def test_within_the_cooldown_nothing_begins_and_the_answer_says_until_when() -> None:
    history = History(begun=(T0 - timedelta(days=1),), ended=T0)
    decision = decide(policy(), history, [found(1)], T0 + timedelta(hours=1))
    assert decision.cause is None
    assert decision.until == T0 + timedelta(days=2)
    assert "cooldown lasts until 2026-11-03 00:00" in decision.sentence
    assert decide(policy(), history, [found(1)], T0 + timedelta(days=2)).cause is not None


def test_a_budget_that_is_spent_holds_until_its_oldest_is_thirty_days_old() -> None:
    begun = tuple(T0 - timedelta(days=days) for days in (29, 10))
    decision = decide(policy(), History(begun=begun, ended=begun[-1]), [found()], T0)
    assert decision.cause is None
    assert decision.until == T0 + timedelta(days=1)
    assert decide(policy(), History(begun=begun), [found(25)], T0 + timedelta(days=1)).cause is not None
    assert decide(policy(budget=0), History(), [found()], T0).cause is None


def test_what_is_under_way_holds_everything() -> None:
    history = History(busy="a rollout of 'v2' is under way.")
    hand = Cause(kind="hand", sentence="Ann asked for it.")
    assert decide(policy(every=DAY), history, [found()], T0).cause is None
    assert allowed(policy(), history, hand, T0).sentence.endswith("It waits: a rollout of 'v2' is under way.")


def test_the_clock_counts_from_the_last_retraining_or_else_from_when_production_began() -> None:
    weekly = policy(every=7 * DAY, on=())
    assert decide(weekly, History(), [], T0).cause is None
    fresh = History(since=T0)
    assert decide(weekly, fresh, [], T0 + timedelta(days=6)).until == T0 + timedelta(days=7)
    due = decide(weekly, fresh, [], T0 + timedelta(days=7))
    assert due.cause is not None
    assert due.cause.kind == "schedule"
    again = History(begun=(T0 + timedelta(days=7),), ended=T0 + timedelta(days=7), since=T0)
    assert decide(weekly, again, [], T0 + timedelta(days=13)).cause is None
    assert decide(weekly, again, [], T0 + timedelta(days=14)).cause is not None


@given(
    st.lists(st.sampled_from(["ok", "alarm"]), min_size=60, max_size=60), st.integers(0, 4), st.integers(0, 9)
)
def test_no_stream_of_alarms_begins_more_than_budget_and_cooldown_allow(
    days: list[str], budget: int, cooldown: int
) -> None:
    asked = policy(budget=budget, cooldown=cooldown * DAY)
    begun: list[datetime] = []
    findings: list[Finding] = []
    for day, status in enumerate(days):
        now = T0 + timedelta(days=day)
        findings.append(found(24.0 * day, status=status))
        history = History(begun=tuple(begun), ended=begun[-1] if begun else None)
        if decide(asked, history, findings, now).cause is not None:
            assert status == "alarm"
            begun.append(now)
    for index, at in enumerate(begun):
        assert sum(at - BUDGET_SPAN < other <= at for other in begun) <= budget
        assert index == 0 or at - begun[index - 1] >= timedelta(days=max(cooldown, 0))
