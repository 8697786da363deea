"""What counters say every second: failures, slowness, rejections, silence; and what is none of these."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from fairlead.monitoring.findings import Finding
from fairlead.monitoring.pulse import Pulse
from fairlead.monitoring.vitals import LATENCY, Limits, Seen, traffic, vitals
from fairlead.telemetry.counters import ArmKey, CounterBlock
from fairlead.telemetry.latency import BUCKETS

T0 = datetime(2026, 11, 1, 12, tzinfo=UTC)


class Machine:
    """A gateway's counters, second by second."""

    def __init__(self, folder: Path, limits: Limits | None = None) -> None:
        self.block = CounterBlock(folder / "g0")
        self.pulse = Pulse(folder, lambda model: limits or Limits())
        self.now = T0
        self.pulse.look(self.now)

    def run(
        self, seconds: int, *, ok: int = 0, failed: int = 0, rejected: int = 0, shed: int = 0,
        ms: float = 5.0, role: str = "stable", version: str = "v1",
    ) -> list[set[str]]:  # fmt: skip
        """Subjects that alarm after each second in which so much was answered."""
        row = self.block.row(ArmKey("shop", version, role, role))
        found = []
        for _ in range(seconds):
            for status, times in (("ok", ok), ("failed", failed), ("rejected", rejected)):
                if times:
                    row.answered(status, ms / 1e3, times)
            if shed:
                row.add("shed", shed)
            self.now += timedelta(seconds=1)
            self.findings = self.pulse.look(self.now)
            found.append({one.subject for one in self.findings if one.status == "alarm"})
        return found

    def finding(self, subject: str) -> Finding:
        (found,) = [one for one in self.findings if one.subject == subject]
        return found


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_failures_alarm_in_their_first_second_and_well_answers_never(machine: Machine) -> None:
    assert machine.run(60, ok=100) == [set()] * 60
    assert machine.run(1, ok=50, failed=50) == [{"failed answers"}]
    finding = machine.finding("failed answers")
    assert (finding.model, finding.version, finding.kind, finding.n) == ("shop", "v1", "errors", 100)
    assert (finding.value, finding.threshold) == (0.5, 0.01)
    assert finding.low is not None
    assert finding.low > 0.3
    assert finding.start == machine.now - timedelta(seconds=1)
    assert machine.run(3, ok=100)[-1] == set()


def test_a_few_failures_of_many_answers_are_none(machine: Machine) -> None:
    assert machine.run(60, ok=997, failed=3) == [set()] * 60


def test_a_seldom_asked_version_alarms_when_most_of_the_minute_failed(machine: Machine) -> None:
    assert machine.run(20, ok=0) == [set()] * 20
    assert machine.run(1, failed=1) == [set()]
    assert machine.finding("failed answers").status == "insufficient"
    assert machine.run(1, failed=1) == [set()], "two are never an alarm"
    assert machine.run(1, failed=1) == [{"failed answers"}], "three of three are no chance"


def test_answers_slower_than_usual_alarm_and_a_slow_version_that_always_was_does_not(
    machine: Machine,
) -> None:
    assert machine.run(100, ok=100, ms=100) == [set()] * 100
    assert machine.run(2, ok=100, ms=180) == [set()] * 2, "not twice as slow"
    assert machine.run(2, ok=95, ms=100) == [set()] * 2
    assert machine.run(1, ok=100, ms=400) == [{"p99"}]
    assert machine.finding("p99").against == "before"


def test_beyond_the_absolute_limit_nothing_needs_a_past(tmp_path: Path) -> None:
    machine = Machine(tmp_path, Limits(p99_ms=50))
    assert machine.run(1, ok=100, ms=60) == [{"p99"}]
    assert machine.finding("p99").against == ""


def test_a_light_version_may_be_a_little_slower(machine: Machine) -> None:
    machine.run(100, ok=100, ms=0.5)
    assert machine.run(3, ok=100, ms=10) == [set()] * 3, "twenty times as slow, and nobody notices 10 ms"
    assert machine.run(1, ok=100, ms=40) == [{"p99"}]


def test_a_version_that_answers_little_since_it_is_slow_is_not_outnumbered_by_what_was(
    machine: Machine,
) -> None:
    machine.run(30, ok=1_000, ms=5)
    assert machine.run(1, ok=4, ms=1_200) == [{"p99"}]


def test_two_slow_answers_of_a_model_that_is_hardly_asked_are_none(machine: Machine) -> None:
    assert machine.run(2, ok=1, ms=2_000) == [set()] * 2
    assert machine.run(5) == [set()] * 5


def test_slowness_stays_an_alarm_and_is_not_learnt(machine: Machine) -> None:
    machine.run(100, ok=50, ms=10)
    alarms = machine.run(1_000, ok=50, ms=100)
    assert alarms[1:] == [{"p99"}] * 999


def test_rejections_alarm_beyond_what_is_usual(machine: Machine) -> None:
    assert machine.run(100, ok=96, rejected=4) == [set()] * 100
    assert machine.run(2, ok=92, rejected=8) == [set()] * 2
    assert machine.run(1, ok=50, rejected=50) == [{"rejected requests"}]


def test_refusals_for_want_of_room_alarm_for_the_model(machine: Machine) -> None:
    assert machine.run(1, ok=100, shed=50) == [{"refused requests"}]
    assert machine.finding("refused requests").version is None


def test_a_silence_alarms_where_requests_were_usual_and_stays_one(machine: Machine) -> None:
    assert machine.run(150, ok=10)[-1] == set()
    alarms = machine.run(1_500)
    assert set() in alarms[:9]
    assert alarms[12:] == [{"silence"}] * (1_500 - 12)
    assert machine.run(1, ok=10) == [set()]


def test_a_model_that_is_asked_now_and_then_may_be_silent(machine: Machine) -> None:
    for _ in range(10):
        machine.run(1, ok=1)
        assert machine.run(59) == [set()] * 59


def test_copies_for_a_shadow_hurt_nobody(machine: Machine) -> None:
    assert machine.run(3, failed=100, role="shadow") == [set()] * 3


def test_counters_that_begin_anew_are_not_less_than_nothing(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.run(5, ok=100)
    (tmp_path / "g0").unlink()
    machine.block = CounterBlock(tmp_path / "g0")
    assert machine.run(3, ok=10) == [set()] * 3


def test_nothing_seen_is_insufficient_and_never_an_exception() -> None:
    nothing = np.zeros(LATENCY + BUCKETS, dtype=np.int64)
    seen = Seen(counts=nothing, seconds=60.0, past=nothing)
    found = [*vitals("shop", "v1", seen, Limits(), T0), *traffic("shop", seen, 0.0, 0.0, Limits(), T0)]
    assert {one.status for one in found} == {"insufficient"}
    assert len({one.key for one in found}) == len(found) == 6
