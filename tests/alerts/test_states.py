"""How alerts come to stand, and who is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from fairlead.alerts.rules import DEFAULTS, Rule
from fairlead.alerts.states import State, step, tell

T0 = datetime(2026, 11, 1, 12, tzinfo=UTC)
RULE = Rule(
    name="errors", title="Errors", kind="errors", fire=2, of=3, clear=3, clear_seconds=5.0, cooldown=60.0,
    forget=100.0,
)  # fmt: skip


class Watched:
    """One alert over the seconds, and what receivers heard."""

    def __init__(self, rule: Rule = RULE) -> None:
        self.rule = rule
        self.at = T0
        self.state: State | None = None
        self.heard: list[str] = []

    def see(self, looks: str, *, silenced: bool = False, every: float = 1.0) -> str:
        """Looks one by one: `x` bad, `.` good, `?` nothing told. How it stands then."""
        for each in looks:
            self.at += timedelta(seconds=every)
            bad = {"x": True, ".": False, "?": None}[each]
            self.state = step(self.state, bad, self.at, self.rule)
            told = tell(self.state, self.at, self.rule, silenced=silenced)
            if told is not None:
                self.heard.append(told)
                self.state = msgspec.structs.replace(self.state, told=told, told_at=self.at)
        assert self.state is not None
        return self.state.standing


def test_one_bad_look_of_three_is_pending_and_two_fire() -> None:
    watched = Watched()
    assert watched.see("x") == "pending"
    assert watched.see("..") == "pending", "it is one of the last three"
    assert watched.see(".") == "ok"
    assert watched.see("x.x") == "firing"
    assert watched.heard == ["firing"]


def test_a_good_look_never_lets_it_fire() -> None:
    assert Watched(msgspec.structs.replace(RULE, fire=1)).see(".") == "ok"


def test_it_ends_after_good_looks_in_a_row_that_took_long_enough() -> None:
    watched = Watched()
    watched.see("xx")
    assert watched.see(".....") == "firing", "five looks took four seconds"
    assert watched.see("x.....") == "firing", "a bad one begins anew"
    assert watched.see(".") == "resolved"
    assert watched.heard == ["firing", "resolved"]
    assert watched.see("......") == "resolved"
    assert watched.heard == ["firing", "resolved"], "it is told once"


def test_looks_that_tell_nothing_change_nothing_until_it_is_forgotten() -> None:
    watched = Watched()
    watched.see("xx")
    assert watched.see("?" * 100) == "firing"
    assert watched.see("?") == "resolved"
    pending = Watched()
    pending.see("x")
    assert pending.see("?" * 101) == "ok"
    assert pending.heard == []


def test_what_fires_again_within_the_cooldown_is_told_when_it_is_over_if_it_still_fires() -> None:
    watched = Watched()
    watched.see("xx......")
    watched.see("xx")
    assert watched.heard == ["firing", "resolved"]
    assert watched.see("x" * 55) == "firing"
    assert watched.heard == ["firing", "resolved"]
    watched.see("x" * 10)
    assert watched.heard == ["firing", "resolved", "firing"]


def test_what_was_silenced_is_told_afterwards_if_it_is_still_true() -> None:
    watched = Watched()
    assert watched.see("xxx", silenced=True) == "firing"
    assert watched.heard == []
    watched.see("x")
    assert watched.heard == ["firing"]


def test_of_what_nobody_heard_nobody_hears_that_it_is_over() -> None:
    watched = Watched()
    assert watched.see("xx.......", silenced=True) == "resolved"
    watched.see("...")
    assert watched.heard == []


def test_an_end_during_a_silence_is_told_when_the_silence_ends() -> None:
    watched = Watched()
    watched.see("xx")
    assert watched.see(".......", silenced=True) == "resolved"
    assert watched.heard == ["firing"]
    watched.see(".")
    assert watched.heard == ["firing", "resolved"]


def test_what_flaps_stays_firing_until_a_quarter_of_an_hour_was_good() -> None:
    watched = Watched(msgspec.structs.replace(RULE, cooldown=0.0))
    for _ in range(4):
        watched.see("xx......")
    assert watched.state is not None
    assert watched.state.flapping
    assert watched.state.standing == "firing"
    heard = len(watched.heard)
    for _ in range(10):
        watched.see("x.........")
    assert len(watched.heard) == heard, "nobody is told of each"
    assert watched.see("x" + "." * 899) == "firing"
    assert watched.see("...") == "resolved"
    watched.at += timedelta(hours=2)
    watched.see("xx")
    assert not watched.state.flapping, "what was hours ago is no flapping"


@given(st.text("x.?", max_size=80), st.lists(st.booleans(), min_size=80, max_size=80))
def test_messages_alternate_and_never_speak_of_what_is_not(looks: str, silenced: list[bool]) -> None:
    watched = Watched(msgspec.structs.replace(RULE, cooldown=3.0))
    for look, silent in zip(looks, silenced, strict=False):
        before = len(watched.heard)
        standing = watched.see(look, silenced=silent)
        if len(watched.heard) > before:
            assert not silent
            assert watched.heard[-1] == standing
    assert watched.heard[::2] == ["firing"] * len(watched.heard[::2])
    assert watched.heard[1::2] == ["resolved"] * len(watched.heard[1::2])


def test_every_default_rule_can_fire_and_end() -> None:
    for rule in DEFAULTS:
        watched = Watched(rule.verify())
        assert watched.see("x" * rule.fire) == "firing"
        assert watched.see("." * max(rule.clear, int(rule.clear_seconds) + 2)) == "resolved"
        assert watched.heard == ["firing", "resolved"]
