"""Stages follow from plans or from people, never from both, and the past can be asked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.errors import InUse, InvalidPlan, MalformedRequest, ModelNotFound, VersionNotFound
from fairlead.registry.registry import Registry
from fairlead.routing.plan import SLOTS, Arm, Plan, Stage
from fairlead.stores import tables
from tests.registry.samples import Clock

NOW = datetime(2026, 11, 20, tzinfo=UTC)


def plan(registry: Registry, stages: dict[str, Stage], generation: int = 1) -> None:
    with registry.database.write() as connection:
        registry.record_stages(connection, "churn", stages, generation, "ada", f"plan {generation}")


def stages_of(registry: Registry) -> dict[str, str]:
    return {version.version: version.stage for version in registry.versions("churn")}


def write_plan(registry: Registry, state: str, arms: dict[str, str], generation: int = 1) -> None:
    """A plan row with these arms (role to version), as the traffic commands write it."""
    made = Plan(
        model="churn",
        generation=generation,
        salt="s",
        arms=tuple(Arm(name=role, version=version, role=role) for role, version in arms.items()),  # type: ignore[arg-type]
        slots=bytes(SLOTS),
        rollout="r",
    )
    with registry.database.write() as connection:
        connection.execute(
            tables.plans.insert().values(
                model="churn",
                generation=generation,
                body=msgspec.json.encode(made).decode(),
                state=state,
                created_at=NOW,
                command="deploy",
                who="ada",
                why="",
            )
        )


# --- from the plan ------------------------------------------------------------------------------------------


def test_versions_take_the_stages_of_the_plan_and_lose_them_with_it(three: Registry) -> None:
    plan(three, {"1": "production", "2": "canary", "3": "shadow"})
    assert stages_of(three) == {"1": "production", "2": "canary", "3": "shadow"}
    plan(three, {"2": "production"}, 2)
    assert stages_of(three) == {"1": "none", "2": "production", "3": "none"}
    assert three.model("churn").production == "2"


def test_what_a_person_set_stays_when_the_plan_does_not_name_it(three: Registry) -> None:
    three.stage("churn", "2", "staging", who="ada")
    three.archive("churn", "3", who="ada")
    plan(three, {"1": "production"})
    assert stages_of(three) == {"1": "production", "2": "staging", "3": "archived"}
    plan(three, {"1": "production", "2": "canary"}, 2)
    plan(three, {"1": "production"}, 3)
    assert stages_of(three) == {"1": "production", "2": "none", "3": "archived"}


def test_every_transition_records_who_when_why_and_the_generation(three: Registry, clock: Clock) -> None:
    plan(three, {"1": "production"}, 1)
    plan(three, {"1": "production", "2": "canary"}, 2)
    plan(three, {"2": "production"}, 3)
    three.stage("churn", "1", "archived", who="bob", why="old")
    assert [
        (change.version, change.from_stage, change.to_stage, change.generation, change.who, change.why)
        for change in three.stage_history("churn")
    ] == [
        ("1", "none", "production", 1, "ada", "plan 1"),
        ("2", "none", "canary", 2, "ada", "plan 2"),
        ("1", "production", "none", 3, "ada", "plan 3"),
        ("2", "canary", "production", 3, "ada", "plan 3"),
        ("1", "none", "archived", None, "bob", "old"),
    ]
    assert three.stage_history("churn", "1")[-1].at == clock.now
    assert len(three.stage_history("churn", "2")) == 2


def test_the_changes_are_answered_and_the_same_plan_again_changes_nothing(three: Registry) -> None:
    with three.database.write() as connection:
        first = three.record_stages(connection, "churn", {"1": "production"}, 1, "ada")
        again = three.record_stages(connection, "churn", {"1": "production"}, 2, "ada")
    assert [change.version for change in first] == ["1"]
    assert again == []


def test_stages_are_part_of_the_plans_transaction(three: Registry) -> None:
    def fails() -> None:
        with three.database.write() as connection:
            three.record_stages(connection, "churn", {"1": "production"}, 1, "ada")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert stages_of(three) == {"1": "none", "2": "none", "3": "none"}
    assert three.stage_history("churn") == []


def test_a_plan_cannot_stage_a_version_that_is_not_there(three: Registry) -> None:
    with pytest.raises(VersionNotFound):
        plan(three, {"1": "production", "9": "canary"})
    assert three.stage_history("churn") == []


# --- by hand ------------------------------------------------------------------------------------------------


def test_a_person_stages_archives_and_takes_back(three: Registry) -> None:
    for stage in ("staging", "archived", "none"):
        three.stage("churn", "1", stage, who="ada")  # type: ignore[arg-type]
        assert stages_of(three)["1"] == stage
    three.stage("churn", "1", "none", who="ada")
    assert len(three.stage_history("churn", "1")) == 3


@pytest.mark.parametrize("stage", ["production", "canary", "shadow"])
def test_a_stage_that_follows_from_the_plan_is_not_set_by_hand(three: Registry, stage: str) -> None:
    with pytest.raises(InvalidPlan, match="Deploy"):
        three.stage("churn", "1", stage, who="ada")  # type: ignore[arg-type]


def test_a_stage_that_does_not_exist_is_refused(three: Registry) -> None:
    with pytest.raises(InvalidPlan, match="staging, archived, none"):
        three.stage("churn", "1", "Production", who="ada")  # type: ignore[arg-type]


@pytest.mark.parametrize("state", ["active", "preparing"])
@pytest.mark.parametrize("role", ["stable", "canary", "shadow"])
def test_a_version_in_the_plan_is_not_archived(three: Registry, state: str, role: str) -> None:
    write_plan(three, state, {role: "2"})
    with pytest.raises(InUse, match="'2'"):
        three.archive("churn", "2", who="ada")
    three.archive("churn", "1", who="ada")
    assert stages_of(three) == {"1": "archived", "2": "none", "3": "none"}


@pytest.mark.parametrize("state", ["superseded", "failed"])
def test_an_old_plan_keeps_nobody_from_being_archived(three: Registry, state: str) -> None:
    write_plan(three, state, {"stable": "2"})
    three.archive("churn", "2", who="ada")
    assert stages_of(three)["2"] == "archived"


def test_what_is_not_there_has_no_stage(three: Registry) -> None:
    with pytest.raises(VersionNotFound):
        three.archive("churn", "9", who="ada")
    with pytest.raises(ModelNotFound):
        three.archive("nothing", "1", who="ada")


# --- who was in production ----------------------------------------------------------------------------------


def test_who_was_in_production_at_a_moment_is_one_call(three: Registry, clock: Clock) -> None:
    before = clock.now
    plan(three, {"1": "production"}, 1)
    first = clock.now
    plan(three, {"1": "production", "2": "canary"}, 2)
    plan(three, {"2": "production"}, 3)
    second = clock.now
    assert three.in_production_at("churn", before) is None
    assert three.in_production_at("churn", first) == "1"
    assert three.in_production_at("churn", second - timedelta(microseconds=1)) == "1"
    assert three.in_production_at("churn", second) == "2"
    assert three.in_production_at("churn", second + timedelta(days=900)) == "2"


def test_the_moment_may_be_told_in_any_zone_but_must_tell_it(three: Registry, clock: Clock) -> None:
    plan(three, {"1": "production"})
    tokyo = clock.now.astimezone(timezone(timedelta(hours=9)))
    assert three.in_production_at("churn", tokyo) == "1"
    with pytest.raises(MalformedRequest, match="no time zone"):
        three.in_production_at("churn", datetime(2026, 11, 20))
    with pytest.raises(ModelNotFound):
        three.in_production_at("nothing", clock.now)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["1", "2", "3"]), min_size=1, max_size=8))
def test_history_always_answers_what_the_plan_said_then(
    three: Registry, clock: Clock, stable: list[str]
) -> None:
    moments = []
    for generation, version in enumerate(stable, start=1):
        plan(three, {version: "production"}, generation)
        clock()
        moments.append((clock.now, version))
    for moment, version in moments:
        assert three.in_production_at("churn", moment) == version
