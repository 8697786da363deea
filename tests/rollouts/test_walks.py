"""Rollouts that are commanded, judged, and left by controllers that crash, in every possible order."""

from __future__ import annotations

from datetime import timedelta

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fairlead.errors import WrongRolloutState
from fairlead.rollouts import states
from fairlead.rollouts.judge import Judgement
from fairlead.rollouts.policy import apply, decide
from fairlead.rollouts.reading import preset
from fairlead.rollouts.states import COMMANDS, JUDGED, LEGAL, Rollout
from tests.rollouts.seen import START, arm, rollout, seen

SPECS = [
    preset(steps=[5, 50, 100]),
    preset(steps=[5], shadow=True, bake=0),
    preset("shadow"),
    preset("blue-green"),
    preset("direct"),
]


class Walks(RuleBasedStateMachine):
    """A rollout's row, a model's traffic, and two controllers: only what was written outlives a crash."""

    @initialize(spec=st.sampled_from(SPECS))
    def begin(self, spec) -> None:
        self.now = START
        self.journal = [rollout(spec)]
        self.row = msgspec.json.encode(self.journal[0])
        self.revision = 0
        self.plans: list[tuple[str, int]] = []  # what each generation of the plan was made for
        self.held: tuple[int, Rollout] | None = None

    # --- the database ---------------------------------------------------------------------------------------

    def read(self) -> Rollout:
        return msgspec.json.decode(self.row, type=Rollout)

    def write(self, revision: int, found: Rollout, plan: tuple[str, int] | None = None) -> bool:
        """Row, journal and plan together, unless somebody else was faster."""
        if revision != self.revision:
            return False
        self.row, self.revision = msgspec.json.encode(found), revision + 1
        self.journal.append(found)
        if plan is not None:
            self.plans.append(plan)
        return True

    def carry_out(self, revision: int, found: Rollout) -> None:
        """What a controller does for the state that it believes in."""
        generation = len(self.plans) + 1
        if found.state == "pending":
            self.write(revision, states.begin(found, self.now))
        elif found.state == "preflight":
            self.write(revision, states.enter(found, self.now))
        elif found.state == "aborting":
            self.write(revision, states.rolled_back(found, generation, self.now), ("stable", 0))
        elif found.phase in JUDGED and found.generation is None:
            moved = states.moved(found, generation, self.now)
            self.write(revision, moved, (found.phase, found.step))
        elif found.state == "promoting":
            self.write(revision, states.bake(found, self.now))

    # --- what happens ---------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([1, 600, 100_000]))
    def time_goes_by(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(name=st.sampled_from(sorted(COMMANDS)))
    def a_person_commands(self, name) -> None:
        before = self.read()
        try:
            after = states.command(before, name, self.now)
        except WrongRolloutState:
            assert name != "abort" or before.over
            return
        if after != before:
            assert self.write(self.revision, after)

    @rule()
    def the_controller_carries_out(self) -> None:
        self.carry_out(self.revision, self.read())

    @rule(
        result=st.sampled_from(["pass", "pass", "pass", "fail", "inconclusive", "no-data", "error"]),
        mismatch=st.sampled_from([None, None, None, "Skewed."]),
    )
    def the_controller_looks(self, result, mismatch) -> None:
        self.look(self.revision, self.read(), result, mismatch)

    def look(self, revision: int, found: Rollout, result, mismatch=None) -> None:
        judgement = Judgement(result=result, sentence="So it is.", verdicts=(), mismatch=mismatch)
        observation = seen(arm(1_000), generation=found.generation)
        decision = decide(found, judgement, observation, self.now)
        after = apply(found, decision, self.now)
        if result == "fail" and found.phase in JUDGED and found.generation is not None:
            assert after.state == "aborting"
        if after != found:
            self.write(revision, after)

    @rule()
    def another_controller_reads(self) -> None:
        self.held = (self.revision, self.read())

    @precondition(lambda self: self.held is not None)
    @rule(carries_out=st.booleans())
    def another_controller_acts_on_what_it_read(self, carries_out: bool) -> None:
        assert self.held is not None
        (revision, found), self.held = self.held, None
        if carries_out:
            self.carry_out(revision, found)
        else:
            self.look(revision, found, "pass")

    @rule()
    def everybody_crashes(self) -> None:
        self.held = None
        assert self.read() == self.journal[-1]

    # --- what holds -----------------------------------------------------------------------------------------

    @invariant()
    def every_transition_is_legal_and_nothing_follows_an_end(self) -> None:
        for before, after in zip(self.journal, self.journal[1:], strict=False):
            assert after.state == before.state or after.state in LEGAL[before.state]
            assert not before.over

    @invariant()
    def no_step_is_skipped_taken_back_or_taken_twice(self) -> None:
        for before, after in zip(self.journal, self.journal[1:], strict=False):
            assert 0 <= after.step - before.step <= 1
        moved = [plan for plan in self.plans if plan[0] != "stable"]
        assert len(set(moved)) == len(moved)

    @invariant()
    def the_traffic_is_what_the_state_says_or_has_not_moved_yet(self) -> None:
        found = self.journal[-1]
        if found.phase in ("shadow", "canary") and found.generation is not None:
            assert found.generation == len(self.plans)
            assert self.plans[-1] == (found.phase, found.step)
        if found.phase == "baking":
            assert self.plans[-1][0] == "promoting"
        if found.state == "rolled_back":
            assert self.plans[-1] == ("stable", 0)

    @invariant()
    def what_is_paused_knows_why_since_when_and_where_to(self) -> None:
        found = self.journal[-1]
        held = (found.paused_because, found.paused_at, found.held_from)
        assert all(value is not None for value in held) == (found.state == "paused")
        assert found.state == "paused" or held == (None, None, None)

    def teardown(self) -> None:
        """However far it came: unless it is over, an abort ends it in rolled back."""
        if not hasattr(self, "row") or self.read().over:
            return
        self.a_person_commands("abort")
        self.held = None
        self.the_controller_carries_out()
        assert self.read().state == "rolled_back"
        self.the_traffic_is_what_the_state_says_or_has_not_moved_yet()


TestWalks = Walks.TestCase
TestWalks.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
