"""Detectors of river over losses of real answers, from look to look, and without river."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import get_args

import msgspec
import numpy as np
import pytest
from bench.quiet_looks import drawn
from numpy.typing import NDArray

from fairlead.errors import MissingExtra
from fairlead.monitoring.detecting import Followers
from fairlead.monitoring.detectors import Follower, follow
from fairlead.monitoring.measured import Seen
from fairlead.monitoring.risk import Step
from fairlead.monitoring.verdicts import Rules, findings_of
from fairlead.registry.versions import DetectorName
from tests.data.employment import employment

NAMES: tuple[DetectorName, ...] = get_args(DetectorName)
AN_HOUR = 100
LIMIT = 0.25


def real(hours: int, seed: int = 2) -> list[Step]:
    """Hours of real answers, about 17 % of them wrong."""
    people = employment()
    wrong = (people.prediction != people.label)[np.random.default_rng(seed).permutation(people.rows)]
    return hourly(wrong[: hours * AN_HOUR])


def hourly(wrong: NDArray[np.bool_]) -> list[Step]:
    return [Step(n=AN_HOUR, total=float(one)) for one in wrong.reshape(-1, AN_HOUR).sum(axis=1)]


def flipped(steps: list[Step]) -> list[Step]:
    return [Step(n=step.n, total=step.n - step.total) for step in steps]


def first(name: DetectorName, steps: list[Step]) -> int | None:
    """The first step after which it rings."""
    follower = Follower(name, LIMIT)
    for place, step in enumerate(steps):
        follower.add(step)
        if follower.now.rings:
            return place
    return None


@pytest.mark.parametrize("name", NAMES)
def test_a_concept_that_flips_on_a_real_stream_is_found_within_hours(name: DetectorName) -> None:
    steps = real(160)
    assert first(name, steps) is None
    found = first(name, steps[:120] + flipped(steps[120:]))
    assert found is not None
    assert 120 <= found <= 122
    told = follow(name, steps[:120] + flipped(steps[120:]), LIMIT)
    assert told.rings
    assert told.since is not None
    assert told.since >= 120
    assert told.mean is not None
    assert told.mean > 0.7


@pytest.mark.parametrize("name", NAMES)
def test_answers_that_become_better_are_no_alarm(name: DetectorName) -> None:
    steps = real(80)
    better = [Step(n=step.n, total=0.0) for step in steps]
    assert first(name, steps + better + steps) is None


@pytest.mark.parametrize("name", NAMES)
def test_an_alarm_ends_when_the_answers_are_well_again(name: DetectorName) -> None:
    steps = real(240)
    told = follow(name, steps[:80] + flipped(steps[80:160]) + steps[160:], LIMIT)
    assert not told.rings


@pytest.mark.parametrize("name", NAMES)
def test_a_rise_that_stays_below_the_limit_is_found_and_no_alarm(name: DetectorName) -> None:
    steps = real(80)
    told = follow(name, steps + flipped(real(40, 3)), 0.95)
    assert told.since is not None
    assert not told.rings


@pytest.mark.parametrize("name", NAMES)
def test_hours_without_labels_and_without_losses_say_nothing(name: DetectorName) -> None:
    assert follow(name, [], LIMIT).since is None
    assert first(name, [Step(n=0, total=0.0)] * 500) is None
    assert first(name, [Step(n=1, total=1.0)]) is None


def test_without_river_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "river", None)
    with pytest.raises(MissingExtra, match="adwin") as raised:
        Follower("adwin", LIMIT)
    assert "fairlead[river]" in (raised.value.remedy or "")


# --- from look to look --------------------------------------------------------------------------------------


@pytest.fixture
def seen() -> Seen:
    """A version whose labels flip in the last of seven days."""
    week = drawn(employment().probability, 50, np.random.default_rng(3))

    def turned(hour: object) -> object:
        cells = hour.classes  # type: ignore[attr-defined]
        other = tuple(msgspec.structs.replace(one, label="1" if one.label == "0" else "0") for one in cells)
        return msgspec.structs.replace(hour, classes=other)  # type: ignore[type-var]

    steps = [
        msgspec.structs.replace(hour, start=week.start + place * timedelta(hours=1))
        for place, hour in enumerate(week.steps)
    ]
    return msgspec.structs.replace(week, steps=(*steps[:144], *map(turned, steps[144:])))


def test_what_was_followed_is_not_followed_again_unless_it_has_changed(
    seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    added: list[Step] = []
    real_add = Follower.add

    def add(self: Follower, step: Step) -> None:
        added.append(step)
        real_add(self, step)

    monkeypatch.setattr(Follower, "add", add)
    followers = Followers()
    early = msgspec.structs.replace(seen, steps=seen.steps[:100])
    followers.followed(early, "adwin", 0.05)
    assert len(added) == 100
    told = followers.followed(seen, "adwin", 0.05)
    assert len(added) == 168
    assert told == Followers().followed(seen, "adwin", 0.05)
    added.clear()
    corrected = msgspec.structs.replace(seen, steps=(seen.steps[1], *seen.steps[1:]))
    followers.followed(corrected, "adwin", 0.05)
    assert len(added) == 168
    added.clear()
    followers.followed(corrected, "page-hinkley", 0.05)
    assert len(added) == 168


@pytest.mark.parametrize("name", NAMES)
def test_the_finding_names_the_detector_and_since_when(seen: Seen, name: DetectorName) -> None:
    followed = Followers().followed(seen, name, 0.05)
    told = findings_of(msgspec.structs.replace(seen, followed=followed), Rules())
    (found,) = [one for one in told if one.measure == name]
    assert (found.kind, found.subject, found.status, found.version) == ("performance", "risk", "alarm", "v1")
    assert found.sentence.startswith(f"{name} has found a rise: ")
    assert "since 2026-03-08 0" in found.sentence
    assert found.value is not None
    assert found.threshold is not None
    assert found.value > found.threshold
    calm = msgspec.structs.replace(seen, steps=seen.steps[:144])
    told = findings_of(
        msgspec.structs.replace(calm, followed=Followers().followed(calm, name, 0.05)), Rules()
    )
    assert [one.status for one in told if one.measure == name] == ["ok"]


def test_without_river_the_look_says_so_and_goes_on(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "river", None)
    followed = Followers().followed(seen, "adwin", 0.05)
    told = findings_of(msgspec.structs.replace(seen, followed=followed), Rules())
    (found,) = [one for one in told if one.status == "error"]
    assert "fairlead[river]" in found.sentence
    assert [one.status for one in told if one.measure == "e-detector"] == ["alarm"]


def test_without_a_reference_there_is_nothing_to_follow(seen: Seen) -> None:
    assert Followers().followed(msgspec.structs.replace(seen, reference=None), "adwin", 0.05) is None
