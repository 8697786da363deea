"""What receivers read: one line on top, commands to copy, and nothing that a name could smuggle in."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from fairlead.alerts.messages import About, as_text, headline, message_of, runbook_of
from fairlead.alerts.rules import DEFAULTS, RUNBOOKS
from fairlead.monitoring.findings import Finding

T0 = datetime(2026, 11, 1, 12, tzinfo=UTC)
RULES = {rule.name: rule for rule in DEFAULTS}


def about(subject: str = "basket", model: str = "shop") -> About:
    finding = Finding(
        model=model, version="v2", kind="drift", subject=subject, status="alarm", sentence="It drifts.",
        start=T0, end=T0,
    )  # fmt: skip
    return About(id="a1", since=T0, finding=finding)


def test_a_message_says_what_it_means_what_to_look_at_and_what_to_do() -> None:
    text = as_text(message_of(RULES["drift"], "firing", [about()], T0))
    assert "v2 · basket: It drifts." in text
    assert "fairlead alerts show a1" in text
    assert "fairlead drift shop" in text
    assert RUNBOOKS["drift"].means in text


def test_a_message_that_it_is_over_is_short() -> None:
    message = message_of(RULES["drift"], "resolved", [about()], T0)
    assert headline(message) == "[RESOLVED] shop: Drift"
    assert "fairlead drift" not in as_text(message)
    assert "It is over." in as_text(message)


def test_a_thousand_things_are_one_message_of_bounded_size() -> None:
    message = message_of(RULES["drift"], "firing", [about(f"f{each}") for each in range(1_000)], T0)
    assert headline(message) == "[INFO] shop: Drift (1000 things)"
    assert (len(message.alerts), message.more) == (50, 950)
    assert "and 990 more: fairlead alerts shop" in as_text(message)


def test_what_is_about_the_server_names_no_model() -> None:
    message = message_of(RULES["gateway-down"], "firing", [about("host/0", model="")], T0)
    assert headline(message) == "[PAGE] A gateway is gone"


def test_every_kind_of_finding_has_a_rule_and_every_rule_a_runbook() -> None:
    assert {rule.kind for rule in DEFAULTS} == set(RUNBOOKS)
    assert all(RUNBOOKS[rule.kind].means and RUNBOOKS[rule.kind].do for rule in DEFAULTS)


@given(st.text(min_size=1, max_size=400), st.text(min_size=1, max_size=100))
def test_names_stay_names(subject: str, model: str) -> None:
    given_about = about(subject, model)
    message = message_of(RULES["drift"], "firing", [given_about], T0)
    assert "\n" not in headline(message)
    assert headline(message).isprintable()
    first = as_text(message).split("\n")[0]
    assert first.startswith("- v2 ·")
    assert len(first) < 700
    for command in runbook_of(RULES["rollout"], given_about.finding).look[1:]:
        assert shlex.split(command)[:2] == ["fairlead", "rollouts"]
        assert shlex.split(command)[2:] == [model, subject]


def test_intervals_that_do_not_hold_have_a_rule_of_their_own_that_says_what_to_do() -> None:
    def found(subject: str) -> Finding:
        return msgspec.structs.replace(about(subject).finding, kind="calibration")

    subjects = ("coverage", "adaptation", "scores", "scores in the large")
    named = {one: [rule.name for rule in DEFAULTS if rule.matches(found(one))] for one in subjects}
    assert named == {
        "coverage": ["coverage"],
        "adaptation": ["adaptation"],
        "scores": ["calibration"],
        "scores in the large": ["calibration"],
    }
    book = runbook_of(RULES["coverage"], found("coverage"))
    assert "`--calibration`" in book.do
    assert "fairlead configure shop adaptive_coverage=0.005" in book.do
