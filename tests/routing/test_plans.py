"""Plans in the database: one generation after the other, one proposal at a time, and the way back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from fairlead.errors import GenerationConflict
from fairlead.rollouts import moves
from fairlead.routing import plans
from fairlead.routing.fallbacks import previous_production
from fairlead.routing.plan import Plan
from fairlead.stores.database import Database
from fairlead.stores.tables import models

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Story:
    """A model's history, one activated plan per hour from noon."""

    def __init__(self, database: Database, model: str = "shop") -> None:
        self.database = database
        self.model = model
        self.hours = 0
        with database.write() as connection:
            connection.execute(
                models.insert().values(name=model, description="", created_at=NOON, created_by="ann")
            )

    def propose(self, plan: Plan, command: str = "deploy", **more: object) -> Plan:
        now = NOON + timedelta(hours=self.hours)
        with self.database.write() as connection:
            return plans.propose(
                connection,
                plan,
                command=command,
                who="ann",
                why="because",
                now=now,
                **more,  # type: ignore[arg-type]
            )

    def activate(self, generation: int) -> None:
        now = NOON + timedelta(hours=self.hours)
        with self.database.write() as connection:
            plans.activate(connection, self.model, generation, owner=None, now=now)
        self.hours += 1

    def served(self, version: str) -> None:
        """Puts the version into production at once."""
        present = self.active()
        if present is None:
            self.carry(moves.start(self.model, version, "salt", "r"))
        else:
            self.carry(moves.blue_green(present, version, supersede=True))

    def canary(self, version: str) -> None:
        present = self.active()
        assert present is not None
        self.carry(moves.deploy(present, version, 5, f"r{version}"))

    def promote(self) -> None:
        present = self.active()
        assert present is not None
        self.carry(moves.promote(present), "promote")

    def rollback(self, to: str | None = None) -> str:
        present = self.active()
        assert present is not None
        self.carry(moves.rollback(present, self.previous(), to), "rollback")
        after = self.active()
        assert after is not None
        return after.stable()

    def carry(self, plan: Plan, command: str = "deploy") -> None:
        self.activate(self.propose(plan, command).generation)

    def active(self) -> Plan | None:
        with self.database.read() as connection:
            return plans.active(connection, self.model)

    def previous(self) -> str | None:
        with self.database.read() as connection:
            return previous_production(connection, self.model)


@pytest.fixture
def story(database: Database) -> Story:
    """A model without traffic."""
    return Story(database)


def test_a_proposal_has_no_effect_until_it_is_activated(story: Story) -> None:
    plan = story.propose(moves.start("shop", "v1", "salt", "r"))
    with story.database.read() as connection:
        head = plans.head(connection, "shop")
        assert head == plans.Head(model="shop", salt="salt", active=None, latest=1, owner=None)
        assert plans.active(connection, "shop") is None
        waiting = plans.pending(connection, "shop")
        assert waiting is not None
        assert (waiting.plan, waiting.state) == (plan, "preparing")
        assert (waiting.who, waiting.why) == ("ann", "because")
    story.activate(1)
    assert story.active() == plan


def test_activating_supersedes_the_plan_before(story: Story) -> None:
    story.served("v1")
    story.served("v2")
    with story.database.read() as connection:
        states = [(row.plan.generation, row.state) for row in plans.history(connection, "shop")]
    assert states == [(2, "active"), (1, "superseded")]


def test_a_failed_proposal_uses_up_its_generation_and_nothing_else(story: Story) -> None:
    story.served("v1")
    present = story.active()
    assert present is not None
    failed = story.propose(moves.deploy(present, "v2", 5, "r"))
    with story.database.write() as connection:
        assert plans.fail(connection, "shop", failed.generation, "it does not load")
        assert not plans.fail(connection, "shop", failed.generation, "again")
    assert story.active() == present
    assert story.propose(moves.deploy(present, "v3", 5, "r")).generation == 3
    with story.database.read() as connection:
        row = plans.get(connection, "shop", 2)
        assert row is not None
        assert (row.state, row.reason, row.activated_at) == ("failed", "it does not load", None)


def test_a_command_decided_on_another_generation_is_refused(story: Story) -> None:
    with story.database.read() as connection:
        plans.expect(connection, "shop", 0)
        with pytest.raises(GenerationConflict, match="serves generation 0 and not 3"):
            plans.expect(connection, "shop", 3)
    story.served("v1")
    story.propose(moves.start("shop", "v2", "salt", "r"))
    with story.database.read() as connection:
        plans.expect(connection, "shop", 1)
        with pytest.raises(GenerationConflict, match="serves generation 1 and not 2"):
            plans.expect(connection, "shop", 2)


def test_a_second_proposal_is_told_who_prepares_what(story: Story) -> None:
    story.propose(moves.start("shop", "v1", "salt", "r"))
    with pytest.raises(GenerationConflict, match=r"Generation 1 .* is being prepared \(deploy by ann\)"):
        story.propose(moves.start("shop", "v2", "salt", "r"))


def test_a_superseding_proposal_overtakes_the_one_that_waits(story: Story) -> None:
    story.propose(moves.start("shop", "v1", "salt", "r"))
    second = story.propose(moves.start("shop", "v2", "salt", "r"), command="rollback", supersede=True)
    with pytest.raises(GenerationConflict, match="overtaken by generation 2"):
        story.activate(1)
    story.activate(second.generation)
    present = story.active()
    assert present is not None
    assert present.stable() == "v2"


def test_an_abandoned_proposal_stands_in_no_ones_way(story: Story) -> None:
    story.propose(moves.start("shop", "v1", "salt", "r"))
    plan = moves.start("shop", "v2", "salt", "r")
    with pytest.raises(GenerationConflict):
        story.propose(plan, abandoned_before=NOON)
    assert story.propose(plan, abandoned_before=NOON + timedelta(seconds=1)).generation == 2


def test_the_previous_production_version_is_the_last_other_one(story: Story) -> None:
    story.served("v1")
    assert story.previous() is None
    story.canary("v2")
    assert story.previous() is None
    story.promote()
    assert story.previous() == "v1"
    story.served("v3")
    assert story.previous() == "v2"


def test_rolling_back_repeatedly_goes_further_back_and_never_toggles(story: Story) -> None:
    for version in ("v1", "v2", "v3"):
        story.served(version)
    assert story.rollback() == "v2"
    assert story.rollback() == "v1"
    assert story.previous() is None


def test_a_version_that_was_rolled_back_is_never_a_fallback(story: Story) -> None:
    story.served("v1")
    story.served("v2")
    assert story.rollback() == "v1"
    story.served("v3")
    assert story.rollback() == "v1"
    assert story.previous() is None


def test_a_rolled_back_version_counts_again_once_it_is_put_into_production(story: Story) -> None:
    story.served("v1")
    story.served("v2")
    story.rollback()
    story.served("v2")
    story.served("v3")
    assert story.rollback() == "v2"
    assert story.rollback() == "v1"


def test_a_rollback_past_a_version_gives_that_up_too(story: Story) -> None:
    for version in ("v1", "v2", "v3"):
        story.served(version)
    assert story.rollback(to="v1") == "v1"
    assert story.previous() is None


def test_a_rollback_to_a_version_that_never_was_in_production_keeps_the_others(story: Story) -> None:
    story.served("v1")
    story.served("v2")
    assert story.rollback(to="v0") == "v0"
    assert story.previous() == "v1"


def test_a_canary_that_was_rolled_back_is_no_fallback_even_if_it_was_in_production_before(
    story: Story,
) -> None:
    story.served("v1")
    story.served("v2")
    story.served("v3")
    story.canary("v2")
    assert story.rollback() == "v3"
    assert story.previous() == "v1"


def test_failed_and_overtaken_plans_are_no_history_of_production(story: Story) -> None:
    story.served("v1")
    present = story.active()
    assert present is not None
    story.propose(moves.direct(present, "v2"))
    story.activate(story.propose(moves.direct(present, "v3"), supersede=True).generation)
    assert story.previous() == "v1"


def test_agents_learn_what_is_served_prepared_and_kept(story: Story) -> None:
    story.served("v1")
    story.served("v2")  # at one o'clock
    present = story.active()
    assert present is not None
    with story.database.read() as connection:
        before = plans.stamps(connection)
    waiting = story.propose(moves.deploy(present, "v3", 5, "r"))
    with story.database.read() as connection:
        assert plans.stamps(connection) != before
        expected = plans.ModelTraffic(model="shop", active=present, preparing=waiting, keep=("v1",))
        assert plans.serving(connection, "shop", NOON) == expected
        assert plans.serving(connection, "shop", NOON + timedelta(hours=2)).keep == ()


def test_the_stamp_changes_with_every_change_of_a_plan(story: Story) -> None:
    seen = []

    def look() -> None:
        with story.database.read() as connection:
            seen.append(plans.stamps(connection).get("shop"))

    look()
    plan = story.propose(moves.start("shop", "v1", "salt", "r"))
    look()
    story.activate(plan.generation)
    look()
    failed = story.propose(moves.direct(plan, "v2"))
    look()
    with story.database.write() as connection:
        plans.fail(connection, "shop", failed.generation, "no")
    look()
    assert len(set(seen)) == len(seen)


def test_models_do_not_see_each_other(story: Story) -> None:
    other = Story(story.database, "other")
    story.served("v1")
    story.served("v2")
    assert other.active() is None
    other.served("v9")
    assert (story.previous(), other.previous()) == ("v1", None)
